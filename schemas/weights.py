"""Where a model comes from: what is kept of every model that had a say."""
from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """Provenance of a model."""

    backend: str
    """Name in the table of backends: `dlib`, `insightface`, `ultralytics`, …"""
    name: str
    """The model's own name."""
    sha256: str
    """Digest of the files that decide what is found, 64 hex characters."""
    license: str
    """What the weights' authors allow, as an SPDX name or a short phrase."""

    @property
    def named(self) -> str:
        """`BACKEND:NAME`: who it is, wherever the weights lie; `BACKEND` alone where that has no others."""
        return self.backend if self.backend == "dlib" else f"{self.backend}:{self.name}"

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
