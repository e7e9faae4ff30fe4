"""Faces into people: strong edges, then average linkage down a ladder, two faces of one image kept apart.

    unit vectors -> grid -> cohort -> crowding -> strong edges -> linkage -> lone faces -> outliers (design, Identities)

Everything that decides is computed from integers (`transforms.similarity`), and ties go to the lower row: the same faces in
the same order give the same bytes, in blocks of any shape, with any number of threads. `Linkage` treats what no edge connects
independently, so that the components of the edges can be linked apart, in any number of pieces.

Measured on 20 thousand generated faces and left out: linking clusters by the similarity of their normalised means (a few
dozen merges, F the same to 0.0005); a floor that falls as clusters grow (0.949 for 0.948); faces of low quality that may
join and never bridge (F 0.960 for 0.970 where a face below 0.4 keeps its best edge alone: fewer true edges reach a bad
face, and hardly more false ones)."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse

from schemas.embedder import Bounds
from transforms.cells import Cells, best_of_cells, neighbours
from transforms.mates import exclusive_images, same_person_twice
from transforms.similarity import (
    COHORT,
    GRID,
    UNIT,
    Cohort,
    Edges,
    Mean,
    average_linkage,
    hash_order,
    on_grid,
    squares,
    without,
)

FEW = 30
"""Faces below which there is no cohort worth the name (design): plain average linkage. On random 12 pictures of
faces/dev it has a BCubed F of 0.99 and a pairwise precision of 0.96, scaling 0.98 and 0.83."""
MOST = 16
"""Strong edges kept for a face: they only say which clusters to compare. 8 to 64 give the same F to 0.001 on 20 thousand
generated faces."""
STEP = 0.02
"""A rung of the ladder, as a cosine: within it all clusters move at once. A tenth of it, nearly the exact order of single
merges, gives the same F to 0.002 on 20 thousand generated faces."""
TOLERATED = 0.05
"""Image mates between two clusters, as a share of the smaller one's faces, that do not forbid a merge (design,
Identities): one wrong face must not keep apart a person with hundreds."""
ADOPTERS = 4
"""Faces of a cluster that a lone face may join without a strong edge. With 3 or 6 F is the same to 0.0005 on 20 thousand
generated faces, seeds 3 and 4."""
MOST_FACES = 2**31 // (GRID + 1)
"""Faces whose sum is sure to fit into int32."""
CHUNK = 1 << 22
"""Numbers gathered at a time where pairs of rows are multiplied: 32 MiB of float64."""


@dataclass(frozen=True)
class Graph:
    """Which faces are alike, on the whole: what people are made of."""

    faces: np.ndarray
    """int16 [N, D], on the grid"""
    half: np.ndarray
    """int64 [N], `Cohort.crowding`"""
    images: np.ndarray
    """int64 [N], `exclusive_images`"""
    cells: Cells
    edges: Edges

    @staticmethod
    def of(embeddings: np.ndarray, face_ids: Sequence[str], images: np.ndarray, bounds: Bounds) -> Graph:
        """Of no more faces than one cell holds.

        embeddings: float32 [N, D], unit rows; face_ids: N different strings; images: int [N], the same number for the faces of
        one image.

        Raises ValueError where a vector is too long or not finite."""
        grid = on_grid(embeddings)
        faces = without(grid, Mean.of(grid, exclusive_images(images, np.zeros(len(images), bool))).shared(bounds.small_join))
        drawn = hash_order(face_ids)[:COHORT]
        half = Cohort.of(faces[drawn], images[drawn], len(faces), bounds).crowding(faces)
        exempt = same_person_twice(faces, images, bounds.strict_same_person * UNIT)
        cells = Cells.one(faces.shape[1])
        return Graph(faces, half, exclusive_images(images, exempt), cells, neighbours(cells, faces, half, bounds.edge, MOST))

    def of_rows(self, rows: np.ndarray) -> Graph:
        """Of some faces int64 [n], ascending."""
        if len(rows) == len(self.faces):
            return self
        place = np.full(len(self.faces), -1)
        place[rows] = np.arange(len(rows))
        ours = (place[self.edges.first] >= 0) & (place[self.edges.second] >= 0)
        edges = Edges(place[self.edges.first[ours]], place[self.edges.second[ours]], self.edges.similarity[ours])
        return Graph(self.faces[rows], self.half[rows], self.images[rows], self.cells, edges)


def cluster_faces(graph: Graph, bounds: Bounds, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
                  merged: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The person of each face: labels int64 [N], numbered by their first row, -1 for an outlier; and the cosine
    float32 [N] of each face to the mean of those it was put together with (an outlier's too).

    persons: int [N], the same number for faces that are known to be one person, -1 for all others: links that must be,
        whatever the vectors say
    camps: int64 [N, S], sparse: faces with a camp in common are known to be two people, unless they have one number in
        `persons`: links that must not be
    merged: rows of faces, int [M] each, whose clusters are made one in the end
    bounds: of the embedder. `small_join` alone rules where there are fewer than `FEW` faces; where there are more, `join` and
        `adopt` rule"""
    if len(graph.faces) < FEW:
        label = average_linkage(graph.faces, graph.images, persons, camps, bounds.small_join)
    else:
        label = link(graph, persons, camps, bounds.join, bounds.edge)
        settled = np.where(np.diff(camps.indptr) > 0, 0, persons)  # of whom something is said: not for a mean to decide
        label = adopt(graph, settled, label, bounds.adopt, bounds.join)
    sure = persons >= 0
    sure[np.concatenate([*merged, np.zeros(0, np.int64)])] = True
    similarity = central_similarity(graph.faces, label)
    lost = (similarity < bounds.outlier) & ~sure  # of those who looked alike, before any are merged
    for rows in merged:
        label[np.isin(label, label[rows])] = label[rows].min(initial=len(label))
    if len(merged):
        similarity = central_similarity(graph.faces, label)
    return numbered(np.where(lost, -1, label)), similarity.astype(np.float32)


