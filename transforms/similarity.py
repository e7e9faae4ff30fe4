"""Similarities of faces that are the same number on every machine, and how crowded a face's neighbourhood is.

Floating-point sums depend on the order in which a library adds, hence on block shapes and threads (2e-6, measured).
Whatever decides is therefore computed on a grid (design, point 7): a unit vector is multiplied by `GRID`, rounded to
integers and kept in float32. Any partial sum of a product of two such vectors, in any order, is at most the product
of their lengths (Cauchy-Schwarz), at most (4000 + sqrt(D) / 2)^2 < 2^24 up to 36 thousand dimensions, so that float32
holds every one of them exactly.

A similarity "in grid units" is such an integer: cosine times `UNIT`."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from transforms import digests

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
FEWEST = 5
"""Ranks to take at least. On random halves and quarters of the people of faces/dev, 4 to 6 keep precision where it is
for all of them (3 and fewer lose recall to noise, more lose precision)."""
BLOCK = 1024
"""Rows and columns of a block product: 4 MiB of float32, so that the passes over it stay in cache. Twice as much is no
faster on 100 thousand generated faces, and takes four times the memory where all of a block are one person's. Results do
not depend on it."""
WAITING = 1 << 19
"""Edges that may wait before they are pruned: 6 MiB, some ten times that while pruning. No result depends on it."""
EVIDENCE = 10
"""Images with several people from which on their likeness speaks of all vectors, not of twins: a plain choice."""


def on_grid(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1 at most, as integers in steps of 1 / `GRID`, float32 [N, D].

    Raises ValueError where a vector is so long that sums might not be exact, or is no number."""
    grid = np.rint(np.asarray(vectors, np.float32) * np.float32(GRID))
    longest = np.einsum("nd,nd->n", grid, grid, dtype=np.float64).max(initial=0.0)
    if not longest < 2**24:
        raise ValueError(f"an embedding is a finite vector of unit length, not of {longest**0.5 / GRID:.4f}")
    return grid


