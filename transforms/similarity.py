"""Similarities of faces that are the same number on every machine, and how crowded a face's neighbourhood is.

Floating-point sums depend on the order in which a library adds, hence on block shapes and threads (2e-6, measured).
Whatever decides is therefore computed on a grid (design, point 7): a unit vector is multiplied by `GRID`, rounded to
integers and kept in float32. Any partial sum of a product of two such vectors, in any order, is at most the product
of their lengths (Cauchy-Schwarz), at most (4000 + sqrt(D) / 2)^2 < 2^24 up to 36 thousand dimensions, so that float32
holds every one of them exactly.

A similarity "in grid units" is such an integer: cosine times `UNIT`."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.cluster.hierarchy import fcluster, linkage

from schemas.embedder import Bounds
from transforms.rows import once
from transforms.sorting import order_by

GRID = 4000
"""Steps in a unit of length: nearly the most for which 2^24 bounds every partial sum (design, point 7)."""
UNIT = GRID * GRID
"""A cosine of 1 in grid units."""
COHORT = 2048
"""Faces in a cohort (design, Identities)."""
NEAREST, FARTHEST = 12, 72
"""Ranks of a whole cohort, own person left out, whose mean similarity says how crowded a neighbourhood is (design,
Identities). A smaller cohort gives the same share of its ranks, so that one set of bounds serves any number of faces: on
the 190 faces found in faces/dev, ranks 1 to 5 want the bounds that 12 to 71 of 2048 generated faces want. With their own
ranks 12 to 71, which reach beyond a look-alike group of 27, no bound at all gave a precision of 0.98 and an F of 0.92
both for everybody and inside that group."""
TIP = 3
"""The first rank of a whole cohort that says, with those up to `NEAREST`, how similarities go on beyond the cohort: a choice,
for the first few are the noisiest."""
CALIBRATED = 20_000
"""Faces up to which bounds hold as they are: the generated sets that they were chosen on have so many (issue "Identities")."""
FALL = 0.4
"""Power of the share that one person makes up with which `provisional_join` falls. Of 0.3, 0.4 and 0.5 the best for a thousand
generated faces of 128 numbers (seeds 0 to 9), and about as good as the others for 200, 500 and 2 thousand."""
FEWEST = 5
"""Ranks to take at least. On random halves and quarters of the people of faces/dev, 4 to 6 keep precision where it is
for all of them (3 and fewer lose recall to noise, more lose precision)."""
BLOCK = 1024
"""Rows and columns of a block product, at most: 4 MiB of float32, so that the passes over it stay in cache. Twice as much is no
faster on 100 thousand generated faces, and takes four times the memory where all of a block are one person's. Results do
not depend on it."""
PANEL = 256
"""Rows of a cell that meet blocks of the rows that follow: the fewer, the fewer pairs meet twice. With 1024 five regions of a
million generated faces of 128 numbers take 3.4 s, with 256 3.0 s. Results do not depend on it."""
ROWS = 128
"""Faces of a cohort that are compared with all of it at a time: 2 MiB of float64. Results do not depend on it."""
MOST = 16
"""Strong edges kept for a face: they only say which clusters to compare. 8 to 64 give the same F to 0.001 on 20 thousand
generated faces."""
ADDED = 1 << 22
"""Numbers of vectors that are added up at a time: 16 MiB of int32."""
WAITING = 1 << 17
"""Edges that may wait before they are pruned: 1.5 MiB, some ten times that while pruning. No result depends on it."""


def on_grid(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1 at most, as integers in steps of 1 / `GRID`, float32 [N, D]. Where many are kept, int16 holds
    them.

    Raises ValueError where a vector is so long that sums might not be exact, or is no number."""
    grid = np.rint(np.asarray(vectors, np.float32) * np.float32(GRID))
    longest = np.einsum("nd,nd->n", grid, grid, dtype=np.float64).max(initial=0.0)
    if not longest < 2**24:
        raise ValueError(f"an embedding is a finite vector of unit length, not of {longest**0.5 / GRID:.4f}")
    return grid


