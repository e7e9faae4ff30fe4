"""A checked reference crop: a row of `crops`."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.embedder import Embedder
from schemas.table import fixed


@dataclass(frozen=True)
class Crop:
    """A face good enough to be a reference, with the rectangle that shows it and nobody else."""

    face_id: str
    crop: np.ndarray
    """float32 [4], whole pixels of the upright image, x0 y0 x1 y1."""
    faces_found: int
    """Faces that the detector finds in the crop as it will be written."""
    face_box: np.ndarray
    """float32 [4], pixels of the crop as it will be written."""
    similarity: float
    """Cosine of the crop's face to the face it was cut for."""
    embedding: np.ndarray
    """float32 [D], unit length: of the face found in the crop as it will be written."""


def crops_schema(embedder: Embedder) -> pa.Schema:
    """Columns of `crops`; the metadata names the embedding model."""
    return pa.schema([
        ("face_id", pa.string()), ("crop", fixed(4)), ("faces_found", pa.int32()), ("face_box", fixed(4)),
        ("similarity", pa.float32()), ("embedding", fixed(embedder.dimensions)),
    ], metadata={"embedding_model": embedder.to_json()})
