"""What is installed, which weights are there, how fast they are here, and the command that mends what is missing."""
from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.packages import version
from schemas.embedder import Embedder
from schemas.weights import Weights
from transforms import face_models, person_models, pictures
from transforms.examination import DEVICE
from transforms.failure import Failure

EXTRAS = {"train": ("torch",), "gpu": ("insightface", "onnxruntime", "ultralytics"),
          "dev": ("datasets", "mlcroissant", "pytest", "webdataset")}
"""Extra -> the packages that only it brings."""
PICTURE = Path(__file__).with_name("astronaut.jpg")
"""What models are timed on: 512 x 512 pixels, one face. Eileen Collins, by NASA, in the public domain; taken from the data of
scikit-image."""
SECONDS = 1.0
"""That a model is timed for, after one look that does not count."""
Look: TypeAlias = Callable[[Sequence[np.ndarray]], Any]
"""What a model does with pictures."""


@dataclass(frozen=True)
class DoctorOptions:
    faces: str | None = field(default=None, metadata={
        "metavar": "BACKEND[:ARGUMENT]",
        "help": "face models to look at, BACKEND[:ARGUMENT] as for extract; default: all backends"})
    persons: str | None = field(default=None, metadata={
        "metavar": "BACKEND[:ARGUMENT]",
        "help": "person detection to look at, BACKEND[:ARGUMENT] as for extract; default: all backends"})
    device: str = field(default="auto", metadata={
        "matches": DEVICE, "metavar": "auto|cpu|cuda[:N]",
        "help": "where models run that can choose; default: auto, a GPU if there is one"})


def doctor(options: DoctorOptions) -> None:
    """Print the state of this machine. Raises Failure where the models asked for, else the default ones, cannot be used."""
    print(f"{'python':<14}{platform.python_version()}, {os.cpu_count()} cores")
    for name in ("apache-beam", "numpy", "pillow", "pyarrow", "fsspec"):
        print(f"{name:<14}{version(name)}")
    for extra, packages in EXTRAS.items():
        absent = [package for package in packages if version(package) is None]
        print(f"extra {extra + ':':<8}" + (f"{', '.join(absent)} not installed: pip install 'umo-dataset[{extra}]'" if absent
                                           else "installed"))
    needed = {f"--faces {options.faces or 'dlib'}", *([f"--persons {options.persons}"] if options.persons else [])}
    looks: dict[str, Callable[[], tuple[Embedder | Weights, str, Look]]] = {}
    for name in [options.faces] if options.faces else sorted(face_models.BACKENDS):
        looks[f"--faces {name}"] = partial(_faces, name, options.device)
    for name in [options.persons] if options.persons else sorted(person_models.BACKENDS):
        looks[f"--persons {name}"] = partial(_persons, name, options.device)
    faults = {flag: _tell(flag, look) for flag, look in looks.items()}
    for flag in sorted(needed):
        if fault := faults.get(flag):
            raise Failure(fault)


def _faces(name: str, device: str) -> tuple[Embedder, str, Look]:
    model = face_models.load(name, device)
    return model.embedder, model.device, model.analyze


def _persons(name: str, device: str) -> tuple[Weights, str, Look]:
    model = person_models.load(name, device)
    if model is None:
        raise Failure("no person detection")
    return model.weights, model.device, model.detect


def _tell(flag: str, load: Callable[[], tuple[Embedder | Weights, str, Look]]) -> str:
    """Print the state of one backend; what is wrong with it, '' where nothing is."""
    try:
        about, device, look = load()
    except Failure as fault:
        print(f"{flag}: {fault}")
        return str(fault)
    print(f"{flag}: {about.name}, licence {about.license}, sha256 {about.sha256}\n"
          f"{'':<14}{_rate(look):.2f} images/s of {PICTURE.name} on {device}, one at a time")
    return ""


def _rate(look: Look) -> float:
    """Pictures a second that a model looks at, one at a time."""
    picture = np.asarray(pictures.decode(PICTURE.read_bytes(), pictures.UNLIMITED))
    look([picture])
    start, count = time.monotonic(), 0
    while time.monotonic() - start < SECONDS:
        look([picture])
        count += 1
    return count / (time.monotonic() - start)