def products(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Similarities of grid vectors [n, D] and [m, D], in grid units, float32 [n, m]; exact."""
    return rows @ columns.T


def squares(rows: np.ndarray) -> np.ndarray:
    """Squared lengths of integer vectors [n, D], float64 [n]; exact up to 2^53."""
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def centred(faces: np.ndarray, images: np.ndarray, least: float) -> np.ndarray:
    """Grid vectors float32 [N, D] without the mean that all share, if they share one; else as they are.

    Descriptors such as dlib's share a large mean, which our own backends subtract (design, point 5); vectors of
    others may still have it. It shows in people who are known to differ: two faces of one image. Where their mean
    cosine reaches `least`, at which two faces are one person, the mean of all faces is subtracted. `images` int [N]
    numbers the images, -1 where a face has no mate. Measured: image mates have 0.83 with dlib's raw descriptors, 0.04
    centred, at most 0.45 where all are of one population."""
    mates = images >= 0
    if not mates.any():
        return faces
    _, image, count = np.unique(images[mates], return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), faces.shape[1]))
    np.add.at(sums, image, faces[mates])
    pairs = float((count * (count - 1)).sum())
    if len(count) < EVIDENCE or squares(sums).sum() - squares(faces[mates]).sum() < least * UNIT * pairs:
        return faces
    difference = faces - np.rint(faces.sum(axis=0, dtype=np.float64) / len(faces)).astype(np.float32)
    length = np.sqrt(squares(difference))
    return on_grid(difference / np.maximum(length, 1.0)[:, None])


def hash_order(face_ids: Sequence[str]) -> np.ndarray:
    """Indices int64 [N] of the faces by the digests of their ids: a draw that other faces' coming and going hardly
    changes."""
    keys = [(digests.of(face_id), face_id) for face_id in face_ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def average_linkage(faces: np.ndarray, images: np.ndarray, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
                    least: float) -> np.ndarray:
    """Clusters of few faces, int64 [N] from 0: average linkage on plain cosine, down to a mean cosine of `least`.

    Faces float32 [N, D] on the grid, a few thousand at most; faces with the same number in `images` [N], unless -1,
    never meet, nor do those that share one of `camps` [N, S]; those with the same number in `persons` [N], unless -1, always
    do."""
    if len(faces) < 2:
        return np.zeros(len(faces), np.int64)
    distance = 1.0 - products(faces, faces).astype(np.float64) / UNIT
    apart = ((images[:, None] == images[None, :]) & (images >= 0)[:, None]) | ((camps @ camps.T).toarray() > 0)
    distance[apart] = 4.0 * len(faces) ** 2  # one such pair lifts any mean above every cosine's
    distance[(persons[:, None] == persons[None, :]) & (persons >= 0)[:, None]] = 0.0
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.maximum(distance, 0.0), checks=False), "average")
    return fcluster(tree, 1.0 - least, "distance").astype(np.int64) - 1


@dataclass(frozen=True)
class Cohort:
    """Faces that stand for all, and which of them are taken for one person. Small: it goes to every worker as it
    is."""

    faces: np.ndarray
    """float32 [M, D], on the grid, ordered by provisional cluster."""
    starts: np.ndarray
    """int64 [C], the first row of each provisional cluster."""
    least: float
    """Mean cosine at which provisional clusters were joined, and from which on one of them is a face's own."""

    @staticmethod
    def of(faces: np.ndarray, face_ids: Sequence[str], images: np.ndarray, persons: np.ndarray,
           camps: scipy.sparse.csr_matrix, least: float) -> Cohort:
        """The first `COHORT` faces by hash order, clustered by `average_linkage`; other arguments as there."""
        drawn = hash_order(face_ids)[:COHORT]
        cluster = average_linkage(faces[drawn], images[drawn], persons[drawn], camps[drawn], least)
        order = np.argsort(cluster, kind="stable")
        return Cohort(faces[drawn][order], np.flatnonzero(np.diff(cluster[order], prepend=-1)), least)

    @property
    def ranks(self) -> tuple[int, int]:
        """The first and the past-last rank to take; 0 is the most similar."""
        first = NEAREST * len(self.faces) // COHORT
        return first, max(first + FEWEST, FARTHEST * len(self.faces) // COHORT)

    def crowding(self, faces: np.ndarray, block: int = BLOCK) -> np.ndarray:
        """Half the mean similarity of each face to `ranks` of the cohort, own person left out: int64 [N], grid units.

        Faces float32 [N, D] on the grid. One's own person is the provisional cluster with the greatest mean
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
        for rows in _ranges(len(faces), block):
            similarity = products(faces[rows], self.faces)
            means = np.add.reduceat(similarity, self.starts, axis=1, dtype=np.float64) / sizes  # of integers: exact
            own = means.argmax(axis=1)
            own[means.max(axis=1) < self.least * UNIT] = -1
            similarity[own[:, None] == cluster[None, :]] = -np.inf
            nearest = np.partition(similarity, len(self.faces) - last, axis=1)[:, len(self.faces) - last:]
            nearest = np.sort(nearest, axis=1)[:, ::-1][:, first:].astype(np.float64)
            others = np.isfinite(nearest)
            sums = np.where(others, nearest, 0.0).sum(axis=1)
            half[rows] = np.rint(sums / np.maximum(2 * others.sum(axis=1), 1)).astype(np.int64)
        return half


@dataclass(frozen=True)
class Edges:
    """Pairs of rows, each once, `first` < `second`, in ascending order."""

    first: np.ndarray
    """int64 [E]"""
    second: np.ndarray
    """int64 [E]"""

    def __len__(self) -> int:
        return len(self.first)


def strong_edges(faces: np.ndarray, half: np.ndarray, least: float, most: int, block: int = BLOCK) -> Edges:
    """Pairs whose scaled similarity, cosine less both halves, is at least `least` and among the `most` best of either
    face.

    Faces float32 [N, D] on the grid, half int64 [N] in grid units; ties go to the lower row. Memory grows with N x
    `most`."""
    best = _BestEdges(len(faces), np.float32(np.ceil(least * UNIT)), most)
    half = half.astype(np.float32)
    for rows in _ranges(len(faces), block):
        for columns in _ranges(len(faces), block, rows.start):
            similarity = products(faces[rows], faces[columns])
            similarity -= half[rows, None]
            similarity -= half[None, columns]
            row, column = np.divmod(np.flatnonzero(similarity >= best.least), similarity.shape[1])
            best.add(row + rows.start, column + columns.start, similarity[row, column])
    return best.edges()


class _BestEdges:
    """The best edges of each row, pruned now and then; what is kept does not depend on when, nor on the order of
    adding."""

    def __init__(self, rows: int, least: np.float32, most: int):
        self.least, self.most = least, most
        self.floor = np.full(rows, least, np.float32)
        """What an edge must reach to be among a row's best so far."""
        self.parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))]
        self.waiting, self.limit = 0, WAITING

    def add(self, first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> None:
        """Offer edges int [E], similarities float32 [E]; those with first >= second are passed over."""
        keep = (first < second) & (similarity >= np.minimum(self.floor[first], self.floor[second]))
        self.parts.append((first[keep].astype(np.int32), second[keep].astype(np.int32), similarity[keep]))
        self.waiting += int(keep.sum())
        if self.waiting > self.limit:
            self._prune()
            self.limit = max(self.limit, 2 * self.waiting)

    def _prune(self) -> None:
        first, second, similarity = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        count = len(first)
        end, other = np.concatenate([first, second]), np.concatenate([second, first])
        order = np.lexsort((other, -np.tile(similarity, 2), end))
        end = end[order]
        rank = np.arange(len(end)) - np.searchsorted(end, np.arange(len(self.floor)))[end]
        keep = np.zeros(count, bool)
        keep[order[rank < self.most] % count] = True
        full = rank == self.most - 1
        self.floor[end[full]] = similarity[order[full] % count]
        self.parts = [(first[keep], second[keep], similarity[keep])]
        self.waiting = int(keep.sum())

    def edges(self) -> Edges:
        """What was kept, in ascending order."""
        self._prune()
        first, second, _ = self.parts[0]
        order = np.lexsort((second, first))
        return Edges(first[order].astype(np.int64), second[order].astype(np.int64))


def _ranges(count: int, block: int, start: int = 0) -> Iterator[slice]:
    """Slices of `block` rows that cover `start` to `count`."""
    return (slice(low, min(low + block, count)) for low in range(start, count, block))
