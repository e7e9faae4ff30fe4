"""How far an embedding can be trusted, from what is seen of the face."""
from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

FINE = 1 / 75
"""Detail finer than this part of a chip's side (Gaussian sigma) is what blur takes away: 2 pixels of dlib's 150."""
MIDDLE = 0.2, 0.8
"""Part of a chip, across and down, that shows nothing but the face."""


def sharpness(chip: np.ndarray) -> float:
    """Share of the contrast that is fine detail, in the middle of an aligned face (uint8 [S, S, 3]).

    Of the faces of faces/dev the median is 0.25."""
    gray = chip.mean(axis=2)
    middle = (slice(*(round(part * len(gray)) for part in MIDDLE)),) * 2
    contrast = gray[middle].std()
    return float((gray - gaussian_filter(gray, FINE * len(gray)))[middle].std() / contrast) if contrast > 0 else 0.0


def product(*factors: float) -> float:
    """The factors, each cut to [0, 1], multiplied."""
    return float(np.prod(np.clip(factors, 0, 1)))