def products(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Similarities of grid vectors [n, D] and [m, D], in grid units, float32 [n, m]; exact."""
    return rows.astype(np.float32, copy=False) @ columns.astype(np.float32, copy=False).T


def squares(rows: np.ndarray) -> np.ndarray:
    """Squared lengths of integer vectors [n, D], float64 [n]; exact up to 2^53."""
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def directions(vectors: np.ndarray) -> np.ndarray:
    """Integer vectors [N, D], each at unit length, float32 [N, D] on the grid; 0 stays 0."""
    return on_grid(vectors / np.maximum(np.sqrt(squares(vectors)), 1.0)[:, None])


def add_to(sums: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> None:
    """Add integer vectors [n, D] to rows int64 [n] of `sums` [N, D]: what `np.add.at` does, which takes 1.6 s where this takes
    0.1 (200 thousand vectors of 128 numbers). The sums of all that are added to a row fit into int32."""
    order = order_by(rows)
    for its in (order[part] for part in ranges(len(order), ADDED // sums.shape[1])):
        starts = np.flatnonzero(np.diff(rows[its], prepend=-1))
        whose = scipy.sparse.csr_matrix((np.ones(len(its), np.int32), np.arange(len(its)), np.append(starts, len(its))),
                                        (len(starts), len(its)))
        sums[rows[its[starts]]] += whose @ vectors[its].astype(np.int32)


def average_linkage(faces: np.ndarray, images: np.ndarray, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
                    least: float) -> np.ndarray:
    """Clusters of few faces, int64 [N] from 0: average linkage on plain cosine, down to a mean cosine of `least`.

    Faces [N, D] on the grid, a few thousand at most; faces with the same number in `images` [N], unless -1,
    never meet, nor do those that share one of `camps` [N, S]; those with the same number in `persons` [N], unless -1, always
    do."""
    count = len(faces)
    if count < 2:
        return np.zeros(count, np.int64)
    distance, filled = np.empty(count * (count - 1) // 2), 0  # above the diagonal, row by row
    for rows in ranges(count, ROWS):
        some = 1.0 - products(faces[rows], faces).astype(np.float64) / UNIT
        apart = ((images[rows, None] == images) & (images[rows] >= 0)[:, None]) | ((camps[rows] @ camps.T).toarray() > 0)
        some[apart] = 4.0 * count ** 2  # one such pair lifts any mean above every cosine's
        some[(persons[rows, None] == persons) & (persons[rows] >= 0)[:, None]] = 0.0
        above = np.maximum(some[np.arange(count) > np.arange(count)[rows, None]], 0.0)
        distance[filled:filled + len(above)] = above
        filled += len(above)
    tree = linkage(distance, "average")
    return fcluster(tree, 1.0 - least, "distance").astype(np.int64) - 1


def provisional_join(faces: np.ndarray, bounds: Bounds) -> float:
    """Mean cosine at which clusters of a cohort become one: `small_join`, and less where one person makes up much of it.

    faces: int16 [M, D], on the grid, as cosines are taken of.

    Joined too late, who makes up a tenth of all faces is among the strangers that say how crowded his own neighbourhood is,
    and is split; joined too early, look-alikes are no strangers. How much a person makes up is seen in the pairs that are
    one person's beyond doubt: in how many such pairs each of their ends is, on average. Up to as many as the first of
    `Cohort.ranks` nobody is in his own way.

    Mean BCubed F of generated faces of 128 numbers, seeds 0 to 9, with `small_join` for all and with this: 200 faces 0.870
    and 0.966, 500 faces 0.893 and 0.976, a thousand 0.950 and 0.980, 2 thousand 0.967 and 0.979; from 5 thousand on (seeds
    0 to 2) it is the same. So it is for 100 people with 10 faces each (of the 20 thousand of seeds 3 to 5), 0.978, where a
    bound that falls with the share of pairs beyond doubt alone joins look-alikes: 0.966."""
    least = bounds.strict_same_person * UNIT
    others = np.zeros(len(faces), np.int64)
    for rows in ranges(len(faces), BLOCK):
        others[rows] = (products(faces[rows], faces) >= least).sum(axis=1) - 1
    share = (others**2).sum() / max(others.sum() * (len(faces) - 1), 1)
    return bounds.small_join * float(max(share * COHORT / NEAREST, 1))**-FALL


@dataclass(frozen=True)
class Cohort:
    """Faces that stand for all, and which of them are taken for one person. Small: it goes to every worker as it
    is."""

    faces: np.ndarray
    """float32 [M, D], on the grid, ordered by provisional cluster, those who are alone in one last."""
    starts: np.ndarray
    """int64 [C], the first row of each provisional cluster."""
    least: float
    """Mean cosine at which provisional clusters were joined, and from which on one of them is a face's own."""
    weight: float
    """`Bounds.crowding_weight`"""
    tail: float
    """How many times similarities grow by what they grow in e-fold rarer ranks: `Bounds.crowding_growth` for each e-fold of
    `CALIBRATED`."""

    @staticmethod
    def of(faces: np.ndarray, images: np.ndarray, count: int, least: float, bounds: Bounds) -> Cohort:
        """Of the `COHORT` first of all `count` faces by hash order, all where there are fewer: int16 [M, D] on the grid, images
        int [M] as `mates.exclusive_images` numbers them; clustered by `average_linkage`, down to `least`."""
        nobody = np.full(len(faces), -1), scipy.sparse.csr_matrix((len(faces), 0), dtype=np.int64)
        cluster = average_linkage(faces, images, *nobody, least)
        order = order_by(np.bincount(cluster)[cluster] == 1, cluster)
        return Cohort(faces[order].astype(np.float32), np.flatnonzero(np.diff(cluster[order], prepend=-1)), least,
                      bounds.crowding_weight, bounds.crowding_growth * float(np.log(max(count, CALIBRATED) / CALIBRATED)))

    @property
    def ranks(self) -> tuple[int, int]:
        """The first and the past-last rank to take; 0 is the most similar."""
        first = NEAREST * len(self.faces) // COHORT
        return first, max(first + FEWEST, FARTHEST * len(self.faces) // COHORT)

    def crowding(self, faces: np.ndarray, block: int = BLOCK) -> np.ndarray:
        """Half the mean similarity of each face to `ranks` of the cohort, own person left out, times `weight`, and `tail` times
        what similarities grow by in e-fold rarer ranks: int64 [N], grid units.

        With the number of faces grows how similar the most similar stranger is, and not by the same for all. On 250 thousand
        generated faces of 128 numbers, seed 3, the best bounds found gave a BCubed F of 0.931 with the mean alone, 0.937 with
        3 steps of growth taken off as well, 0.942 with these and 0.85 of the mean.

        Faces [N, D] on the grid. One's own person is the provisional cluster with the greatest mean
        similarity, if that reaches `least`. Were it not left out, a person who makes up a large part of a set would
        be scaled by himself: on 20 thousand generated faces pairwise recall is 0.88 with it and 0.92 without. Where
        fewer ranks are there, those are taken; 0 of none."""
        half = np.zeros(len(faces), np.int64)
        first, last = self.ranks
        last = min(last, len(self.faces))
        if not last:
            return half
        sizes = np.diff(self.starts, append=len(self.faces))
        cluster = np.repeat(np.arange(len(sizes)), sizes)
        several = int((sizes > 1).sum())
        together = int(sizes[:several].sum())
        for rows in ranges(len(faces), block):
            similarity = products(faces[rows], self.faces)
            sums = np.add.reduceat(similarity[:, :together], self.starts[:several], axis=1, dtype=np.float64)  # exact
            own, value = _greatest(sums / sizes[:several])
            alone, its = _greatest(similarity[:, together:])
            own = np.where(its > value, several + alone, own)
            near = np.flatnonzero(np.maximum(its, value) >= self.least * UNIT)
            similarity[near] = np.where(own[near, None] == cluster, -np.inf, similarity[near])
            nearest = np.partition(similarity, len(self.faces) - last, axis=1)[:, len(self.faces) - last:]
            nearest = np.sort(nearest, axis=1)[:, ::-1].astype(np.float64)
            mean = _mean_of_finite(nearest[:, first:])
            steps = (_mean_of_finite(nearest[:, TIP:first]) - mean) / STEPS if self.tail else 0.0
            half[rows] = np.rint((self.weight * mean + self.tail * steps) / 2).astype(np.int64)
        return half


def _greatest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first column of the greatest value of each row of [n, m], int64 [n], and that value, float64 [n]; -inf of none."""
    if not values.shape[1]:
        return np.zeros(len(values), np.int64), np.full(len(values), -np.inf)
    column = values.argmax(axis=1)
    return column, values[np.arange(len(values)), column].astype(np.float64)


def _mean_of_finite(values: np.ndarray) -> np.ndarray:
    """float64 [n] of the rows [n, m] of integers, 0 where there are none."""
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)


STEPS = float(np.log(np.arange(NEAREST + 1, FARTHEST + 1)).mean() - np.log(np.arange(TIP + 1, NEAREST + 1)).mean())
"""E-folds between the mean rank of `TIP` to `NEAREST` and that of `NEAREST` to `FARTHEST`."""


@dataclass(frozen=True)
class Edges:
    """Pairs of rows, each once, `first` < `second`, in ascending order."""

    first: np.ndarray
    """int64 [E]"""
    second: np.ndarray
    """int64 [E]"""
    similarity: np.ndarray
    """float32 [E], scaled, grid units"""

    def __len__(self) -> int:
        return len(self.first)


def strong_edges(faces: np.ndarray, half: np.ndarray, least: float, most: int, block: int = BLOCK) -> Edges:
    """Pairs whose scaled similarity, cosine less both halves, is at least `least` and among the `most` best of either
    face.

    Faces [N, D] on the grid, half int64 [N] in grid units; ties go to the lower row. Memory grows with N x `most`."""
    best, rows = BestEdges(len(faces), least, most), np.arange(len(faces))
    best.compare(faces, half, rows, rows, block)
    return best.edges()


class BestEdges:
    """The best edges of each row, pruned now and then; what is kept does not depend on when, nor on the order of
    adding, nor on how often an edge is found."""

    def __init__(self, rows: int, least: float, most: int):
        self.least, self.most = np.float32(np.ceil(least * UNIT)), most
        self.floor = np.full(rows, self.least, np.float32)
        """What an edge must reach to be among a row's best so far."""
        self.ends = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))]
        """Of edges: an end, of which it may be among the best, the other end, their similarity."""
        self.waiting, self.limit = 0, WAITING

    def compare(self, faces: np.ndarray, half: np.ndarray, rows: np.ndarray, fresh: np.ndarray, block: int = BLOCK) -> None:
        """Add all edges between `fresh` rows int64 [m] and rows int64 [n], which hold them, both ascending, of faces [N, D] on
        the grid, half int64 [N]."""
        both = rows if len(fresh) == len(rows) else np.concatenate([fresh, np.setdiff1d(rows, fresh, assume_unique=True)])
        vectors, halves = faces[both].astype(np.float32), half[both].astype(np.float32)
        for part in ranges(len(fresh), PANEL):
            reach = (halves[part] + self.least)[:, None]
            for others in ranges(len(both), block, part.start):
                similarity = products(vectors[part], vectors[others])
                similarity -= halves[others]
                found = np.flatnonzero(similarity >= reach)
                for hits in (found[some] for some in ranges(len(found), WAITING)):
                    row, column = np.divmod(hits, similarity.shape[1])
                    first, second = row + part.start, column + others.start
                    upper = first < second  # two fresh rows of a part meet twice, and each itself
                    first, second, values = first[upper], second[upper], similarity.ravel()[hits[upper]]
                    self.add(both[first], both[second], values - halves[first])

    def add(self, first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> None:
        """Offer edges between different rows int [E], similarities float32 [E]."""
        for end, other in ((first, second), (second, first)):
            good = np.flatnonzero(similarity >= self.floor[end])
            self.ends.append((end[good].astype(np.int32), other[good].astype(np.int32), similarity[good]))
            self.waiting += len(good)
        if self.waiting > self.limit:
            self._prune()
            self.limit = max(self.limit, 2 * self.waiting)

    def _prune(self) -> None:
        end, other, similarity = (np.concatenate(column) for column in zip(*self.ends, strict=True))
        best, rank = best_of_each(end, other, similarity, self.most)
        full = best[rank == self.most - 1]
        self.floor[end[full]] = similarity[full]
        self.ends, self.waiting = [(end[best], other[best], similarity[best])], len(best)

    def edges(self) -> Edges:
        """What was kept, in ascending order."""
        self._prune()
        end, other, similarity = self.ends[0]
        first, second = np.minimum(end, other).astype(np.int64), np.maximum(end, other).astype(np.int64)
        chosen, _ = once(first, second)  # of an edge that is among the best of both ends
        return Edges(first[chosen], second[chosen], similarity[chosen])


def best_of_each(end: np.ndarray, other: np.ndarray, similarity: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 [n] of the `most` most similar `other` of each `end`, and which rank each has, int64 [n] from 0, by end and
    rank; of equal ones the lower `other` first, of one that occurs several times the first. Arguments [E], of integers."""
    order = order_by(end, -similarity.astype(np.int64), other)
    end, other = end[order], other[order]
    first, new = np.ones(len(order), bool), np.ones(len(order), bool)
    first[1:] = end[1:] != end[:-1]
    new[1:] = first[1:] | (other[1:] != other[:-1])
    order, starts = order[new], np.flatnonzero(first[new])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    keep = rank < most
    return order[keep], rank[keep]


def ranges(count: int, block: int, start: int = 0) -> Iterator[slice]:
    """Slices of `block` rows that cover `start` to `count`."""
    return (slice(low, min(low + block, count)) for low in range(start, count, block))
