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
PEOPLE = pa.schema([("identity", pa.string()), ("faces", pa.int64()), ("spread", pa.float32()), ("nearest", pa.string()),
                    ("nearest_similarity", pa.float32()), ("earlier", pa.string())])
"""One row an identity: its faces; 1 less their mean similarity to its mean; the other identity whose mean is most like its own,
and the cosine of the two, both null where there is no other; what most of its faces were called before, null for nothing."""
