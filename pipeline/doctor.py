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
from schemas.weights import Weights
from transforms import face_models, person_models, pictures
from transforms.compose import opencv_modules
from transforms.diffusion import DiffusionOptions, find_for_pictures, find_for_words
from transforms.examination import DEVICE
from transforms.failure import Failure
from transforms.synthetic import SynthesizeOptions

EXTRAS = {"train": ("torch",), "gpu": ("insightface", "onnxruntime", "ultralytics"),
          "generate": ("opencv-python", "torch", "diffusers", "transformers", "accelerate"),
          "dev": ("datasets", "mlcroissant", "pytest", "webdataset")}
"""Extra -> the packages that tell whether it is installed."""
PICTURE = Path(__file__).with_name("astronaut.jpg")
"""What models are timed on: 512 x 512 pixels, one face. Eileen Collins, by NASA, in the public domain; taken from the data of
scikit-image."""
SECONDS = 1.0
"""That a model is timed for, after one look that does not count."""
Look: TypeAlias = Callable[[Sequence[np.ndarray]], Any]
"""What a model does with pictures."""
SYNTHESIZE = ("composite", "diffusers")
"""What is looked at where no `--synthesize` is named."""


@dataclass(frozen=True)
class DoctorOptions:
    faces: str | None = field(default=None, metadata={
        "metavar": "BACKEND[:ARGUMENT]",
        "help": "face models to look at, BACKEND[:ARGUMENT] as for extract; default: all backends"})
    persons: str | None = field(default=None, metadata={
        "metavar": "BACKEND[:ARGUMENT]",
        "help": "person detection to look at, BACKEND[:ARGUMENT] as for extract; default: all backends"})
    synthesize: str | None = field(default=None, metadata={
        "matches": "composite|diffusers(:.+)?", "metavar": "composite|diffusers[:MODEL]",
        "help": "what is to synthesise pictures, as for build; default: both, diffusers with its default model"})
    image_model: str | None = field(default=None, metadata={
        "metavar": "MODEL",
        "help": "image-conditioned diffusers pipeline to look at, as for build; default: none"})
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
        print(f"extra {extra + ':':<10}" + (f"{', '.join(absent)} not installed: pip install 'umo-dataset[{extra}]'" if absent
                                           else "installed"))
    needed = {f"--faces {options.faces or 'dlib'}", *(f"--{flag} {name}" for flag, name in (
        ("persons", options.persons), ("synthesize", options.synthesize), ("image-model", options.image_model)) if name)}
    looks: dict[str, Callable[[], str]] = {}
    for name in [options.faces] if options.faces else sorted(face_models.BACKENDS):
        looks[f"--faces {name}"] = partial(_faces, name, options.device)
    for name in [options.persons] if options.persons else sorted(person_models.BACKENDS):
        looks[f"--persons {name}"] = partial(_persons, name, options.device)
    for name in [options.synthesize] if options.synthesize else SYNTHESIZE:
        looks[f"--synthesize {name}"] = partial(_synthesis, name)
    if options.image_model:
        looks[f"--image-model {options.image_model}"] = partial(_image_model, options.image_model)
    faults = {flag: _tell(flag, look) for flag, look in looks.items()}
    for flag in sorted(needed):
        if fault := faults.get(flag):
            raise Failure(fault)


def _faces(name: str, device: str) -> str:
    model = face_models.load(name, device)
    return _about(model.embedder) + _speed(model.analyze, model.device)


def _persons(name: str, device: str) -> str:
    model = person_models.load(name, device)
    if model is None:
        raise Failure("no person detection")
    return _about(model.weights) + _speed(model.detect, model.device)


def _synthesis(name: str) -> str:
    kind, model = SynthesizeOptions(synthesize=name).kind_and_model()
    if kind == "composite":
        opencv_modules()
        return "needs no weights"
    return _about(find_for_words(model).weights)


def _image_model(name: str) -> str:
    return _about(find_for_pictures("", DiffusionOptions(image_model=name)).weights)


def _tell(flag: str, look: Callable[[], str]) -> str:
    """Print the state of one thing that may be asked for; what is wrong with it, '' where nothing is."""
    try:
        print(f"{flag}: {look()}")
    except Failure as fault:
        print(f"{flag}: {fault}")
        return str(fault)
    return ""


def _about(model: Weights) -> str:
    return f"{model.name}, licence {model.license or 'not stated'}" + (f", sha256 {model.sha256}" if model.sha256 else "")


def _speed(look: Look, device: str) -> str:
    return f"\n{'':<14}{_rate(look):.2f} images/s of {PICTURE.name} on {device}, one at a time"


def _rate(look: Look) -> float:
    """Pictures a second that a model looks at, one at a time."""
    picture = np.asarray(pictures.decode(PICTURE.read_bytes(), pictures.UNLIMITED))
    look([picture])
    start, count = time.monotonic(), 0
    while time.monotonic() - start < SECONDS:
        look([picture])
        count += 1
    return count / (time.monotonic() - start)
