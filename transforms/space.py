"""The space in which people are told apart: vectors without what all share, in which what differs from picture to picture of a
person counts less than what differs from person to person.

    vectors on the grid -> less their mean, if all share one -> times the root of the inverse of the covariance within people

The second step is within-class covariance normalization (Hatch, Kajarekar and Stolcke 2006, "Within-class covariance
normalization for SVM-based speaker recognition"). Who is who is not known yet: it is learned from pairs that are alike
beyond doubt, each face of a sample with the one that it is most like. Along pose, light and age two pictures of one
person are far apart; what such directions say of a person is worth less.

BCubed F of generated faces without and with it, each with its own `edge`: of 128 numbers, seed 3, 2 thousand 0.974 and
0.989, 20 thousand 0.961 and 0.974; seeds 100 to 102, 100 thousand 0.954 and 0.971; of 512 numbers 20 thousand, seed 3,
0.991 and 0.994."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from schemas.embedder import Bounds
from transforms.mates import exclusive_images, same_person_twice
from transforms.similarity import BLOCK, COHORT, UNIT, Cohort, add_to, directions, products, provisional_join, ranges, squares

LEARNED = 1 << 14
"""Faces that are held against each other. Of 20 and 100 thousand generated faces, seed 3, come 11 to 13 thousand pairs,
and a shrinkage of 0.03 and 0.04 with 128 numbers, 0.08 and 0.12 with 512; of a million of 512 6 thousand, and 0.11."""
MOST_SHRUNK = 0.5
"""Shrinkage from which on vectors stay as they are: what would be done is more guess than knowledge. On faces/dev (34 people,
shrinkage 0.6) F is 0.958 with it and 0.990 without; generated faces, seeds 3 to 5, have less from about a thousand of 128
numbers on, and from 2500 of 512."""
LEAST_SHRUNK = 0.01
"""Shrinkage at least: no direction counts more than ten times as much as it did, though nothing were seen to differ in it."""
FEWEST_PEOPLE = 30
"""With fewer nothing is learned: a choice, as that of `graph.FEW`."""
STEPS = 4096
"""Of 1, in a matrix: so that it is one of integers, and products are exact."""
COARSER = 256
"""Times that products are made smaller before they get unit length: to 1/16 of the grid's steps, whose squares are exact."""
ROWS = 4096
"""Faces at a time. Results do not depend on it."""
EVIDENCE = 10
"""Images with several people from which on their likeness speaks of all vectors, not of twins: a plain choice."""


@dataclass(frozen=True)
class Mean:
    """What says whether all vectors share a mean, and which: sums over grid vectors, of all faces or of some, which add up.

    Descriptors such as dlib's share a large mean, which our own backends subtract (design, point 5); vectors of others may
    still have it. It shows in people who are known to differ: two faces of one image. Measured: image mates have a cosine of
    0.83 with dlib's raw descriptors, 0.04 centred, at most 0.45 where all are of one population."""

    faces: int
    sums: np.ndarray
    """float64 [D], of integers: exact."""
    images: int
    """With several faces."""
    pairs: int
    """Of faces of one image, both ways."""
    likeness: float
    """Sum of the pairs' similarities, grid units."""

    @staticmethod
    def of(faces: np.ndarray, images: np.ndarray) -> Mean:
        """Of grid vectors [N, D]; `images` int [N] numbers the images, -1 where a face has no mate. The faces of an image
        must be in one call."""
        mates = images >= 0
        numbers, image, count = np.unique(images[mates], return_inverse=True, return_counts=True)
        sums = np.zeros((len(numbers), faces.shape[1]))
        add_to(sums, image, faces[mates])
        likeness = float(squares(sums).sum() - squares(faces[mates]).sum())
        return Mean(len(faces), faces.sum(axis=0, dtype=np.float64), len(numbers), int((count * (count - 1)).sum()), likeness)

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.faces + other.faces, self.sums + other.sums, self.images + other.images, self.pairs + other.pairs,
                    self.likeness + other.likeness)

    def shared(self, least: float) -> np.ndarray | None:
        """The mean float32 [D], in grid units, if all share one: where the mean cosine of image mates reaches `least`, at which
        two faces are one person."""
        if self.images < EVIDENCE or self.likeness < least * UNIT * self.pairs:
            return None
        return np.rint(self.sums / self.faces).astype(np.float32)


