"""Faces into people: strong edges, then average linkage down a ladder, two faces of one image kept apart.

    unit vectors -> grid -> cohort -> crowding -> strong edges -> linkage -> lone faces -> outliers (design, Identities)

Everything that decides is computed from integers (`transforms.similarity`), and ties go to the lower face_id: the
same faces give the same bytes in any order of rows, in blocks of any shape, with any number of threads. `Linkage`
treats what no edge connects independently, so that the components of the edges can be linked apart, in any number of
pieces.

Measured on 20 thousand generated faces and left out: linking clusters by the similarity of their normalised means (a few
dozen merges, F the same to 0.0005); a floor that falls as clusters grow (0.949 for 0.948); faces of low quality that may
join and never bridge (F 0.960 for 0.970 where a face below 0.4 keeps its best edge alone: fewer true edges reach a bad
face, and hardly more false ones)."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse

from schemas.embedder import Bounds
from transforms.similarity import GRID, UNIT, Cohort, Edges, average_linkage, centred, on_grid, squares, strong_edges

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


def cluster_faces(embeddings: np.ndarray, face_ids: Sequence[str], images: np.ndarray, bounds: Bounds,
                  exempt: np.ndarray, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
                  merged: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The person of each face: labels int64 [N], numbered by their least face_id, -1 for an outlier; and the cosine
    float32 [N] of each face to the mean of those it was put together with (an outlier's too).

    embeddings: float32 [N, D], unit rows; a mean that all share is taken off (`centred`)
    face_ids: N different strings
    images: int [N], the same number for the faces of one image: they are different people, unless
    exempt: bool [N], where an image shows one person twice
    persons: int [N], the same number for faces that are known to be one person, -1 for all others: links that must be,
        whatever the vectors say
    camps: int64 [N, S], sparse: faces with a camp in common are known to be two people, unless they have one number in
        `persons`: links that must not be
    merged: rows of faces, int [M] each, whose clusters are made one in the end
    bounds: of the embedder. `small_join` alone rules where there are fewer than `FEW` faces; where there are more, it
        decides whom a face is not scaled by, then `edge`, `join` and `adopt` rule

    Raises ValueError where lengths differ, a face_id occurs twice, or a vector is too long or not finite."""
    count = len(face_ids)
    if {len(embeddings), len(images), len(exempt), len(persons)} != {count}:
        raise ValueError(f"{count} face_ids, but {len(embeddings)} embeddings, {len(images)} images, {len(exempt)} "
                         f"exemptions and {len(persons)} persons")
    if len(set(face_ids)) < count:
        raise ValueError(f"{count - len(set(face_ids))} of {count} face_ids occur more than once")
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    order = np.array(sorted(range(count), key=face_ids.__getitem__), np.int64)
    exclusive = exclusive_images(np.asarray(images)[order], np.asarray(exempt, bool)[order])
    faces = centred(on_grid(np.asarray(embeddings, np.float32)[order]), exclusive, bounds.small_join)
    persons, camps = np.asarray(persons, np.int64)[order], camps[order]
    if count < FEW:
        label = average_linkage(faces, exclusive, persons, camps, bounds.small_join)
    else:
        cohort = Cohort.of(faces, [face_ids[row] for row in order.tolist()], exclusive, persons, camps, bounds.small_join)
        half = cohort.crowding(faces)
        edges = strong_edges(faces, half, bounds.edge, MOST)
        label = link(faces, half, exclusive, persons, camps, edges, bounds.join, bounds.edge)
        settled = np.where(np.diff(camps.indptr) > 0, 0, persons)  # of whom something is said: not for a mean to decide
        label = adopt(faces, half, exclusive, settled, label, bounds.adopt, bounds.join)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    merges = [place[rows] for rows in merged]
    sure = persons >= 0
    sure[np.concatenate([*merges, np.zeros(0, np.int64)])] = True
    lost = (central_similarity(faces, label) < bounds.outlier) & ~sure  # of those who looked alike, before any are merged
    for rows in merges:
        label[np.isin(label, label[rows])] = label[rows].min(initial=count)
    labels, similarity = np.empty(count, np.int64), np.empty(count, np.float32)
    labels[order], similarity[order] = numbered(np.where(lost, -1, label)), central_similarity(faces, label)
    return labels, similarity


def exclusive_images(images: np.ndarray, exempt: np.ndarray) -> np.ndarray:
    """Numbers int64 [N], the same for faces of one image that must be different people; -1 for a face that excludes
    nobody."""
    candidates = np.flatnonzero(~exempt)
    _, image, count = np.unique(images[candidates], return_inverse=True, return_counts=True)
    mated = candidates[count[image] > 1]
    exclusive = np.full(len(images), -1, np.int64)
    exclusive[mated] = np.unique(images[mated], return_inverse=True)[1]
    return exclusive


