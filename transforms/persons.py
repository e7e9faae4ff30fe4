"""Which person each face belongs to: one assignment problem over the faces and people of a picture.

How well a face fits a box is the share of the face that lies in it, times how near the face is to where heads are: the middle
of the box's top edge, in diagonals of the box. IoU would say how large a face is for a box, which is the distance to the camera
and how much of the body shows, not whose it is. The share alone cannot tell a child's face from that of the adult behind, in
whose box it lies too; nearness can, for it is low in one box and high in the other. Distance is in diagonals, not in heights,
because the head of somebody who lies is at an end of a wide box, about half a diagonal from the middle of its top.

The sum of fits is what is made greatest, not the number of pairs, so that no face is moved to a worse box to give its own to a
face that has none."""
from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

INSIDE = 0.5
"""Least share of a face in a person's box: most of it. A choice, as is the next one; no labelled people were at hand."""
REACH = 0.5
"""Greatest distance of a face's middle from the middle of the box's top, in diagonals of the box. Somebody who
stands (1 to 3) may have the head anywhere in the upper half; a face that fills its box (3 to 4) has 0.4, the head of somebody
who lies (3 to 1) up to 0.5."""


def fits(faces: np.ndarray, people: np.ndarray) -> np.ndarray:
    """float64 [F, P] in [0, 1]: how well each face fits each person's box; 0 where it cannot be theirs.

    Both are boxes, float [F, 4] and [P, 4], x0 y0 x1 y1 in pixels of one picture."""
    face, person = faces.astype(np.float64)[:, None], people.astype(np.float64)[None]
    sides = np.minimum(face[..., 2:], person[..., 2:]) - np.maximum(face[..., :2], person[..., :2])
    size, around = face[..., 2:] - face[..., :2], person[..., 2:] - person[..., :2]
    if (size <= 0).any() or (around <= 0).any():
        raise ValueError("a box has x0 < x1 and y0 < y1")
    inside = sides.clip(0).prod(axis=-1) / size.prod(axis=-1)
    top = np.stack([(person[..., 0] + person[..., 2]) / 2, person[..., 1]], axis=-1)
    away = np.linalg.norm((face[..., :2] + face[..., 2:]) / 2 - top, axis=-1) / np.linalg.norm(around, axis=-1)
    return np.where((inside >= INSIDE) & (away <= REACH), inside * (1 - away), 0.0)


def assign(faces: np.ndarray, people: np.ndarray) -> np.ndarray:
    """int64 [F]: the person of each face, -1 for none. A person has one face at most; the sum of `fits` is the greatest.

    Both are boxes, float [F, 4] and [P, 4], x0 y0 x1 y1 in pixels of one picture."""
    fit = fits(faces, people)
    chosen = np.full(len(faces), -1, np.int64)
    rows, columns = linear_sum_assignment(fit, maximize=True)
    good = fit[rows, columns] > 0
    chosen[rows[good]] = columns[good]
    return chosen
