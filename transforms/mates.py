"""Faces of one image: two people, unless the image shows one person twice."""
from __future__ import annotations

from itertools import pairwise

import numpy as np


def same_person_twice(embeddings: np.ndarray, images: np.ndarray, strict_same_person: float) -> np.ndarray:
    """bool [N]: the face's image has two faces that are one person beyond doubt (mirror, collage, picture on a wall).

    `embeddings`: float [N, D], unit rows; `images`: int [N], the same number for faces of one image.
    Known from faces alone, before clustering (design, "Pairing, exactly")."""
    order = np.argsort(images, kind="stable")
    starts = np.flatnonzero(np.diff(images[order], prepend=images[order][:1] - 1))
    twice = np.zeros(len(images), bool)
    for start, end in pairwise([*starts, len(order)]):
        mates = order[start:end]
        if len(mates) > 1:
            cosines = embeddings[mates].astype(np.float64) @ embeddings[mates].astype(np.float64).T
            np.fill_diagonal(cosines, -1)
            twice[mates] = bool((cosines > strict_same_person).any())
    return twice
