"""Average linkage of clusters that fit into memory: stars, down a ladder (design, Identities).

Everything that decides is computed from integers, and ties go to the lower row: the same clusters in the same order give the
same result, in blocks of any shape, with any number of threads."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse

from transforms.similarity import GRID, UNIT, add_to

STEP = 0.02
"""A rung of the ladder, as a cosine: within it all clusters move at once. A tenth of it, nearly the exact order of single
merges, gives the same F to 0.002 on 20 thousand generated faces."""
TOLERATED = 0.05
"""Image mates between two clusters, as a share of the smaller one's faces, that do not forbid a merge (design,
Identities): one wrong face must not keep apart a person with hundreds."""
MOST_FACES = 2**31 // (GRID + 1)
"""Faces whose sum is sure to fit into int32."""
CHUNK = 1 << 22
"""Numbers gathered at a time where pairs of rows are multiplied: 32 MiB of float64."""


@dataclass
class Clusters:
    """Sums over the faces of each of n clusters, from which the mean similarity of any two follows exactly: S_A·S_B / (|A| |B|)
    less the means of their faces' halves."""

    size: np.ndarray
    """int64 [n], faces"""
    half: np.ndarray
    """int64 [n], of `Cohort.crowding`, grid units"""
    sums: np.ndarray
    """int32 [n, D], of vectors on the grid"""
    seen: scipy.sparse.csr_matrix
    """int64 [n, images], faces in each image that keeps faces apart"""
    said: scipy.sparse.csr_matrix
    """int64 [n, camps], faces in each camp"""

    def average(self, first: np.ndarray, others: Clusters, second: np.ndarray) -> np.ndarray:
        """Mean scaled similarity float64 [P], grid units, of clusters int64 [P] and others [P]; products are exact up to 2^53:
        23 thousand faces by 23 thousand."""
        dot = np.empty(len(first))
        for pairs in chunks(len(first), self.sums.shape[1]):
            dot[pairs] = np.einsum("nd,nd->n", self.sums[first[pairs]], others.sums[second[pairs]], dtype=np.float64)
        halves = self.half[first] / self.size[first] + others.half[second] / others.size[second]
        return dot / (self.size[first] * others.size[second]) - halves

    def forbidden(self, first: np.ndarray, others: Clusters, second: np.ndarray) -> np.ndarray:
        """bool [P]: people who are said to be two, or more image mates than are tolerated of the smaller cluster; of fewer than
        20 faces that is none. Or so many faces that their sum might not be exact."""
        mates = np.zeros(len(first), np.int64)
        for pairs in chunks(len(first), 16):
            mates[pairs] = np.asarray(self.seen[first[pairs]].multiply(others.seen[second[pairs]]).sum(axis=1)).ravel()
        two = np.asarray(self.said[first].multiply(others.said[second]).sum(axis=1)).ravel() > 0
        size, other = self.size[first], others.size[second]
        return two | (size + other >= MOST_FACES) | (mates > TOLERATED * np.minimum(size, other))


class Pairs(NamedTuple):
    """Pairs of clusters that may merge."""

    low: np.ndarray
    """int64 [P], a cluster"""
    high: np.ndarray
    """int64 [P], the other one, a higher number"""
    average: np.ndarray
    """float64 [P], mean scaled similarity of their faces, grid units; -inf where there is no pair any more"""
    forbidden: np.ndarray
    """bool [P], too many of their faces are image mates"""

    def where(self, chosen: np.ndarray) -> Pairs:
        return Pairs(*(column[chosen] for column in self))

    def put(self, places: np.ndarray, pairs: Pairs) -> None:
        """Put pairs into some of the places int64 [n], no fewer; what stood in the others is no pair any more."""
        for column, new in zip(self, pairs, strict=True):
            column[places[:len(new)]] = new
        self.average[places[len(pairs.low):]] = -np.inf