def link(faces: np.ndarray, half: np.ndarray, images: np.ndarray, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
         edges: Edges, least: float, whole: float | None = None) -> np.ndarray:
    """Clusters of faces float32 [N, D] on the grid: int64 [N], each labelled by one of its rows.

    half: int64 [N], `Cohort.crowding`; images: int64 [N], `exclusive_images`; persons: int64 [N] and camps: as in
    `cluster_faces`; least: the mean scaled similarity of a merge. whole: clusters whose mean scaled similarity reaches it
    are compared too, for some of their faces have an edge so strong that was left out: a burst of more than `MOST`
    pictures fills the edges of all its faces."""
    linkage = Linkage(faces, half, images, persons, camps)
    linkage.descend(edges, least)
    while whole is not None and linkage.descend(linkage.edges(whole), least):
        pass
    return linkage.label


def adopt(faces: np.ndarray, half: np.ndarray, images: np.ndarray, persons: np.ndarray, label: np.ndarray, least: float,
          lead: float) -> np.ndarray:
    """Labels int64 [N] in which faces left alone have joined the large cluster that they are most like.

    A mean over several faces of a person is surer than one edge, so that none is asked for: the mean scaled similarity
    must reach `least` and be `lead` above that to any other cluster of two or more (both cosines). Of two faces of one
    image the more similar joins; a known person stays where they are. Other arguments as in `link`."""
    clusters, cluster, size = np.unique(label, return_inverse=True, return_counts=True)
    several = np.flatnonzero(size > 1)
    lone = np.flatnonzero((size[cluster] == 1) & (persons < 0))
    if not len(several) or not len(lone):
        return label
    place = np.full(len(clusters), -1)
    place[several] = np.arange(len(several))
    members = np.flatnonzero(place[cluster] >= 0)
    own = place[cluster[members]]
    sums, halves = np.zeros((len(several), faces.shape[1])), np.zeros(len(several))
    np.add.at(sums, own, faces[members])
    np.add.at(halves, own, half[members])
    taken = {(at, image) for at, image in zip(own.tolist(), images[members].tolist(), strict=True) if image >= 0}
    wishes: list[tuple[float, int, int]] = []
    for rows in _chunks(len(lone), len(several)):
        some = lone[rows]
        mean = (faces[some].astype(np.float64) @ sums.T - halves) / size[several] - half[some][:, None]
        best = mean.argmax(axis=1)
        first = mean[np.arange(len(some)), best]
        mean[np.arange(len(some)), best] = -np.inf
        sure = (first >= least * UNIT) & (first - mean.max(axis=1) >= lead * UNIT) & (size[several[best]] >= ADOPTERS)
        wishes += zip((-first[sure]).tolist(), some[sure].tolist(), best[sure].tolist(), strict=True)
    label = label.copy()
    for _, row, at in sorted(wishes):
        image = int(images[row])
        if image < 0 or (at, image) not in taken:
            taken.add((at, image))
            label[row] = clusters[several[at]]
    return label


