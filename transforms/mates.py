"""Faces of one image: two people, unless the image shows one person twice."""
from __future__ import annotations

import numpy as np


def same_person_twice(embeddings: np.ndarray, images: np.ndarray, strict_same_person: float) -> np.ndarray:
    """bool [N]: the face's image has two faces that are one person beyond doubt (mirror, collage, picture on a wall).

    `embeddings`: [N, D], unit rows, or all of another length where the bound is in squares of it; `images`: int [N], the same
    number for faces of one image.
    Known from faces alone, before clustering (design, "Pairing, exactly")."""
    order = np.argsort(images, kind="stable")
    twice = []
    for steps in range(1, len(order)):
        rows = np.flatnonzero(images[order[:-steps]] == images[order[steps:]])
        if not len(rows):
            break
        ours, theirs = (embeddings[order[some]].astype(np.float64) for some in (rows, rows + steps))
        cosines = np.einsum("nd,nd->n", ours, theirs)
        twice.append(images[order[rows[cosines > strict_same_person]]])
    return np.isin(images, np.concatenate(twice)) if twice else np.zeros(len(images), bool)


def exclusive_images(images: np.ndarray, exempt: np.ndarray) -> np.ndarray:
    """Numbers int64 [N], the same for faces of one image that must be different people; -1 for a face that excludes
    nobody."""
    candidates = np.flatnonzero(~exempt)
    _, image, count = np.unique(images[candidates], return_inverse=True, return_counts=True)
    mated = candidates[count[image] > 1]
    exclusive = np.full(len(images), -1, np.int64)
    exclusive[mated] = np.unique(images[mated], return_inverse=True)[1]
    return exclusive
