"""References and faces matched: the assignment, the check both ways, and UMO's measures of a similarity matrix."""
from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

DECIMALS = 6
"""Of a similarity as it is kept. float16 rows agree to about 1e-4, and sums of a few hundred products of float16 in
float64 are exact to 1e-13, so that a rounded similarity is the same on any machine."""


def similarity_matrix(references: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """float64 [N, K]: plain cosines of float16 [N, D] with float16 [K, D], unit rows, rounded to `DECIMALS`."""
    if references.dtype != np.float16 or faces.dtype != np.float16:
        raise ValueError(f"similarities are computed from the float16 that is written, "
                         f"not from {references.dtype} and {faces.dtype}")
    return np.round(references.astype(np.float64) @ faces.astype(np.float64).T, DECIMALS)


def margins(matrix: np.ndarray) -> np.ndarray:
    """ID-Conf of each reference, float64 [N]: (s1 - s2) / s1 of its two largest similarities, at most 1; 0 where s1 <= 0.

    UMO, eq. 5, as in its code. Raises ValueError for fewer than two faces, for which there is no value."""
    if matrix.shape[1] < 2:
        raise ValueError(f"ID-Conf needs two faces or more, not {matrix.shape[1]}")
    second, first = np.sort(matrix, axis=1)[:, -2:].T
    return np.round(np.where(first > 0, np.minimum(1, (first - second) / np.where(first > 0, first, 1)), 0), DECIMALS)


def id_sim(matrix: np.ndarray) -> float:
    """ID-Sim: mean over references of the largest similarity to any face; 0 without faces or references (UMO, 4.1)."""
    return float(np.round(matrix.max(axis=1).mean(), DECIMALS)) if matrix.size else 0.0


def id_conf(matrix: np.ndarray) -> float:
    """ID-Conf: mean of `margins` (UMO, eq. 5)."""
    return float(np.round(margins(matrix).mean(), DECIMALS))


def mimr(matrix: np.ndarray) -> float:
    """UMO's reward (3.3, `reward_models/MIMR`): matched entries count +1, all others -1, mean over N x K; 0 if empty."""
    if not matrix.size:
        return 0.0
    sign = -np.ones_like(matrix)
    sign[linear_sum_assignment(matrix, maximize=True)] = 1
    return float(np.round((sign * matrix).mean(), DECIMALS))


def assign(weights: np.ndarray) -> np.ndarray:
    """Column of each row, int64 [F], -1 for none: as many pairs as can be, then the greatest sum of weights.

    `weights`: float64 [F, C] in [0, 2], NaN where a pair is not allowed. One column serves one row."""
    allowed = ~np.isnan(weights)
    chosen = np.full(len(weights), -1, np.int64)
    if not allowed.any():
        return chosen
    bonus = 4.0 * max(1, min(weights.shape))  # one pair more outweighs every difference of weights
    rows, columns = linear_sum_assignment(np.where(allowed, weights + bonus, 0), maximize=True)
    good = allowed[rows, columns]
    chosen[rows[good]] = columns[good]
    return chosen


def holds_both_ways(matrix: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """bool [N]: the reference's best face is the assigned one, and that face's best reference is this one.

    `matrix`: float64 [N, K]; `assignment`: int64 [N], the face of each reference (design, "Pairing, exactly")."""
    best_face = matrix.argmax(axis=1) == assignment
    best_reference = matrix.argmax(axis=0)[assignment] == np.arange(len(matrix))
    return best_face & best_reference
