"""A person: the box and the outline of somebody in a picture."""
from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import PIL.Image


@dataclass(frozen=True)
class Person:
    """One person as a person model sees them in one picture."""

    box: np.ndarray
    """float32 [4], pixels of the picture, x0 y0 x1 y1, inside it; head to foot as far as they show."""
    score: float
    """In [0, 1]; higher is surer."""
    mask: np.ndarray | None = None
    """bool [h, w], which of the box's `area` shows the person; None where the model gives boxes only. The whole picture's would
    take a hundred times as much for a small person."""

    def __post_init__(self) -> None:
        if self.box.shape != (4,) or self.box.dtype != np.float32 or not (self.box[:2] < self.box[2:]).all():
            raise ValueError(f"a person's box is float32 (4,), x0 < x1 and y0 < y1, not {self.box.dtype} {self.box.tolist()}")
        x0, y0, x1, y1 = self.area
        if self.mask is not None and (self.mask.shape != (y1 - y0, x1 - x0) or self.mask.dtype != bool):
            raise ValueError(f"the mask of {self.box.tolist()} is bool {(y1 - y0, x1 - x0)}, not {self.mask.dtype} "
                             f"{self.mask.shape}")

    @property
    def area(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the whole pixels that the box touches: the mask is `picture[y0:y1, x0:x1]`'s."""
        x0, y0, x1, y1 = self.box.tolist()
        return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask (bool [h, w]) as PNG of one bit a pixel, for a binary column."""
    stream = io.BytesIO()
    PIL.Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def decode_mask(data: bytes) -> np.ndarray:
    """bool [h, w] of what `encode_mask` made."""
    return np.asarray(PIL.Image.open(io.BytesIO(data))).copy()