def link(graph: Graph, persons: np.ndarray, camps: scipy.sparse.csr_matrix, least: float,
         whole: float | None = None) -> np.ndarray:
    """Clusters of faces: int64 [N], each labelled by one of its rows.

    persons: int64 [N] and camps: as in `cluster_faces`; least: the mean scaled similarity of a merge. whole: clusters whose
    mean scaled similarity reaches it are compared too, for some of their faces have an edge so strong that was left out: a
    burst of more than `MOST` pictures fills the edges of all its faces."""
    linkage = Linkage(graph.faces, graph.half, graph.images, persons, camps)
    linkage.descend(graph.edges, least)
    if whole is not None:
        fresh = np.unique(linkage.label)
        while len(fresh):
            fresh = linkage.descend(linkage.edges(graph.cells, whole, fresh), least)
    return linkage.label


def adopt(graph: Graph, persons: np.ndarray, label: np.ndarray, least: float, lead: float) -> np.ndarray:
    """Labels int64 [N] in which faces left alone have joined the large cluster that they are most like.

    A mean over several faces of a person is surer than one edge, so that none is asked for: the mean scaled similarity
    must reach `least` and be `lead` above that to any other cluster of two or more that shares a cell with the face (both
    cosines). Of two faces of one image the more similar joins; a known person stays where they are. Other arguments as in
    `link`."""
    faces, half = graph.faces, graph.half
    sums, first, cluster, size = Sums.of_clusters(faces, label)
    several = np.flatnonzero(size > 1)
    lone = np.flatnonzero((size[cluster] == 1) & (persons < 0))
    if not len(several) or not len(lone):
        return label
    halves = np.zeros(len(first))
    np.add.at(halves, cluster, half)
    halves, size, several = halves[several], size[several], first[several]

    def averages(some: np.ndarray, whose: np.ndarray) -> np.ndarray:
        """Mean scaled similarity of lone faces [n] to clusters [m], float64 [n, m]."""
        dots = faces[lone[some]].astype(np.float64) @ sums.of(several[whose]).T.astype(np.float64)
        return (dots - halves[whose]) / size[whose] - half[lone[some]][:, None]

    wish = best_of_cells(graph.cells.nearest(faces[lone]), graph.cells.nearest(sums.means(several, size)), averages)
    seen = np.flatnonzero(graph.images >= 0)
    taken = set(zip(first[cluster[seen]].tolist(), graph.images[seen].tolist(), strict=True))
    sure = (wish.value >= least * UNIT) & (wish.value - wish.second >= lead * UNIT) & (size[wish.column] >= ADOPTERS)
    label = label.copy()
    for _, row, centre in sorted(zip((-wish.value[sure]).tolist(), lone[sure].tolist(), several[wish.column[sure]].tolist(),
                                     strict=True)):
        image = int(graph.images[row])
        if image < 0 or (centre, image) not in taken:
            taken.add((centre, image))
            label[row] = label[centre]
    return label


