"""Identities as a whole: how many faces each has, how alike they are, and who is most like them."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.identity import PEOPLE
from transforms.similarity import BLOCK, UNIT, on_grid, products, squares


def describe(embeddings: np.ndarray, similarity: np.ndarray, names: Sequence[str | None],
             earlier: Sequence[str | None]) -> pa.Table:
    """The table `PEOPLE`, one row an identity, by name; the same numbers on any machine.

    embeddings: float32 [N, D], unit rows; similarity: float32 [N], each face's to its identity's mean; names: of the N
    faces' identities, None for an outlier; earlier: what they were called before, None for nothing."""
    rows = np.array([row for row, name in enumerate(names) if name is not None], np.int64)
    people, whose = np.unique(np.array([names[row] for row in rows], str), return_inverse=True)
    sums = np.zeros((len(people), embeddings.shape[1]))
    np.add.at(sums, whose, on_grid(embeddings[rows]))
    length = np.sqrt(squares(sums))
    middles = on_grid(sums / np.maximum(length, 1.0)[:, None])
    nearest, likeness = np.full(len(people), -1), np.full(len(people), -np.inf)
    for start in range(0, len(people), BLOCK):
        some = slice(start, start + BLOCK)
        for other in range(0, len(people), BLOCK):
            cosine = products(middles[some], middles[other:other + BLOCK])
            if start == other:
                np.fill_diagonal(cosine, -np.inf)
            best = cosine.argmax(axis=1)
            found = cosine[np.arange(len(best)), best]
            better = found > likeness[some]
            nearest[some][better], likeness[some][better] = best[better] + other, found[better]
    count = np.bincount(whose, minlength=len(people))
    mean = np.bincount(whose, similarity[rows].astype(np.float64), minlength=len(people)) / np.maximum(count, 1)
    before: list[Counter[str]] = [Counter() for _ in people]
    for person, row in zip(whose.tolist(), rows.tolist(), strict=True):
        if (old := earlier[row]) is not None:
            before[person][old] += 1
    known = nearest >= 0  # nobody is most like the only one
    return pa.table({
        "identity": people.tolist(), "faces": count, "spread": 1 - mean,
        "nearest": [people[at] if at >= 0 else None for at in nearest],
        "nearest_similarity": pa.array(np.where(known, likeness / UNIT, 0), mask=~known),
        "earlier": [min(counts, key=lambda name: (-counts[name], name), default=None)
                    for counts in before]}, schema=PEOPLE)
