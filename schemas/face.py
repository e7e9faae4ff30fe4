"""A face: where it is, how good it is, and the vector that says whose it is."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.embedder import Embedder
from schemas.table import fixed
from schemas.weights import Weights


@dataclass(frozen=True)
class Detection:
    """One face as a face model sees it in one picture."""

    box: np.ndarray
    """float32 [4], pixels of the picture, x0 y0 x1 y1, from brow or forehead, as the detector has it, to chin; may reach over
    the edge by a few pixels."""
    keypoints: np.ndarray
    """float32 [10], pixels: x, y of left eye, right eye, nose, left and right mouth corner, as seen in the picture."""
    detection_score: float
    """The detector's own score; higher is surer. Its scale is the backend's."""
    quality: float
    """In [0, 1], from size, sharpness, pose and score: how well the embedding can be trusted."""
    embedding: np.ndarray
    """float32 [D], unit length."""

    def __post_init__(self) -> None:
        for name, values, shape in (("box", self.box, (4,)), ("keypoints", self.keypoints, (10,))):
            if values.shape != shape or values.dtype != np.float32:
                raise ValueError(f"a detection's {name} is float32 {shape}, not {values.dtype} {values.shape}")
        if self.embedding.ndim != 1 or abs(float(np.linalg.norm(self.embedding)) - 1) > 1e-3:
            raise ValueError(f"an embedding is a unit vector, not {self.embedding.shape} of length "
                             f"{float(np.linalg.norm(self.embedding)):.4f}")

    @property
    def side(self) -> float:
        """The shorter side of the box, pixels."""
        return float(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))


@dataclass(frozen=True)
class Face:
    """A row of `faces`: a detection in an image, with what pairing needs to know of that image."""

    face_id: str
    """`<image_key>:<n>`, n counts from 0 by ascending x0."""
    image_key: str
    group: str | None
    clip: str | None
    timestamp: float | None
    box: np.ndarray
    """float32 [4], pixels of the upright image, x0 y0 x1 y1."""
    keypoints: np.ndarray
    """float32 [10], pixels of the upright image; order as in `Detection`."""
    detection_score: float
    quality: float
    """In [0, 1]."""
    person_box: np.ndarray | None
    """float32 [4], pixels of the upright image; None where unknown."""
    embedding: np.ndarray
    """float32 [D], unit length."""
    person_mask: bytes | None = None
    """Which of the whole pixels of `person_box` show the person, see `schemas.person.encode_mask`; None where unknown."""


def faces_schema(embedder: Embedder, persons: Weights | None = None) -> pa.Schema:
    """Columns of `faces`; the metadata names the embedding model, and the person model where there was one."""
    made_by = {"embedding_model": embedder.to_json(), **({"person_model": persons.to_json()} if persons else {})}
    return pa.schema([
        ("face_id", pa.string()), ("image_key", pa.string()), ("group", pa.string()), ("clip", pa.string()),
        ("timestamp", pa.float64()), ("box", fixed(4)), ("keypoints", fixed(10)), ("detection_score", pa.float32()),
        ("quality", pa.float32()), ("person_box", pa.list_(pa.float32())), ("embedding", fixed(embedder.dimensions)),
        ("person_mask", pa.binary()),
    ], metadata=made_by)