def central_similarity(faces: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Cosine float64 [N] of each face, float32 [N, D] on the grid, to the mean of its cluster, label int64 [N]."""
    _, cluster = np.unique(label, return_inverse=True)
    sums = np.zeros((int(cluster.max(initial=-1)) + 1, faces.shape[1]), np.int32)
    np.add.at(sums, cluster, faces.astype(np.int32))
    dot = np.empty(len(faces))
    for rows in _chunks(len(faces), faces.shape[1]):
        dot[rows] = np.einsum("nd,nd->n", faces[rows], sums[cluster[rows]], dtype=np.float64)
    lengths = np.sqrt(squares(faces)) * np.sqrt(squares(sums))[cluster]
    return dot / np.maximum(lengths, 1.0)  # 0 where the faces of a cluster cancel out


def numbered(label: np.ndarray) -> np.ndarray:
    """Labels int64 [N] numbered from 0 in the order in which they first occur; negative ones become -1."""
    known = label >= 0
    _, first, cluster = np.unique(label[known], return_index=True, return_inverse=True)
    result = np.full(len(label), -1, np.int64)
    result[known] = np.argsort(np.argsort(first))[cluster]
    return result


class Pairs(NamedTuple):
    """Pairs of clusters that an edge connects."""

    low: np.ndarray
    """int64 [P], a cluster"""
    high: np.ndarray
    """int64 [P], the other one, a higher number"""
    average: np.ndarray
    """float64 [P], mean scaled similarity of their faces, grid units"""
    forbidden: np.ndarray
    """bool [P], too many of their faces are image mates"""

    def where(self, chosen: np.ndarray) -> Pairs:
        return Pairs(*(column[chosen] for column in self))


class Linkage:
    """Clusters that merge. A cluster is known by the row of the face that it began with, and described by sums over
    its faces,
    from which the mean similarity of any two follows exactly: S_A·S_B / (|A| |B|) less the means of their faces'
    halves."""

    label: np.ndarray
    """int64 [N], the cluster of each face."""
    size: np.ndarray
    """int64 [N], faces of a cluster."""
    sums: np.ndarray
    """int32 [N, D], sum of a cluster's vectors."""
    half: np.ndarray
    """int64 [N], sum of its faces' halves, grid units."""
    seen: scipy.sparse.csr_matrix
    """int64 [N, images], a cluster's faces in each image that keeps faces apart."""
    said: scipy.sparse.csr_matrix
    """int64 [N, S], a cluster's faces in each camp."""

    def __init__(self, faces: np.ndarray, half: np.ndarray, images: np.ndarray, persons: np.ndarray,
                 camps: scipy.sparse.csr_matrix) -> None:
        """Every face is a cluster, and every known person; arguments as in `link`."""
        if len(faces) >= MOST_FACES:
            raise ValueError(f"{len(faces)} faces are linked at once; sums are exact below {MOST_FACES}")
        self.label = np.arange(len(faces))
        self.size = np.ones(len(faces), np.int64)
        self.sums = faces.astype(np.int32)
        self.half = half.copy()
        self.images, self.camps = images, camps
        known = np.flatnonzero(persons >= 0)
        _, first, number = np.unique(persons[known], return_index=True, return_inverse=True)
        self._join(known, known[first[number]])

    def edges(self, least: float) -> Edges:
        """Pairs of clusters, the rows that they are known by, whose mean scaled similarity is at least about `least`, a
        cosine: a mean vector is rounded to the grid, to 1e-4, only to choose what `descend` compares exactly."""
        clusters = np.unique(self.label)
        size = self.size[clusters]
        means = np.rint(self.sums[clusters] / size[:, None]).astype(np.float32)
        found = strong_edges(means, np.rint(self.half[clusters] / size).astype(np.int64), least, MOST)
        return Edges(clusters[found.first], clusters[found.second])

    def descend(self, edges: Edges, least: float) -> bool:
        """Merge whatever `edges` connect, the most similar first, down to a mean scaled similarity of `least`, a
        cosine; whether anything merged."""
        before = np.count_nonzero(self.label == np.arange(len(self.label)))
        pairs = self._pairs(edges.first, edges.second)
        highest = pairs.average.max(initial=least * UNIT) / UNIT
        for rung in range(int(np.ceil(max(highest - least, 0) / STEP)), -1, -1):
            while (ready := (pairs.average >= (least + rung * STEP) * UNIT) & ~pairs.forbidden).any():
                changed = np.zeros(len(self.label), bool)
                changed[self._merge(pairs.where(ready))] = True
                stale = changed[pairs.low] | changed[pairs.high]
                renewed = self._pairs(pairs.low[stale], pairs.high[stale])
                pairs = Pairs(*(np.concatenate(columns) for columns in zip(pairs.where(~stale), renewed, strict=True)))
        return bool(np.count_nonzero(self.label == np.arange(len(self.label))) < before)

    def _pairs(self, first: np.ndarray, second: np.ndarray) -> Pairs:
        """The different pairs of clusters that rows int64 [E] and [E] are in by now."""
        count = len(self.label)
        first, second = self.label[first], self.label[second]
        low, high = np.minimum(first, second), np.maximum(first, second)
        low, high = np.divmod(np.unique((low * count + high)[low != high]), max(count, 1))
        return Pairs(low, high, self._average(low, high), self._forbidden(low, high))

    def _average(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Mean scaled similarities float64 [P], grid units; products are exact up to 2^53: 23 thousand faces by 23
        thousand."""
        dot = np.empty(len(low))
        for pairs in _chunks(len(low), self.sums.shape[1]):
            dot[pairs] = np.einsum("nd,nd->n", self.sums[low[pairs]], self.sums[high[pairs]], dtype=np.float64)
        half = self.half / self.size
        return dot / (self.size[low] * self.size[high]) - half[low] - half[high]

    def _forbidden(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """bool [P]: people who are said to be two, or more image mates than are tolerated of the smaller cluster; of fewer
        than 20 faces that is none."""
        mates = np.zeros(len(low), np.int64)
        for pairs in _chunks(len(low), 16):
            mates[pairs] = np.asarray(self.seen[low[pairs]].multiply(self.seen[high[pairs]]).sum(axis=1)).ravel()
        two = np.asarray(self.said[low].multiply(self.said[high]).sum(axis=1)).ravel() > 0
        return two | (mates > TOLERATED * np.minimum(self.size[low], self.size[high]))

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
        np.add.at(self.sums, centre, self.sums[small])
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
