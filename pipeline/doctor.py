"""What is installed, which weights are there, and the command that mends what is missing."""
from __future__ import annotations

import importlib.metadata
import os
import platform

from transforms import face_models
from transforms.failure import Failure

EXTRAS = {"train": ("torch",), "dev": ("datasets", "mlcroissant", "pytest", "webdataset")}
"""Extra -> the packages that only it brings."""


def doctor() -> None:
    """Print the state of this machine. Raises Failure where the default face model cannot be used."""
    print(f"{'python':<14}{platform.python_version()}, {os.cpu_count()} cores")
    for name in ("apache-beam", "numpy", "pillow", "pyarrow", "fsspec"):
        print(f"{name:<14}{importlib.metadata.version(name)}")
    missing = []
    for name in sorted(face_models.BACKENDS):
        try:
            about = face_models.load(name).embedder
        except face_models.MissingModel as error:
            missing.append(str(error))
            print(f"--faces {name}: {error}")
            continue
        print(f"--faces {name}: {about.name}, sha256 {about.sha256}, licence {about.license}")
    for extra, packages in EXTRAS.items():
        absent = [package for package in packages if not _installed(package)]
        print(f"extra {extra}: " + (f"{', '.join(absent)} not installed: pip install 'umo-dataset[{extra}]'" if absent
                                    else "installed"))
    if missing:
        raise Failure(missing[0])


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
