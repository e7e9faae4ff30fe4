"""How good a clustering is, measured against known people: BCubed and pairwise precision and recall.

Bagga and Baldwin, "Algorithms for scoring coreference chains" (1998); Amigó et al., "A comparison of extrinsic
clustering evaluation metrics based on formal constraints" (2009). A label of -1, an outlier, is a cluster of its
own."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """Precision, recall and their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float

    @property
    def f(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def _cells(labels: np.ndarray, truth: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes of the cells of clusters crossed with people, and for each cell the sizes of its cluster and of its
    person, float64."""
    labels = np.asarray(labels, np.int64)
    if len(labels) != len(truth):
        raise ValueError(f"{len(labels)} labels for {len(truth)} faces of known people")
    alone = labels < 0
    cluster = np.where(alone, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    _, cluster, cluster_size = np.unique(cluster, return_inverse=True, return_counts=True)
    _, person, person_size = np.unique(np.array(list(truth), str), return_inverse=True, return_counts=True)
    cells, size = np.unique(cluster * max(len(person_size), 1) + person, return_counts=True)
    cluster, person = np.divmod(cells, max(len(person_size), 1))
    return size.astype(np.float64), cluster_size[cluster].astype(np.float64), person_size[person].astype(np.float64)


def bcubed(labels: np.ndarray, truth: Sequence[str]) -> Score:
    """BCubed: the mean, over faces, of the share of its cluster (precision) and of its person (recall) that a face
    shares."""
    size, cluster, person = _cells(labels, truth)
    faces = size.sum()
    if not faces:
        return Score(1.0, 1.0)
    return Score(float((size * size / cluster).sum() / faces), float((size * size / person).sum() / faces))


def pairwise(labels: np.ndarray, truth: Sequence[str]) -> Score:
    """Over pairs of faces: the share of pairs put together that are one person, and of one person's that are put
    together."""
    size, cluster, person = _cells(labels, truth)
    both = (size * (size - 1)).sum()
    together, same = (size * (cluster - 1)).sum(), (size * (person - 1)).sum()
    return Score(float(both / together) if together else 1.0, float(both / same) if same else 1.0)
