"""Which faces are worth comparing, where there are too many to compare all with all.

A cell is a face drawn by hash order and those who have it among the most similar of all that were drawn; each face is in
several of them, so that two neighbours share one though a border runs between them. Faces that are drawn are as dense as
faces are: a person with a tenth of all pictures has a tenth of the cells, and none of them grows with him."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transforms.similarity import BestEdges, Edges, directions, products, ranges, squares

WHOLE = 20_000
"""Faces up to which one cell holds all (issue "Identities"): their products take some seconds."""
CELL = 1500
"""Faces of a cell, on average: a choice between 1000 and 2000, of which 8 a face find the same on 250 thousand generated faces
of 512 numbers, 0.82 of the ten strongest edges; the first need twice the centres, the others twice the products."""
LARGEST = 16 * CELL
"""Faces of a cell that is compared whole: four times the largest of 250 thousand generated faces."""
SPILL, SPILL_OF_MANY = 16, 8
"""Cells of a face, of no more than `MANY` faces and of more: cost grows with them. Of the ten strongest edges of a face
that is no centre, on 250 thousand generated faces of 512 numbers, 4 of 1000 faces find 0.64, 8 of 1000 0.82, 16 of 1000 0.91;
with 5 of 1000 the BCubed F of the whole is 0.961, with 8 of 1500 0.981."""
MANY = 250_000
"""A choice: at a million 16 were not tried."""
REGION = 64
"""Cells of a region, on average: a choice of what a worker takes on at once."""
SEARCH = 32
"""Regions in which the cells of a face are looked for. On a million generated faces of 512 numbers with 63 regions, 16 hold
0.85 of the cells of a face, 12 0.79, 8 0.71."""
ROUNDS = 4
"""Of k-means, that make the regions: without, 0.68 of the cells of a face are found in 16 of 63 regions, with them 0.85."""
NUMBERS = 1 << 22
"""Similarities at a time: 32 MiB. Results do not depend on it."""
ROWS = 4096
"""Faces that are looked up at a time. Results do not depend on it."""


def spill_of(faces: int) -> int:
    """Cells of a face, where there are so many."""
    return SPILL if faces <= MANY else SPILL_OF_MANY


def are_centres(ids: np.ndarray, spill: int = SPILL) -> np.ndarray:
    """Whether a cell is drawn around each face, bool [n], by their ids int64 [n] (`digests.numbers`), so that a cell has `CELL`
    faces."""
    return ids < min(2**63 * spill // CELL, 2**63 - 1)


@dataclass(frozen=True)
class Cells:
    """The table of cells: nothing else that a worker is given grows with the number of faces."""

    centres: np.ndarray
    """float32 [K, D], on the grid, ordered by region."""
    half: np.ndarray
    """int64 [K], the crowding of each centre. Without it, hubs fill: the largest of 1000 cells of 250 thousand generated faces
    would have 10 times its share, and not 3.5 times."""
    heads: np.ndarray
    """float32 [R, D], on the grid, the middle of each region."""
    starts: np.ndarray
    """int64 [R], the first cell of each region."""
    spill: int
    """Cells of a face; all where there are fewer."""

    @staticmethod
    def one(dimensions: int) -> Cells:
        """One cell, that holds all."""
        nothing = np.zeros((1, dimensions), np.float32)
        return Cells(nothing, np.zeros(1, np.int64), nothing, np.zeros(1, np.int64), 1)

    @staticmethod
    def around(faces: np.ndarray, half: np.ndarray, spill: int) -> Cells:
        """Cells around faces float32 [K, D] on the grid, in hash order, half int64 [K]."""
        heads = faces[:-(-len(faces) // REGION)]
        for _ in range(ROUNDS):
            heads = _middles(faces, _nearest_head(faces, heads), heads)
        region = _nearest_head(faces, heads)
        order = np.argsort(region, kind="stable")
        starts = np.searchsorted(region[order], np.arange(len(heads)))
        return Cells(faces[order], half[order], heads, starts, spill)

    def __len__(self) -> int:
        return len(self.centres)

    def region(self, cells: np.ndarray) -> np.ndarray:
        """The region int64 of cells, int64 of any shape."""
        return np.searchsorted(self.starts, cells, "right") - 1

    def nearest(self, faces: np.ndarray) -> np.ndarray:
        """The cells int64 [N, spill] of faces [N, D] on the grid, ascending; fewer where there are fewer."""
        spill = min(self.spill, len(self))
        found = np.empty((len(faces), spill), np.int64)
        for rows in ranges(len(faces), ROWS):
            found[rows] = self._nearest(faces[rows].astype(np.float32), spill)
        return found

    def _nearest(self, faces: np.ndarray, spill: int) -> np.ndarray:
        if len(self) == 1:
            return np.zeros((len(faces), 1), np.int64)
        search = min(SEARCH, len(self.heads))
        regions = _best(_keys(faces, self.heads), search)
        best = np.full((len(faces), spill), np.iinfo(np.int64).min)
        ends = np.append(self.starts[1:], len(self))
        for region in np.unique(regions):
            start, end = self.starts[region], ends[region]
            rows = np.flatnonzero((regions == region).any(axis=1))
            keys = _keys(faces[rows], self.centres[start:end], self.half[start:end], start, len(self))
            both = np.concatenate([best[rows], keys], axis=1)
            best[rows] = np.partition(both, both.shape[1] - spill, axis=1)[:, both.shape[1] - spill:]
        return np.sort(len(self) - 1 - best % len(self), axis=1)


def _nearest_head(faces: np.ndarray, heads: np.ndarray) -> np.ndarray:
    return np.concatenate([_best(_keys(faces[rows], heads), 1)[:, 0] for rows in ranges(len(faces), ROWS)])


def _middles(faces: np.ndarray, region: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """The directions of the regions' sums float32 [R, D], on the grid; a region of nobody keeps its head."""
    sums = np.zeros(heads.shape)
    np.add.at(sums, region, faces)  # of integers: exact
    return np.where(squares(sums)[:, None] > 0, directions(sums), heads)


