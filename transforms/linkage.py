"""Faces into people."""
from __future__ import annotations

import numpy as np
import scipy.sparse

from transforms import similarity
from transforms.similarity import UNIT, Edges

STEP = 0.02
MOST = 16
POWER = 1.0
PENALTY = 1.0
TOLERATED = 0.05
FEW = 30
COHORT_FROM = 2000


class Linkage:
    """Clusters being merged."""

    def __init__(self, faces: np.ndarray, half: np.ndarray, image: np.ndarray, tolerated: float = TOLERATED, penalty: float = 0.0):
        self.penalty = penalty * UNIT
        count = len(faces)
        self.label = np.arange(count)
        self.sums = faces.astype(np.int32)
        self.size = np.ones(count, np.int64)
        self.half = half.copy()
        self.image = image
        self.tolerated = tolerated
        self.images = int(image.max(initial=-1)) + 1
        self._count_images()

    def _count_images(self) -> None:
        known = self.image >= 0
        shape = (len(self.label), max(self.images, 1))
        self.seen = scipy.sparse.csr_matrix((np.ones(int(known.sum()), np.int32), (self.label[known], self.image[known])), shape)

    def averages(self, first, second, chunk=8192):
        out = np.empty(len(first))
        mean_half = self.half / self.size
        for start in range(0, len(first), chunk):
            a, b = first[start:start + chunk], second[start:start + chunk]
            dot = np.einsum("nd,nd->n", self.sums[a].astype(np.float64), self.sums[b].astype(np.float64))
            out[start:start + chunk] = dot / (self.size[a] * self.size[b]) - mean_half[a] - mean_half[b] \
                - self.penalty * (0.5 / self.size[a] + 0.5 / self.size[b]) ** POWER
        return out

    def forbidden(self, first, second, chunk=262144):
        out = np.zeros(len(first), bool)
        for start in range(0, len(first), chunk):
            a, b = first[start:start + chunk], second[start:start + chunk]
            mates = np.asarray(self.seen[a].multiply(self.seen[b]).sum(axis=1)).ravel()
            out[start:start + chunk] = mates > self.tolerated * np.minimum(self.size[a], self.size[b])
        return out

    def pairs(self, first, second):
        first, second = self.label[first], self.label[second]
        low, high = np.minimum(first, second), np.maximum(first, second)
        keys = np.unique((low * len(self.label) + high)[low != high])
        low, high = np.divmod(keys, len(self.label))
        return low, high, self.averages(low, high), self.forbidden(low, high)

    def merge(self, edges: Edges, join: float, step: float = STEP):
        low, high, average, forbidden = self.pairs(edges.first, edges.second)
        self.rounds = 0
        top = average.max(initial=join * UNIT)
        levels = [join + step * n for n in range(int(np.ceil(max(top / UNIT - join, 0) / step)) + 1)][::-1]
        for level in levels:
            while True:
                ready = (average >= level * UNIT) & ~forbidden
                if not ready.any():
                    break
                self.rounds += 1
                moved = self._stars(low[ready], high[ready], average[ready])
                touched = np.zeros(len(self.label), bool)
                touched[moved] = True
                touched[self.label[moved]] = True   # label: of faces
                stale = touched[low] | touched[high]
                fresh = self.pairs(low[stale], high[stale])
                low, high, average, forbidden = (np.concatenate([old[~stale], new]) for old, new in
                                                 zip((low, high, average, forbidden), fresh))

    def _stars(self, low, high, average):
        # from the smaller to the larger; of equal sizes, to the lower
        down = self.size[low] >= self.size[high]
        small, large = np.where(down, high, low), np.where(down, low, high)
        order = np.lexsort((large, -average, small))
        small, large, average = small[order], large[order], average[order]
        first = np.r_[True, small[1:] != small[:-1]]
        small, large, average = small[first], large[first], average[first]
        # a centre that moves itself takes nobody now
        moving = np.zeros(len(self.label), bool)
        moving[small] = True
        stay = ~moving[large]
        small, large, average = small[stay], large[stay], average[stay]
        # satellites of one centre that share an image: only the best now
        order = np.lexsort((small, -average))
        small, large = small[order], large[order]
        seen = self.seen[small].tocoo()
        cell = large[seen.row] * max(self.images, 1) + seen.col
        o = np.lexsort((seen.row, cell))
        cell, row = cell[o], seen.row[o]
        late = np.r_[False, cell[1:] == cell[:-1]] if len(cell) else np.zeros(0, bool)
        wait = np.zeros(len(small), bool)
        wait[row[late]] = True
        small, large = small[~wait], large[~wait]
        np.add.at(self.sums, large, self.sums[small])
        np.add.at(self.size, large, self.size[small])
        np.add.at(self.half, large, self.half[small])
        target = np.arange(len(self.label))
        target[small] = large
        self.label = target[self.label]
        self._count_images()
        return small


def mates(images: np.ndarray, exempt: np.ndarray) -> np.ndarray:
    """Numbers int64 [N] of the images whose faces exclude each other, -1 where a face has no mate."""
    _, number, count = np.unique(images, return_inverse=True, return_counts=True)
    alone = (count[number] < 2) | exempt
    result = np.full(len(images), -1)
    if (~alone).any():
        result[~alone] = np.unique(number[~alone], return_inverse=True)[1]
    return result


def cluster_faces(embeddings, face_ids, images, quality, bounds, exempt):
    count = len(face_ids)
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    order = np.array(sorted(range(count), key=face_ids.__getitem__), np.int64)
    image = mates(np.asarray(images)[order], np.asarray(exempt)[order])
    faces = similarity.centred(similarity.on_grid(np.asarray(embeddings)[order]), image, bounds.small_join)
    ids = [face_ids[i] for i in order]
    if count < FEW:
        label = similarity.average_linkage(faces, image, bounds.small_join)
    else:
        half = similarity.Cohort.of(faces, ids, image, bounds.small_join).crowding(faces)
        linkage = Linkage(faces, half, image, penalty=PENALTY * (bounds.edge - bounds.join))
        linkage.merge(similarity.strong_edges(faces, half, bounds.edge, MOST), bounds.join)
        label = linkage.label
    sums = np.zeros(faces.shape)
    np.add.at(sums, label, faces)
    length = np.sqrt(np.einsum("nd,nd->n", sums[label], sums[label]))
    own = np.sqrt(np.einsum("nd,nd->n", faces.astype(np.float64), faces.astype(np.float64)))
    central = np.einsum("nd,nd->n", faces.astype(np.float64), sums[label]) / np.maximum(length * own, 1)
    label = np.where(central < bounds.outlier, -1, label)
    kept = np.unique(label[label >= 0])
    label = np.where(label >= 0, np.searchsorted(kept, label), -1)
    labels, centroid = np.empty(count, np.int64), np.empty(count, np.float32)
    labels[order], centroid[order] = label, central
    return labels, centroid
