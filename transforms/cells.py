"""Which faces are worth comparing, where there are too many to compare all with all.

A cell is a centre and those who have it among the most similar of all centres; each face is in several of them, so that two
neighbours share one though a border runs between them. A centre is the middle of those, in a sample by hash order, who are
most like one face of it. A sample is as dense as faces are: a person with a tenth of all pictures has a tenth of the cells,
and none of them grows with him."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transforms.similarity import BestEdges, Edges, add_to, best_of_each, directions, products, ranges, squares
from transforms.sorting import order_by

WHOLE = 20_000
"""Faces up to which one cell holds all (issue "Identities"): their products take some seconds."""
CELL = 500
"""Faces of a cell, on average, where `CENTRES` do not make it larger. What is found hardly depends on it, and cost does: of the
ten strongest edges of a face, on 250 thousand generated faces of 512 numbers, 8 cells of 1500 a face find 0.92, 8 of 750 0.92
and 8 of 500 0.92."""
LARGEST = 24_000
"""Faces of a cell that is compared whole: six times the largest of a million generated faces, of 512 numbers."""
CENTRES = 1 << 15
"""Cells at most: a table of 64 MiB, of 512 numbers. From a million faces on (of 128 numbers 1.6) cells grow instead:
not measured there."""
SAMPLE = 8
"""Faces, for each cell, of whom middles are made: on the same faces 16 cells of 500 find 0.95, and 0.96 with 16. Around single
faces 8 cells of 1500 find 0.81, around middles 0.92; at a million 8 of 1500 single faces 0.71, 16 of 500 middles 0.90."""
REGION = 192
"""Cells of a region, of `CELL` faces, and fewer of larger ones: a choice of what a worker takes on at once."""
SEARCH = 3
"""Regions in which the cells of a face are looked for, for each of its cells. On a million generated faces of 512 numbers,
seed 3, with 167 regions and 16 cells a face 0.83 of the ten strongest edges are found in 12 regions, 0.90 in 32 and 0.96 in
all; on seed 100 0.896 in 32, 0.918 in 48."""
ROUNDS = 4
"""Of k-means, that make the regions: without, 0.68 of the cells of a face were found in 16 of 63 regions, with them 0.85."""
NUMBERS = 1 << 22
"""Similarities at a time: 32 MiB. Results do not depend on it."""
LIMIT = 3
"""Cells that may wait for each of a face's, before all but the best are dropped. Results do not depend on it. Among a million
generated faces of 128 numbers 190 are found for each face where 750 would be, and 8 thousand faces take 0.42 s for 1.0."""
ROWS = 4096
"""Faces that are looked up at a time. Results do not depend on it."""


@dataclass(frozen=True)
class Cells:
    """The table of cells: nothing else that a worker is given grows with the number of faces."""

    centres: np.ndarray
    """float32 [K, D], on the grid, ordered by region."""
    half: np.ndarray
    """int64 [K], what is taken off similarities to each centre, or hubs fill: the whole of a middle's crowding, for half of it
    finds 0.87 where this finds 0.92."""
    heads: np.ndarray
    """float32 [R, D], on the grid, the middle of each region."""
    head_half: np.ndarray
    """int64 [R], what is taken off similarities to each head, the mean of its cells."""
    starts: np.ndarray
    """int64 [R], the first cell of each region."""
    spill: int
    """Cells of a face; all where there are fewer."""

    @staticmethod
    def one(dimensions: int) -> Cells:
        """One cell, that holds all."""
        nothing = np.zeros((1, dimensions), np.float32)
        return Cells(nothing, zero := np.zeros(1, np.int64), nothing, zero, zero, 1)

    @staticmethod
    def around_middles(sample: np.ndarray, faces: int, spill: int, crowding: Callable[[np.ndarray], np.ndarray]) -> Cells:
        """Cells for so many faces, each in `spill` of them, of a sample int16 [n, D] on the grid, in hash order. `crowding`:
        see `Cohort.crowding`."""
        count = min(faces * spill // CELL, CENTRES, len(sample))
        if not count:
            return Cells.one(sample.shape[1])
        sample, first = sample[:SAMPLE * count], sample[:count].astype(np.float32)
        seeds = Cells.around(first, crowding(first), 1)
        middles = _middles(sample, seeds.nearest(sample, SEARCH * spill)[:, 0], seeds.centres)
        return Cells.around(middles, 2 * crowding(middles), spill, max(1, REGION * CELL * count // (spill * faces)))

    @staticmethod
    def around(centres: np.ndarray, half: np.ndarray, spill: int, region: int | None = None) -> Cells:
        """Cells around centres float32 [K, D] on the grid, half int64 [K]; `region` of them, on average, in a region."""
        heads = centres[:-(-len(centres) // (region or REGION))]
        for _ in range(ROUNDS):
            heads = _middles(centres, _nearest_head(centres, heads), heads)
        region_of = _nearest_head(centres, heads)
        order = np.argsort(region_of, kind="stable")
        cells = np.bincount(region_of, minlength=len(heads))
        head_half = np.zeros(len(heads), np.int64)
        np.add.at(head_half, region_of, half)
        return Cells(centres[order], half[order], heads, head_half // np.maximum(cells, 1), np.cumsum(cells) - cells, spill)

    def __len__(self) -> int:
        return len(self.centres)

    def region(self, cells: np.ndarray) -> np.ndarray:
        """The region int64 of cells, int64 of any shape."""
        return np.searchsorted(self.starts, cells, "right") - 1

    def nearest(self, faces: np.ndarray, search: int | None = None) -> np.ndarray:
        """The cells int64 [N, spill] of faces [N, D] on the grid, ascending; fewer where there are fewer. Looked for in
        `search` regions, by default `SEARCH` for each."""
        spill = min(self.spill, len(self))
        if len(self) == 1:
            return np.zeros((len(faces), 1), np.int64)
        found = np.empty((len(faces), spill), np.int64)
        for rows in ranges(len(faces), ROWS):
            found[rows] = self._nearest(faces[rows].astype(np.float32), spill, search or SEARCH * spill)
        return found

    def _nearest(self, faces: np.ndarray, spill: int, search: int) -> np.ndarray:
        keys, sizes = _keys(faces, self.heads, self.head_half), np.diff(self.starts, append=len(self))
        regions, own = _best(keys, min(search, len(self.heads))), keys.argmax(axis=1)
        others = np.zeros(keys.shape, bool)
        np.put_along_axis(others, regions, True, axis=1)
        others[sizes[regions].sum(axis=1) < spill] = True
        others[np.arange(len(faces)), own] = False
        visits = [(np.flatnonzero(own == region), region) for region in np.unique(own)]
        visits += [(np.flatnonzero(others[:, region]), region) for region in np.flatnonzero(others.any(axis=0))]
        found, waiting, floor = [], 0, np.full(len(faces), -np.inf, np.float32)  # what a cell elsewhere must reach
        for rows, region in visits:
            cells = slice(self.starts[region], self.starts[region] + sizes[region])
            similarity = products(faces[rows], self.centres[cells])
            similarity -= self.half[cells].astype(np.float32)
            if region == own[rows[0]] and sizes[region] >= spill:
                floor[rows] = np.partition(similarity, sizes[region] - spill, axis=1)[:, sizes[region] - spill]
            hits = np.flatnonzero(similarity >= floor[rows, None])
            row, column = np.divmod(hits, sizes[region])
            found.append((rows[row], self.starts[region] + column, similarity.ravel()[hits]))
            waiting += len(hits)
            if waiting > LIMIT * spill * len(faces):
                found = [_best_cells(found, spill, floor)]
                waiting = len(found[0][0])
        return np.sort(_best_cells(found, spill, floor)[1].reshape(len(faces), spill), axis=1)


def _best_cells(found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], spill: int,
                floor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of faces int64 [h], cells int64 [h], similarities float32 [h] the `spill` best of each face, to whose least its floor,
    float32 [N], rises."""
    row, cell, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    best, rank = best_of_each(row, cell, similarity, spill)
    row, cell, similarity = row[best], cell[best], similarity[best]
    full = rank == spill - 1
    floor[row[full]] = similarity[full]
    return row, cell, similarity