def _keys(faces: np.ndarray, centres: np.ndarray, half: np.ndarray | None = None, start: int = 0,
          count: int | None = None) -> np.ndarray:
    """Integers int64 [n, m], the higher the more similar, that tell which centre they are of: no two are equal."""
    count = count or len(centres)
    similarity = products(faces, centres)
    if half is not None:
        similarity -= half.astype(np.float32)
    return similarity.astype(np.int64) * count + (count - 1 - start - np.arange(len(centres)))


def _best(keys: np.ndarray, most: int) -> np.ndarray:
    """Columns int64 [n, most] of the highest keys [n, m]."""
    return np.argpartition(keys, keys.shape[1] - most, axis=1)[:, keys.shape[1] - most:]


def by_cell(cells: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each cell of faces' cells int64 [N, S], ascending, and its rows int64 [n], ascending; -1 is no cell."""
    flat = cells.ravel()
    order = np.argsort(flat, kind="stable")
    ends = np.flatnonzero(np.diff(flat[order], append=-1)) + 1
    for rows in np.split(order, ends[:-1]):
        if len(rows) and flat[rows[0]] >= 0:
            yield int(flat[rows[0]]), rows // cells.shape[1]


def neighbours(cells: Cells, faces: np.ndarray, half: np.ndarray, least: float, most: int,
               fresh: np.ndarray | None = None) -> Edges:
    """`transforms.similarity.strong_edges` among the faces of each cell, of those between faces that are not `fresh`, bool
    [N], none; other arguments as there."""
    best = BestEdges(len(faces), least, most)
    for _, rows in by_cell(cells.nearest(faces)):
        compare_cell(best, faces, half, rows, fresh)
    return best.edges()


def compare_cell(best: BestEdges, faces: np.ndarray, half: np.ndarray, rows: np.ndarray,
                 fresh: np.ndarray | None = None) -> None:
    """Add the edges between the rows int64 [n] of one cell, ascending; arguments as above. A cell that is too large is split
    into its own cells, if those are smaller."""
    if len(rows) > LARGEST:
        drawn = rows[::CELL // SPILL]
        inside = Cells.around(faces[drawn].astype(np.float32), half[drawn], SPILL)
        parts = [rows[its] for _, its in by_cell(inside.nearest(faces[rows]))]
        if max(map(len, parts)) < len(rows):
            for part in parts:
                compare_cell(best, faces, half, part, fresh)
            return
    best.compare(faces, half, rows, rows if fresh is None else rows[fresh[rows]])


class Best(NamedTuple):
    """Who is most like each of some, and how much less the next one is."""

    value: np.ndarray
    """float64 [n], -inf where no other shares a cell"""
    column: np.ndarray
    """int64 [n], -1 where no other shares a cell"""
    second: np.ndarray
    """float64 [n], the value of the next best column, -inf where there is none"""


def best_of_cells(ours: np.ndarray, theirs: np.ndarray, similarity: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Best:
    """The best two of those that share a cell, for each of n.

    ours: cells int64 [n, S], theirs: int64 [m, S], as `Cells.nearest` gives them; similarity: of rows [r] of ours to rows
    [c] of theirs, float64 [r, c]. Of equals the lower of theirs."""
    value, second, column = np.full(len(ours), -np.inf), np.full(len(ours), -np.inf), np.full(len(ours), -1)
    members = dict(by_cell(theirs))
    for cell, all_rows in by_cell(ours):
        columns = members.get(cell)
        if columns is None:
            continue
        for rows in (all_rows[part] for part in ranges(len(all_rows), max(1, NUMBERS // len(columns)))):
            found = similarity(rows, columns)
            found[column[rows][:, None] == columns[None, :]] = -np.inf
            best = found.argmax(axis=1)
            first = found[np.arange(len(rows)), best]
            found[np.arange(len(rows)), best] = -np.inf
            before, its = value[rows], columns[best]
            better = (first > before) | ((first == before) & (its < column[rows]))
            second[rows] = np.where(better, np.maximum(before, found.max(axis=1)), np.maximum(second[rows], first))
            value[rows], column[rows] = np.where(better, first, before), np.where(better, its, column[rows])
    column[value == -np.inf] = -1
    return Best(value, column, second)
