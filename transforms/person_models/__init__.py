"""Person models: one protocol, and the table that says where each backend is and what brings it.

To add one: a module with `weights` and `load` as `Backend.module` says, and a row in `BACKENDS`."""
from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from schemas.person import Person
from schemas.weights import Weights
from transforms.face_models import MissingModel
from transforms.failure import WrongUsage

NONE = "none"
"""The name that asks for no person model."""


class PersonModel(Protocol):
    """Finds people. Made in the process that uses it; never pickled."""

    weights: Weights
    device: str
    """Where it runs: `cpu` or `cuda:N`."""

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Person]]:
        """People of each picture (uint8 [H, W, 3], RGB, upright), by ascending x0, then y0.

        A picture gives the same people alone and in a batch, but for the last bits of numbers. An empty batch gives an empty
        list."""
        ...


@dataclass(frozen=True)
class Backend:
    """A row of the table: nothing here imports the backend's packages."""

    module: str
    """Module that defines `weights(argument: str) -> Weights`, which loads no model, and `load(argument: str, device: str) ->
    PersonModel`; importing it needs no model package."""
    install: str
    """Command that brings the packages."""
    packages: tuple[str, ...]
    """Distributions whose versions can change what is found."""


BACKENDS = {
    "ultralytics": Backend("transforms.person_models.ultralytics", "pip install 'umo-dataset[gpu]'",
                           ("ultralytics", "torch", "torchvision", "opencv-python")),
}


def weights(name: str) -> Weights | None:
    """Who finds the people of `none` or `BACKEND[:ARGUMENT]`; None for `none`.

    Raises MissingModel where a package or weights are missing, WrongUsage for an unknown backend."""
    return _ask(name, "weights")


def load(name: str, device: str) -> PersonModel | None:
    """The model of `none` or `BACKEND[:ARGUMENT]` on `auto`, `cpu`, `cuda` or `cuda:N`; None for `none`.

    Raises as `weights` does, and Failure where weights or device cannot be used."""
    return _ask(name, "load", device)


def _ask(name: str, what: str, *more: str) -> Any:
    backend, _, argument = name.partition(":")
    if name == NONE:
        return None
    if backend not in BACKENDS:
        raise WrongUsage(f"unknown --persons {name}; known are {', '.join([NONE, *sorted(BACKENDS)])}")
    row = BACKENDS[backend]
    try:
        return getattr(importlib.import_module(row.module), what)(argument, *more)
    except ImportError as error:
        raise MissingModel(f"--persons {name} needs {error.name or error}: {row.install}") from error
