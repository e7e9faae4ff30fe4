"""Who a face belongs to: a row of `identities`."""
from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Identity:
    """One face's person."""

    face_id: str
    identity: str | None
    """Stable name; None for an outlier."""
    centroid_similarity: float
    """Cosine to the mean of the identity's faces."""


IDENTITIES = pa.schema([("face_id", pa.string()), ("identity", pa.string()), ("centroid_similarity", pa.float32())])