class Merging:
    """Clusters that merge; each is known by the row of the one that it began with."""

    def __init__(self, clusters: Clusters) -> None:
        """Sums are changed in place."""
        self.label = np.arange(len(clusters.size))
        """int64 [n], the cluster in which each has come to be."""
        self.now = clusters
        self.seen, self.said = clusters.seen, clusters.said

    def join_persons(self, persons: np.ndarray) -> None:
        """Make those one that have one number in `persons`, int64 [n], not -1."""
        known = np.flatnonzero(persons >= 0)
        _, first, number = np.unique(persons[known], return_index=True, return_inverse=True)
        self._join(known, known[first[number]])

    def descend(self, pairs: Pairs, least: float) -> None:
        """Merge the most similar first, down to a mean scaled similarity of `least`, a cosine. Pairs change in place."""
        highest = pairs.average.max(initial=least * UNIT) / UNIT
        for rung in range(int(np.ceil(max(highest - least, 0) / STEP)), -1, -1):
            while (ready := (pairs.average >= (least + rung * STEP) * UNIT) & ~pairs.forbidden).any():
                changed = np.zeros(len(self.label), bool)
                changed[self._merge(pairs.where(ready))] = True
                stale = np.flatnonzero((changed[pairs.low] | changed[pairs.high]) & (pairs.average > -np.inf))
                pairs.put(stale, self._pairs(pairs.low[stale], pairs.high[stale]))

    def _pairs(self, first: np.ndarray, second: np.ndarray) -> Pairs:
        """The different pairs of clusters that rows int64 [E] and [E] are in by now."""
        count = len(self.label)
        first, second = self.label[first], self.label[second]
        low, high = np.minimum(first, second), np.maximum(first, second)
        low, high = np.divmod(np.unique((low * count + high)[low != high]), max(count, 1))
        return Pairs(low, high, self.now.average(low, self.now, high), self.now.forbidden(low, self.now, high))

    def _merge(self, pairs: Pairs) -> np.ndarray:
        """Let every cluster join its best larger neighbour, all at once; gives the clusters that changed. At least
        one does.

        Stars: of two neighbours the smaller moves (of equals the higher row), and nobody joins a cluster that moves
        itself. Of two that would bring faces of one image, or of one camp, to one centre, the more similar comes
        first and the other waits for the next round."""
        up = self.now.size[pairs.low] < self.now.size[pairs.high]
        small, centre = np.where(up, pairs.low, pairs.high), np.where(up, pairs.high, pairs.low)
        best = np.lexsort((centre, -pairs.average, small))
        best = best[np.diff(small[best], prepend=-1) != 0]
        moves = np.zeros(len(self.label), bool)
        moves[small] = True
        best = best[~moves[centre[best]]]
        best = best[np.lexsort((small[best], -pairs.average[best]))]
        small, centre = small[best], centre[best]
        arrives = _first_of_their(self.now.seen, small, centre) & _first_of_their(self.now.said, small, centre)
        small, centre = small[arrives], centre[arrives]
        self._join(small, centre)
        return np.concatenate([small, centre])

    def _join(self, small: np.ndarray, centre: np.ndarray) -> None:
        """Put clusters int64 [M] into others [M], which do not move; one that is its own centre stays."""
        small, centre = small[small != centre], centre[small != centre]
        np.add.at(self.now.size, centre, self.now.size[small])
        np.add.at(self.now.half, centre, self.now.half[small])
        for rows in chunks(len(small), self.now.sums.shape[1]):
            add_to(self.now.sums, centre[rows], self.now.sums[small[rows]])
        target = np.arange(len(self.label))
        target[small] = centre
        self.label = target[self.label]
        whose = scipy.sparse.csr_matrix((np.ones(len(self.label), np.int64), (self.label, np.arange(len(self.label)))),
                                        (len(self.label),) * 2)
        self.now.seen, self.now.said = whose @ self.seen, whose @ self.said


def _first_of_their(seen: scipy.sparse.csr_matrix, small: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """bool [M]: no cluster before this one in `small` [M] brings a face of one of its images, or camps, to the same
    centre. `seen`: int64 [N, images]."""
    found = seen[small].tocoo()
    cell = centre[found.row].astype(np.int64) * seen.shape[1] + found.col
    order = np.lexsort((found.row, cell))
    late = np.diff(cell[order], prepend=-1) == 0
    first = np.ones(len(small), bool)
    first[found.row[order[late]]] = False
    return first


def chunks(count: int, width: int) -> Iterator[slice]:
    """Slices that cover `count` rows of `width` numbers, about `CHUNK` numbers each."""
    rows = max(1, CHUNK // max(width, 1))
    return (slice(start, start + rows) for start in range(0, count, rows))
