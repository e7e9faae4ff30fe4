"""Faces into people: strong edges, then average linkage down a ladder, two faces of one image kept apart.

    unit vectors -> grid -> cohort -> crowding -> strong edges -> levels -> lone faces -> outliers (design, Identities)

Everything that decides is computed from integers (`transforms.similarity`), and ties go to the lower id: the same faces give
the same identities, in blocks of any shape, with any number of threads. What no edge connects is linked independently.

Measured on 20 thousand generated faces and left out: linking clusters by the similarity of their normalised means (a few
dozen merges, F the same to 0.0005); a floor that falls as clusters grow (0.949 for 0.948); faces of low quality that may
join and never bridge (F 0.960 for 0.970 where a face below 0.4 keeps its best edge alone: fewer true edges reach a bad
face, and hardly more false ones)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from schemas.embedder import Bounds
from transforms import digests, levels
from transforms.cells import Cells, best_of_cells, neighbours
from transforms.homes import run_here, together
from transforms.mates import exclusive_images, same_person_twice
from transforms.similarity import (
    COHORT,
    MOST,
    UNIT,
    Cohort,
    Edges,
    Mean,
    average_linkage,
    on_grid,
    squares,
    without,
)
from transforms.stars import chunks

FEW = 30
"""Faces below which there is no cohort worth the name (design): plain average linkage. On random 12 pictures of
faces/dev it has a BCubed F of 0.99 and a pairwise precision of 0.96, scaling 0.98 and 0.83."""
ADOPTERS = 4
"""Faces of a cluster that a lone face may join without a strong edge. With 3 or 6 F is the same to 0.0005 on 20 thousand
generated faces, seeds 3 and 4."""


@dataclass(frozen=True)
class Graph:
    """Which faces are alike, on the whole: what people are made of."""

    ids: np.ndarray
    """int64 [N], `digests.numbers` of the face_ids, by which ties are broken"""
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
        ids = digests.numbers(face_ids)
        drawn = np.argsort(ids)[:COHORT]
        half = Cohort.of(faces[drawn], images[drawn], len(faces), bounds).crowding(faces)
        exempt = same_person_twice(faces, images, bounds.strict_same_person * UNIT)
        cells = Cells.one(faces.shape[1])
        edges = neighbours(cells, faces, half, bounds.edge, MOST)
        return Graph(ids, faces, half, exclusive_images(images, exempt), cells, edges)

    def of_rows(self, rows: np.ndarray) -> Graph:
        """Of some faces int64 [n], ascending."""
        if len(rows) == len(self.faces):
            return self
        place = np.full(len(self.faces), -1)
        place[rows] = np.arange(len(rows))
        ours = (place[self.edges.first] >= 0) & (place[self.edges.second] >= 0)
        edges = Edges(place[self.edges.first[ours]], place[self.edges.second[ours]], self.edges.similarity[ours])
        return Graph(self.ids[rows], self.faces[rows], self.half[rows], self.images[rows], self.cells, edges)


def cluster_faces(graph: Graph, bounds: Bounds, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
                  merged: Sequence[np.ndarray] = (), linked: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The person of each face: labels int64 [N], numbered by their first row, -1 for an outlier; and the cosine
    float32 [N] of each face to the mean of those it was put together with (an outlier's too).

    persons: int [N], the same number for faces that are known to be one person, -1 for all others: links that must be,
        whatever the vectors say
    camps: int64 [N, S], sparse: faces with a camp in common are known to be two people, unless they have one number in
        `persons`: links that must not be
    merged: rows of faces, int [M] each, whose clusters are made one in the end
    linked: int64 [N], what `link` gives, where that was done beforehand
    bounds: of the embedder. `small_join` alone rules where there are fewer than `FEW` faces; where there are more, `join` and
        `adopt` rule"""
    if len(graph.faces) < FEW:
        label = average_linkage(graph.faces, graph.images, persons, camps, bounds.small_join)
    else:
        label = link(graph, persons, camps, bounds.join, bounds.edge) if linked is None else linked
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

    persons: int64 [N] and camps: as in `cluster_faces`; least and whole: as in `levels.steps`."""
    rows, seen, said = np.arange(len(graph.ids)), np.flatnonzero(graph.images >= 0), camps.tocoo()
    first, second = graph.edges.first, graph.edges.second
    apart = (graph.images[first] == graph.images[second]) & (graph.images[first] >= 0)
    apart |= np.asarray(camps[first].multiply(camps[second]).sum(axis=1)).ravel() > 0
    ids, dimensions = graph.ids, graph.faces.shape[1]
    kept = run_here(
        levels.steps(least, whole, lambda: graph.cells, bool((persons >= 0).any())), levels.kinds(dimensions, graph.cells),
        {"faces": {"id": ids, "face": rows, "half": graph.half, "person": persons, "vector": graph.faces},
         "marks": together([levels.marks_of_images(ids[seen], graph.images[seen]),
                            levels.marks_of_camps(ids[said.row], said.col)]),
         "replies": together([{"id": ids[ends], "other": ids[others], "average": graph.edges.similarity.astype(np.float64),
                               "forbidden": apart} for ends, others in ((first, second), (second, first))])})
    order, label = np.argsort(ids), np.empty(len(ids), np.int64)
    label[kept["members"]["face"]] = order[np.searchsorted(ids[order], kept["members"]["id"])]
    return label


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
    for some in chunks(len(first), faces.shape[1]):
        length[some] = np.sqrt(squares(sums.of(first[some])))
    for rows in chunks(len(faces), faces.shape[1]):
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
        for rows in chunks(*means.shape):
            means[rows] = np.rint(self.of(clusters[rows]) / size[rows, None])
        return means

    def add(self, small: np.ndarray, centre: np.ndarray) -> None:
        """Put clusters int64 [M] into others [M], none of which is put anywhere."""
        new = np.unique(centre[self.place[centre] < 0])
        self.place[new] = self.free[len(self.free) - len(new):]
        self.free = self.free[:len(self.free) - len(new)]
        for rows in chunks(len(new), self.faces.shape[1]):
            self.table[self.place[new[rows]]] = self.faces[new[rows]]
        for rows in chunks(len(small), self.faces.shape[1]):
            np.add.at(self.table, self.place[centre[rows]], self.of(small[rows]))
        gone = small[self.place[small] >= 0]
        self.free = np.concatenate([self.free, self.place[gone]])
        self.place[gone] = -1
