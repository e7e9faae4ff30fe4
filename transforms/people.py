"""Identities as a whole: how many faces each has, how alike they are, and who is most like them."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.identity import PEOPLE
from transforms.cells import Cells, best_of_cells
from transforms.linkage import Sums
from transforms.similarity import BLOCK, UNIT, directions, products, ranges


def describe(faces: np.ndarray, cells: Cells, similarity: np.ndarray, names: Sequence[str | None],
             earlier: Sequence[str | None]) -> pa.Table:
    """The table `PEOPLE`, one row an identity, by name; the same numbers on any machine.

    faces: int16 [N, D], on the grid; cells: where an identity's most similar one is looked for; similarity: float32 [N], each
    face's to its identity's mean; names: of the N faces' identities, None for an outlier; earlier: what they were called
    before, None for nothing."""
    people = sorted({name for name in names if name is not None})
    number = {name: at for at, name in enumerate(people)}
    label = np.array([len(people) if name is None else number[name] for name in names], np.int64)
    rows = np.flatnonzero(label < len(people))
    whose = label[rows]
    sums, first, _, _ = Sums.of_clusters(faces, label)
    middles = np.empty((len(people), faces.shape[1]), np.int16)
    for some in ranges(len(people), BLOCK):
        middles[some] = directions(sums.of(first[some]))

    def cosine(some: np.ndarray, others: np.ndarray) -> np.ndarray:
        found = products(middles[some], middles[others])
        found[some[:, None] == others[None, :]] = -np.inf
        return found

    theirs = cells.nearest(middles)
    nearest = best_of_cells(theirs, theirs, cosine)
    count = np.bincount(whose, minlength=len(people))
    mean = np.bincount(whose, similarity[rows].astype(np.float64), minlength=len(people)) / np.maximum(count, 1)
    before: list[Counter[str]] = [Counter() for _ in people]
    for person, row in zip(whose.tolist(), rows.tolist(), strict=True):
        if (old := earlier[row]) is not None:
            before[person][old] += 1
    known = nearest.column >= 0  # nobody is most like the only one
    return pa.table({
        "identity": people, "faces": count, "spread": 1 - mean,
        "nearest": [people[at] if at >= 0 else None for at in nearest.column],
        "nearest_similarity": pa.array(np.where(known, nearest.value / UNIT, 0), mask=~known),
        "earlier": [min(counts, key=lambda name: (-counts[name], name), default=None)
                    for counts in before]}, schema=PEOPLE)