def without(faces: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    """Grid vectors int16 [N, D] without a mean float32 [D], at unit length again; as they are without one."""
    result = faces.astype(np.int16)
    for rows in ranges(len(faces) if mean is not None else 0, ROWS):
        result[rows] = directions(faces[rows] - mean)
    return result

@dataclass(frozen=True)
class Space:
    """How vectors are changed before they are compared. Small: it goes to every worker as it is."""

    mean: np.ndarray | None
    """float32 [D], grid units; None where they share none."""
    matrix: np.ndarray | None
    """float64 [D, D], integers, in `STEPS` of 1; None where not enough is known of what differs within people."""
    inverse: np.ndarray | None
    """Of `matrix`, as that."""

    def centred(self, faces: np.ndarray) -> np.ndarray:
        """Grid vectors int16 [N, D], as cosines are taken of: without the mean, at unit length."""
        return without(faces, self.mean)

    def project(self, centred: np.ndarray) -> np.ndarray:
        """What `centred` gives, int16 [N, D] on the grid, as people are told apart."""
        return _through(centred, self.matrix)

    def restore(self, projected: np.ndarray) -> np.ndarray:
        """What `project` gives, int16 [N, D] on the grid, as cosines are taken of again: what is told of people is a cosine."""
        return _through(projected, self.inverse)

    def edge(self, bounds: Bounds) -> float:
        """Least scaled similarity of a strong edge, here."""
        return bounds.edge if self.matrix is None else bounds.normalized_edge


def _through(vectors: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Grid vectors int16 [N, D] times a matrix, at unit length; as they are without one."""
    if matrix is None:
        return vectors
    result = np.empty_like(vectors)
    for rows in ranges(len(vectors), ROWS):
        result[rows] = directions(np.rint(vectors[rows].astype(np.float64) @ matrix / COARSER))  # of integers: exact
    return result


def learn(faces: np.ndarray, images: np.ndarray, mean: Mean, bounds: Bounds) -> tuple[Space, Cohort]:
    """The space of all faces of which `mean` is, and the cohort in it.

    faces: int16 [n, D] on the grid, the first `LEARNED` by hash order; images: int [m], of the first `COHORT` of them, the same
    number for faces of one image."""
    centring = Space(mean.shared(bounds.small_join), None, None)
    centred = centring.centred(faces)
    drawn = centred[:COHORT]
    exclusive = exclusive_images(images, same_person_twice(drawn, images, bounds.strict_same_person * UNIT))
    least = provisional_join(drawn, bounds)
    cohort = Cohort.of(drawn, exclusive, mean.faces, least, bounds)
    matrices = normalization(*differences(centred, cohort.crowding(centred), bounds.edge, bounds.near_copy))
    if matrices is None:
        return centring, cohort
    space = Space(centring.mean, *matrices)
    return space, Cohort.of(space.project(drawn), exclusive, mean.faces, least, bounds)


def differences(faces: np.ndarray, half: np.ndarray, least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """What one person's faces differ in from picture to picture: int16 [n, D], grid units, each face less the other one that
    has the greatest scaled similarity to it, if that is `least` at least; and whose they are, int64 [n], the same number for
    all that such pairs connect. Whoever has a cosine above `most` to it, as in a burst or a video, is passed over.

    Faces int16 [N, D] on the grid, half int64 [N] (`Cohort.crowding`)."""
    other = np.full(len(faces), -1)
    for rows in ranges(len(faces), BLOCK):
        similarity = products(faces[rows], faces)
        similarity[similarity > most * UNIT] = -np.inf
        similarity[np.arange(len(similarity)), np.arange(rows.start, rows.stop)] = -np.inf
        similarity -= half.astype(np.float32)
        similarity -= half[rows, None].astype(np.float32)
        best = similarity.argmax(axis=1)
        alike = similarity[np.arange(len(best)), best] >= least * UNIT
        other[rows] = np.where(alike, best, -1)
    one = np.flatnonzero(other >= 0)
    pairs = scipy.sparse.coo_matrix((np.ones(len(one)), (one, other[one])), (len(faces), len(faces)))
    return faces[one] - faces[other[one]], connected_components(pairs, directed=False)[1][one].astype(np.int64)


def normalization(differences: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """`Space.matrix` and its inverse, of the differences [n, D] of pairs of faces, and of which of `people` int64 [n] each is;
    None where that would be more guess than knowledge."""
    if len(np.unique(people)) < FEWEST_PEOPLE:
        return None
    with threadpool_limits(1, "blas"):  # with several threads the last bits need not be the same
        covariance, shrinkage = within_people(differences, people)
        if shrinkage > MOST_SHRUNK:
            return None
        shrinkage = max(shrinkage, LEAST_SHRUNK)
        values, axes = np.linalg.eigh(covariance)
        lengths = np.sqrt((1 - shrinkage) * values / values.mean() + shrinkage)
        return np.rint(STEPS * (axes / lengths) @ axes.T), np.rint(STEPS * (axes * lengths) @ axes.T)


def within_people(differences: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, float]:
    """Second moments float64 [D, D] of differences [n, D], integers, and how far they are to be shrunk towards a multiple of
    the identity, in [0, 1].

    The shrinkage is Ledoit and Wolf's (2004, "A well-conditioned estimator for large-dimensional covariance matrices", section
    3.2): the variance of the estimate over its squared distance from that multiple. The pairs of one of `people` int64 [n] are
    not independent of each other, so that a person is the observation whose variance is taken."""
    some = differences.astype(np.float64)
    count, dimensions = some.shape
    covariance = some.T @ some / count
    size = np.bincount(people)
    # of each person's own moment M, of n pairs: |M - n C|^2 = |M|^2 - 2 n <M, C> + n^2 |C|^2
    own = sum(float(((its @ its.T if len(its) < dimensions else its.T @ its)**2).sum()) for its in _by_person(some, people))
    shared = float(((some * size[people, None]).T @ some * covariance).sum())
    variance = (own - 2 * shared + float((size.astype(np.float64)**2).sum()) * float((covariance**2).sum())) / count**2
    distance = float((covariance**2).sum() - covariance.trace()**2 / dimensions)
    return covariance, min(1.0, max(0.0, variance) / distance) if distance > 0 else 1.0


def _by_person(some: np.ndarray, people: np.ndarray) -> Iterator[np.ndarray]:
    order = np.argsort(people, kind="stable")
    yield from np.split(some[order], np.flatnonzero(np.diff(people[order])) + 1)
