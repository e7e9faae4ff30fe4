"""Similarities of faces that are the same number on every machine, and how crowded a face's neighbourhood is.

Floating-point sums depend on the order in which a library adds, hence on block shapes and threads (2e-6, measured). Whatever
decides is therefore computed on a grid (design, point 7): a unit vector is multiplied by `GRID`, rounded to integers and kept in
float32. Any partial sum of a product of two such vectors, in any order, is at most the product of their lengths (Cauchy-Schwarz),
at most (4000 + sqrt(D) / 2)^2 < 2^24 up to 36 thousand dimensions, so that float32 holds every one of them exactly.

A similarity "in grid units" is such an integer: cosine times `UNIT`."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

GRID = 4000
"""Steps in a unit of length: nearly the most for which 2^24 bounds every partial sum (design, point 7)."""
UNIT = GRID * GRID
"""A cosine of 1 in grid units."""
COHORT = 2048
"""Faces in a cohort (design, Identities)."""
NEAREST, FARTHEST = 12, 72
"""Ranks of a whole cohort, own person left out, whose mean similarity says how crowded a neighbourhood is (design, Identities).
Of a smaller cohort the same share is taken, but six faces at least: on the 183 faces of faces/dev ranks 1 to 7 give the widest
plateau of `join`, 12 to 72 of them none, because they reach beyond a look-alike group of 27."""
BLOCK = 2048
"""Rows and columns of a block product: 16 MiB of float32, so that the passes over it stay in cache."""


def on_grid(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1 at most, as integers in steps of 1 / `GRID`, float32 [N, D].

    Raises ValueError where a vector is so long that sums might not be exact, or is no number."""
    grid = np.rint(np.asarray(vectors, np.float32) * np.float32(GRID))
    longest = np.einsum("nd,nd->n", grid, grid, dtype=np.float64).max(initial=0.0)
    if not longest < 2**24:
        raise ValueError(f"embeddings are unit vectors of finite numbers; the longest here has length {longest**0.5 / GRID:.4f}")
    return grid


def products(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Similarities of grid vectors [n, D] and [m, D], in grid units, float32 [n, m]; exact."""
    return rows @ columns.T


def squares(rows: np.ndarray) -> np.ndarray:
    """Squared lengths of integer vectors [n, D], float64 [n]; exact up to 2^53."""
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def centred(faces: np.ndarray, images: np.ndarray, least: float) -> np.ndarray:
    """Grid vectors float32 [N, D] without the mean that all share, if they share one; else as they are.

    Descriptors such as dlib's share a large mean, which our own backends subtract (design, point 5); vectors of others may still
    have it. It shows in people who are known to differ: two faces of one image. Where their mean cosine reaches `least`, at which two
    faces are one person, the mean of all faces is subtracted. `images` int [N] numbers the images, -1 where a face has no mate.
    Measured: image mates have 0.83 with dlib's raw descriptors, 0.04 centred, at most 0.45 where all are of one population."""
    mates = images >= 0
    if not mates.any():
        return faces
    _, image, count = np.unique(images[mates], return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), faces.shape[1]))
    np.add.at(sums, image, faces[mates])
    pairs = float((count * (count - 1)).sum())
    if pairs == 0 or squares(sums).sum() - squares(faces[mates]).sum() < least * UNIT * pairs:
        return faces
    difference = faces - np.rint(faces.sum(axis=0, dtype=np.float64) / len(faces)).astype(np.float32)
    length = np.sqrt(squares(difference))
    return on_grid(difference / np.maximum(length, 1.0)[:, None])


def hash_order(face_ids: Sequence[str]) -> np.ndarray:
    """Indices int64 [N] of the faces by the digests of their ids: a draw that other faces' coming and going hardly changes."""
    digests = [hashlib.blake2b(face_id.encode(), digest_size=16).digest() for face_id in face_ids]
    return np.array(sorted(range(len(digests)), key=lambda index: (digests[index], face_ids[index])), np.int64)