def _nearest_head(faces: np.ndarray, heads: np.ndarray) -> np.ndarray:
    nothing = np.zeros(len(heads), np.int64)
    return np.concatenate([_keys(faces[rows], heads, nothing).argmax(axis=1) for rows in ranges(len(faces), ROWS)])


def _middles(faces: np.ndarray, region: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """The directions of the regions' sums float32 [R, D], on the grid; a region of nobody keeps its head."""
    sums = np.zeros(heads.shape)
    add_to(sums, region, faces)
    return np.where(squares(sums)[:, None] > 0, directions(sums), heads)


def _keys(faces: np.ndarray, heads: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Integers int64 [n, m], the higher the more similar, that tell which head they are of: no two are equal."""
    similarity = products(faces, heads) - half.astype(np.float32)
    return similarity.astype(np.int64) * len(heads) + (len(heads) - 1 - np.arange(len(heads)))


def _best(keys: np.ndarray, most: int) -> np.ndarray:
    """Columns int64 [n, most] of the highest keys [n, m]."""
    return np.argpartition(keys, keys.shape[1] - most, axis=1)[:, keys.shape[1] - most:]


def by_cell(cells: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each cell of faces' cells int64 [N, S], ascending, and its rows int64 [n], ascending; -1 is no cell."""
    there = np.flatnonzero(cells >= 0)
    flat = cells.ravel()[there]
    order = order_by(flat)
    starts = np.flatnonzero(np.diff(flat[order], prepend=-1))
    rows = there[order] // cells.shape[1]
    yield from zip(flat[order[starts]].tolist(), np.split(rows, starts[1:]), strict=False)  # nothing is split into one piece


def neighbours(cells: Cells, faces: np.ndarray, half: np.ndarray, least: float, most: int) -> Edges:
    """`transforms.similarity.strong_edges` among the faces of each cell; arguments as there."""
    best, fresh = BestEdges(len(faces), least, most), np.ones(len(faces), bool)
    for _, rows in by_cell(cells.nearest(faces)):
        compare_cell(best, faces, half, rows, fresh, cells.spill)
    return best.edges()


def compare_cell(best: BestEdges, faces: np.ndarray, half: np.ndarray, rows: np.ndarray, fresh: np.ndarray,
                 spill: int) -> None:
    """Add the edges between the rows int64 [n] of one cell, ascending, of which one at least is `fresh`, bool [N]; other
    arguments as above. A cell that is too large is split into its own cells, each face in `spill`, if those are smaller."""
    if len(rows) > LARGEST:
        drawn = rows[::max(1, CELL // spill)]
        inside = Cells.around(faces[drawn].astype(np.float32), half[drawn], spill)
        parts = [rows[its] for _, its in by_cell(inside.nearest(faces[rows]))]
        if max(map(len, parts)) < len(rows):
            for part in parts:
                compare_cell(best, faces, half, part, fresh, spill)
            return
    best.compare(faces, half, rows, rows[fresh[rows]])


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