def central_similarity(faces: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Cosine float64 [N] of each face, [N, D] on the grid, to the mean of its cluster, label int64 [N]."""
    sums, first, cluster, _ = Sums.of_clusters(faces, label)
    shadow, length = np.empty(len(faces)), np.empty(len(first))
    for some in _chunks(len(first), faces.shape[1]):
        length[some] = np.sqrt(squares(sums.of(first[some])))
    for rows in _chunks(len(faces), faces.shape[1]):
        own = sums.of(first[cluster[rows]])
        dots = np.einsum("nd,nd->n", faces[rows], own, dtype=np.float64)
        shadow[rows] = dots / np.maximum(np.sqrt(squares(faces[rows])), 1.0)
    return shadow / np.maximum(length[cluster], 1.0)  # 0 where the faces of a cluster cancel out


def numbered(label: np.ndarray) -> np.ndarray:
    """Labels int64 [N] numbered from 0 in the order in which they first occur; negative ones become -1."""
    known = label >= 0
    _, first, cluster = np.unique(label[known], return_index=True, return_inverse=True)
    result = np.full(len(label), -1, np.int64)
    result[known] = np.argsort(np.argsort(first))[cluster]
    return result


class Sums:
    """Sums of the vectors of clusters: a face's own vector as long as it is alone, so that there are half as many sums as faces
    at most."""

    def __init__(self, faces: np.ndarray) -> None:
        """faces: int16 [N, D], on the grid. Every one is a cluster."""
        self.faces = faces
        self.place = np.full(len(faces), -1)
        """int64 [N], where a cluster's sum stands, -1 for a face alone."""
        self.table = np.empty((len(faces) // 2 + 1, faces.shape[1]), np.int32)  # memory is taken where it is written
        self.free = np.arange(len(self.table))[::-1]
        """int64, places of no cluster; the next one is last."""

    @staticmethod
    def of_clusters(faces: np.ndarray, label: np.ndarray) -> tuple[Sums, np.ndarray, np.ndarray, np.ndarray]:
        """Of clusters of faces [N, D], label int64 [N]; with them the first row of each, int64 [C], by which its sum is known,
        the place in that of each face's, int64 [N], and the sizes, int64 [C]."""
        _, first, cluster, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
        sums, rows = Sums(faces), np.arange(len(label))
        others = np.flatnonzero(first[cluster] != rows)
        sums.add(others, first[cluster[others]])
        return sums, first, cluster, size

    def of(self, clusters: np.ndarray) -> np.ndarray:
        """int32 [n, D] of clusters int64 [n]."""
        sums = self.faces[clusters].astype(np.int32)
        place = self.place[clusters]
        grown = np.flatnonzero(place >= 0)
        sums[grown] = self.table[place[grown]]
        return sums

    def means(self, clusters: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Mean vectors int16 [n, D], on the grid, of clusters int64 [n] of so many faces."""
        means = np.empty((len(clusters), self.faces.shape[1]), np.int16)
        for rows in _chunks(*means.shape):
            means[rows] = np.rint(self.of(clusters[rows]) / size[rows, None])
        return means

    def add(self, small: np.ndarray, centre: np.ndarray) -> None:
        """Put clusters int64 [M] into others [M], none of which is put anywhere."""
        new = np.unique(centre[self.place[centre] < 0])
        self.place[new] = self.free[len(self.free) - len(new):]
        self.free = self.free[:len(self.free) - len(new)]
        for rows in _chunks(len(new), self.faces.shape[1]):
            self.table[self.place[new[rows]]] = self.faces[new[rows]]
        for rows in _chunks(len(small), self.faces.shape[1]):
            np.add.at(self.table, self.place[centre[rows]], self.of(small[rows]))
        gone = small[self.place[small] >= 0]
        self.free = np.concatenate([self.free, self.place[gone]])
        self.place[gone] = -1


class Pairs(NamedTuple):
    """Pairs of clusters that an edge connects."""

    low: np.ndarray
    """int32 [P], a cluster"""
    high: np.ndarray
    """int32 [P], the other one, a higher number"""
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


class Linkage:
    """Clusters that merge. A cluster is known by the row of the face that it began with, and described by sums over
    its faces, from which the mean similarity of any two follows exactly: S_A·S_B / (|A| |B|) less the means of their faces'
    halves."""

    label: np.ndarray
    """int64 [N], the cluster of each face."""
    size: np.ndarray
    """int64 [N], faces of a cluster."""
    sums: Sums
    """Of a cluster's vectors."""
    half: np.ndarray
    """int64 [N], sum of its faces' halves, grid units."""
    seen: scipy.sparse.csr_matrix
    """int64 [N, images], a cluster's faces in each image that keeps faces apart."""
    said: scipy.sparse.csr_matrix
    """int64 [N, S], a cluster's faces in each camp."""

    def __init__(self, faces: np.ndarray, half: np.ndarray, images: np.ndarray, persons: np.ndarray,
                 camps: scipy.sparse.csr_matrix) -> None:
        """Every face is a cluster, and every known person; arguments as in `link`."""
        self.label = np.arange(len(faces))
        self.size = np.ones(len(faces), np.int64)
        self.sums = Sums(faces)
        self.half = half.copy()
        self.images, self.camps = images, camps
        known = np.flatnonzero(persons >= 0)
        _, first, number = np.unique(persons[known], return_index=True, return_inverse=True)
        self._join(known, known[first[number]])

    def edges(self, cells: Cells, least: float, fresh: np.ndarray) -> Edges:
        """Pairs of clusters, the rows that they are known by, one of them `fresh`, int64 [n], whose mean scaled similarity is
        at least about `least`, a cosine: a mean vector is rounded to the grid, to 1e-4, only to choose what `descend` compares
        exactly."""
        clusters = np.unique(self.label)
        size = self.size[clusters]
        halves = np.rint(self.half[clusters] / size).astype(np.int64)
        found = neighbours(cells, self.sums.means(clusters, size), halves, least, MOST, np.isin(clusters, fresh))
        return Edges(clusters[found.first], clusters[found.second], found.similarity)

    def descend(self, edges: Edges, least: float) -> np.ndarray:
        """Merge whatever `edges` connect, the most similar first, down to a mean scaled similarity of `least`, a
        cosine; gives the clusters int64 [n] that have grown."""
        before = self.size.copy()
        pairs = self._pairs(edges.first, edges.second)
        highest = pairs.average.max(initial=least * UNIT) / UNIT
        for rung in range(int(np.ceil(max(highest - least, 0) / STEP)), -1, -1):
            while (ready := (pairs.average >= (least + rung * STEP) * UNIT) & ~pairs.forbidden).any():
                changed = np.zeros(len(self.label), bool)
                changed[self._merge(pairs.where(ready))] = True
                stale = np.flatnonzero((changed[pairs.low] | changed[pairs.high]) & (pairs.average > -np.inf))
                pairs.put(stale, self._pairs(pairs.low[stale], pairs.high[stale]))
        return np.flatnonzero((self.size > before) & (self.label == np.arange(len(self.label))))

    def _pairs(self, first: np.ndarray, second: np.ndarray) -> Pairs:
        """The different pairs of clusters that rows int64 [E] and [E] are in by now."""
        count = len(self.label)
        first, second = self.label[first], self.label[second]
        low, high = np.minimum(first, second), np.maximum(first, second)
        low, high = np.divmod(np.unique((low * count + high)[low != high]), max(count, 1))
        low, high = low.astype(np.int32), high.astype(np.int32)
        return Pairs(low, high, self._average(low, high), self._forbidden(low, high))

    def _average(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Mean scaled similarities float64 [P], grid units; products are exact up to 2^53: 23 thousand faces by 23
        thousand."""
        dot = np.empty(len(low))
        for pairs in _chunks(len(low), self.sums.faces.shape[1]):
            dot[pairs] = np.einsum("nd,nd->n", self.sums.of(low[pairs]), self.sums.of(high[pairs]), dtype=np.float64)
        half = self.half / self.size
        return dot / (self.size[low] * self.size[high]) - half[low] - half[high]

    def _forbidden(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """bool [P]: people who are said to be two, or more image mates than are tolerated of the smaller cluster; of fewer
        than 20 faces that is none. Or so many faces that their sum might not be exact."""
        mates = np.zeros(len(low), np.int64)
        for pairs in _chunks(len(low), 16):
            mates[pairs] = np.asarray(self.seen[low[pairs]].multiply(self.seen[high[pairs]]).sum(axis=1)).ravel()
        two = np.asarray(self.said[low].multiply(self.said[high]).sum(axis=1)).ravel() > 0
        many = self.size[low] + self.size[high] >= MOST_FACES
        return two | many | (mates > TOLERATED * np.minimum(self.size[low], self.size[high]))

    def _count_images(self) -> None:
        known = self.images >= 0
        cells = (np.ones(int(known.sum()), np.int64), (self.label[known], self.images[known]))
        self.seen = scipy.sparse.csr_matrix(cells, (len(self.label), int(self.images.max(initial=0)) + 1))
        ones = (np.ones(len(self.label), np.int64), (self.label, np.arange(len(self.label))))
        self.said = scipy.sparse.csr_matrix(ones, (len(self.label),) * 2) @ self.camps

    def _merge(self, pairs: Pairs) -> np.ndarray:
        """Let every cluster join its best larger neighbour, all at once; gives the clusters that changed. At least
        one does.

        Stars: of two neighbours the smaller moves (of equals the higher row), and nobody joins a cluster that moves
        itself. Of two that would bring faces of one image, or of one camp, to one centre, the more similar comes
        first and the other waits for the next round."""
        up = self.size[pairs.low] < self.size[pairs.high]
        small, centre = np.where(up, pairs.low, pairs.high), np.where(up, pairs.high, pairs.low)
        best = np.lexsort((centre, -pairs.average, small))
        best = best[np.diff(small[best], prepend=-1) != 0]
        moves = np.zeros(len(self.label), bool)
        moves[small] = True
        best = best[~moves[centre[best]]]
        best = best[np.lexsort((small[best], -pairs.average[best]))]
        small, centre = small[best], centre[best]
        arrives = _first_of_their(self.seen, small, centre) & _first_of_their(self.said, small, centre)
        small, centre = small[arrives], centre[arrives]
        self._join(small, centre)
        return np.concatenate([small, centre])

    def _join(self, small: np.ndarray, centre: np.ndarray) -> None:
        """Put clusters int64 [M] into others [M], which do not move; one that is its own centre stays."""
        small, centre = small[small != centre], centre[small != centre]
        np.add.at(self.size, centre, self.size[small])
        np.add.at(self.half, centre, self.half[small])
        self.sums.add(small, centre)
        target = np.arange(len(self.label))
        target[small] = centre
        self.label = target[self.label]
        self._count_images()


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


def _chunks(count: int, width: int) -> Iterator[slice]:
    """Slices that cover `count` rows of `width` numbers, about `CHUNK` numbers each."""
    rows = max(1, CHUNK // max(width, 1))
    return (slice(start, start + rows) for start in range(0, count, rows))
