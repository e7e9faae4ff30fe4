"""An image that could be read: a row of `images`."""
from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Image:
    """One readable picture. The same bytes at two places are two rows with one `image_key`."""

    image_key: str
    """32 hex characters: digest of the file's bytes."""
    uri: str
    """Relative to `root`; a tar's member is `tar#offset,size`."""
    root: str
    """URL of the folder that `uri` starts from."""
    group: str | None
    """Album or video."""
    clip: str | None
    """Shot of a video, or burst."""
    timestamp: float | None
    """Seconds."""
    source: str
    """`photo`, `frame`, `composite` or `generated`."""
    width: int
    """Pixels, upright."""
    height: int
    """Pixels, upright."""
    perceptual_hash: int
    """64 bits, see `pictures.perceptual_hash`."""
    caption: str | None
    license: str | None


IMAGES = pa.schema([
    ("image_key", pa.string()), ("uri", pa.string()), ("root", pa.string()), ("group", pa.string()),
    ("clip", pa.string()), ("timestamp", pa.float64()), ("source", pa.string()), ("width", pa.int32()),
    ("height", pa.int32()), ("perceptual_hash", pa.uint64()), ("caption", pa.string()), ("license", pa.string()),
])