def average_linkage(faces: np.ndarray, images: np.ndarray, least: float) -> np.ndarray:
    """Clusters of few faces, int64 [N] from 0: average linkage on plain cosine, down to a mean cosine of `least`.

    Faces float32 [N, D] on the grid, a few thousand at most; faces with the same number in `images` [N], unless -1, never meet."""
    if len(faces) < 2:
        return np.zeros(len(faces), np.int64)
    distance = 1.0 - products(faces, faces).astype(np.float64) / UNIT
    together = (images[:, None] == images[None, :]) & (images >= 0)[:, None]
    distance[together] = 4.0 * len(faces) ** 2  # one such pair lifts the mean of any two clusters above every cosine's distance
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.maximum(distance, 0.0), checks=False), "average")
    return fcluster(tree, 1.0 - least, "distance").astype(np.int64) - 1


@dataclass(frozen=True)
class Cohort:
    """Faces that stand for all, and which of them are taken for one person."""

    faces: np.ndarray
    """float32 [M, D], on the grid."""
    cluster: np.ndarray
    """int64 [M], provisional clusters from 0."""
    least: float
    """Mean cosine at which the provisional clusters were joined, and at which a face counts as one's own."""

    @staticmethod
    def of(faces: np.ndarray, face_ids: Sequence[str], images: np.ndarray, least: float) -> Cohort:
        """The first `COHORT` of the faces by hash order, clustered by `average_linkage`."""
        drawn = np.sort(hash_order(face_ids)[:COHORT])
        return Cohort(faces[drawn], average_linkage(faces[drawn], images[drawn], least), least)

    @property
    def ranks(self) -> tuple[int, int]:
        """First and past-last rank to take, from 0, the nearest."""
        first = max(1, NEAREST * len(self.faces) // COHORT)
        return first, max(first + 6, FARTHEST * len(self.faces) // COHORT)

    def crowding(self, faces: np.ndarray, block: int = BLOCK) -> np.ndarray:
        """Half the mean similarity of each face to `ranks` of the cohort less its own person, int64 [N], grid units.

        Faces float32 [N, D] on the grid. A face's own person is the provisional cluster of the greatest mean similarity, if that
        reaches `least`. Without this a person who makes up a large part of a set would be scaled by himself. Other than by its own
        cluster, a face that is in the cohort is treated as any other. With fewer ranks than wanted, those that are there are taken."""
        half = np.zeros(len(faces), np.int64)
        if not len(self.faces):
            return half
        first, last = self.ranks
        last = min(last, len(self.faces))
        order = np.argsort(self.cluster, kind="stable")
        cohort, cluster = self.faces[order], self.cluster[order]
        size = np.bincount(cluster)
        start = np.cumsum(size) - size
        for rows in _ranges(len(faces), block):
            similarity = products(faces[rows], cohort)
            means = np.add.reduceat(similarity.astype(np.float64), start, axis=1) / size  # sums of integers: exact
            own = means.argmax(axis=1)
            has_own = means[np.arange(len(own)), own] >= self.least * UNIT
            similarity[(own[:, None] == cluster[None, :]) & has_own[:, None]] = -np.inf
            nearest = np.partition(similarity, len(cohort) - last, axis=1)[:, len(cohort) - last:]
            nearest = np.sort(nearest, axis=1)[:, ::-1][:, first:].astype(np.float64)
            counted = np.isfinite(nearest)
            sums = np.where(counted, nearest, 0.0).sum(axis=1)
            half[rows] = np.rint(sums / np.maximum(2 * counted.sum(axis=1), 1)).astype(np.int64)
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
    """Pairs whose scaled similarity, cosine less both halves, is at least `least` and among the `most` best of either face.

    Faces float32 [N, D] on the grid, half int64 [N] in grid units; ties go to the lower row. Memory grows with N x `most`."""
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
    """The best edges of each row, pruned now and then; what is kept does not depend on when, nor on the order of adding."""

    def __init__(self, rows: int, least: np.float32, most: int):
        self.least, self.most = least, most
        self.floor = np.full(rows, least, np.float32)
        """What an edge must reach to be among a row's best so far."""
        self.parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))]
        self.waiting, self.limit = 0, 1 << 21

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
