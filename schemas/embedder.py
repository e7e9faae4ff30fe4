"""The embedding model: who made the vectors, and which similarities mean what for it.

Nothing outside a backend's own `BOUNDS` holds a similarity constant (design, point 5)."""
from __future__ import annotations

import json
from dataclasses import dataclass

from schemas.weights import Weights


@dataclass(frozen=True)
class Embedder(Weights):
    """Provenance of every embedding, kept as `embedding_model` in the Parquet metadata of `faces` and `crops`."""

    dimensions: int
    """Length D of an embedding."""

    @staticmethod
    def from_json(text: str | bytes, dimensions: int) -> Embedder:
        """Read `embedding_model` metadata; `dimensions` is the embedding column's, which rules.

        Raises ValueError where a required key is missing."""
        about = json.loads(text)
        missing = {"backend", "name"} - about.keys()
        if missing:
            raise ValueError(f"embedding_model metadata lacks {sorted(missing)}: {text!r}")
        return Embedder(about["backend"], about["name"], about.get("sha256", ""), about.get("license", ""), dimensions)


@dataclass(frozen=True)
class Bounds:
    """What a similarity means for one embedder. Cosines of unit vectors in [-1, 1] unless said otherwise."""

    same_person: float
    """A reference and a target's face below this are not taken for one person (false match rate 1e-2)."""
    strict_same_person: float
    """Above this two faces are one person beyond doubt (false match rate 1e-4): used inside one image and for crops."""
    near_copy: float
    """Above this a reference is nearly the same picture as the target and teaches pasting."""
    outlier: float
    """A face less similar than this to its identity's mean belongs to nobody."""
    cohesion: float
    """Faces that are less similar than this to their mean, on average, are not one person: look-alikes of whom few pictures are
    there."""
    margin: float
    """Least ID-Conf margin of a reference, in [0, 1] (UMO, eq. 5)."""
    quality: float
    """Least `quality`, in [0, 1], of a face that is to be a reference."""
    crowding_weight: float
    """Share of a face's crowding that is taken off its similarities (cohort scaling)."""
    crowding_growth: float
    """What is taken off besides where there are many faces: for each e-fold of 20 thousand so many times what similarities to
    strangers grow by in e-fold rarer ranks."""
    edge: float
    """Least scaled similarity of a strong edge (cohort scaling: cosine minus half of both faces' cohort means)."""
    normalized_edge: float
    """The same where vectors are normalized by their covariance within people (`transforms.space`)."""
    join: float
    """Least mean scaled similarity at which two clusters become one."""
    adopt: float
    """Least mean scaled similarity at which a face left alone joins a cluster of several, if that leads the others."""
    small_join: float
    """Least mean cosine at which two clusters become one where there are too few faces for a cohort, and in a cohort, unless
    one person makes up much of it."""
    spill: int
    """Cells in which a face is compared, where there are many (`transforms.cells`)."""
    origin: str
    """How, and on what, the numbers above were measured."""
