"""What is learned of people who are not known, against who they are."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_similarity import bounds, faces
from transforms import space
from transforms.similarity import COHORT, GRID, Cohort, on_grid
from transforms.space import Mean, Space, differences, learn, normalization, within_people, without

DIMENSIONS = 32


def raw_descriptors(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid vectors and image numbers: two people an image, all with one large mean, as dlib's (length 0.91)."""
    random = np.random.default_rng(1)
    mean = 0.91 * np.eye(128)[0]
    people = random.standard_normal((count, 128)) / np.sqrt(128) * 0.41
    vectors = mean + people
    return on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)), np.arange(count) // 2


def test_a_mean_that_all_share_is_taken_off():
    raw, images = raw_descriptors(400)
    mean = Mean.of(raw, images).shared(0.62)
    result = without(raw, mean)
    assert np.abs(result.mean(axis=0)).max() < 0.02 * GRID
    assert np.allclose(np.linalg.norm(result.astype(float), axis=1), GRID, atol=6)
    assert Mean.of(result, images).shared(0.62) is None


def test_means_of_some_add_up_to_that_of_all():
    raw, images = raw_descriptors(400)
    added = Mean.of(raw[:100], images[:100]) + Mean.of(raw[100:], images[100:])
    assert np.array_equal(added.shared(0.62), Mean.of(raw, images).shared(0.62))


def test_likeness_of_people_in_different_images_is_no_shared_mean():
    one_person = on_grid(np.tile(np.eye(128)[0], (50, 1)))
    assert Mean.of(one_person, np.full(50, -1)).shared(0.62) is None


def test_nothing_is_taken_off_of_no_faces_and_of_one():
    for count in (0, 1):
        some = faces(count).astype(np.int16)
        mean = Mean.of(some, np.arange(count))
        found, _ = learn(some, np.arange(count), mean, bounds(0.5))
        assert found.mean is None and found.matrix is None
        assert np.array_equal(found.project(found.centred(some)), some)


def people(count: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Faces int16 [count * each, `DIMENSIONS`] on the grid, in no order, and whose they are. One person's differ in the first
    few directions most of all: ten times as far as elsewhere, and farther than people differ there."""
    random = np.random.default_rng(seed)
    whose = random.permutation(np.repeat(np.arange(count), each))
    within = np.where(np.arange(DIMENSIONS) < 4, 1.5, 0.15)
    vectors = random.standard_normal((count, DIMENSIONS))[whose] + within * random.standard_normal((len(whose), DIMENSIONS))
    return on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int16), whose


def space_of(some: np.ndarray) -> Space:
    alone = np.full(len(some), -1)
    return learn(some, np.arange(min(len(some), COHORT)), Mean.of(some, alone), bounds(0.7, 0.5))[0]


def confused(some: np.ndarray, whose: np.ndarray) -> float:
    """The share of one person's pairs that are less alike than 1 in 1000 of different people's."""
    similarity = some.astype(np.float64) @ some.T.astype(np.float64)
    one = (whose[:, None] == whose)[np.triu_indices(len(some), 1)]
    pairs = similarity[np.triu_indices(len(some), 1)]
    return float((pairs[one] < np.quantile(pairs[~one], 0.999)).mean())


def spread(some: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """Standard deviations of faces around their own people's means, in the axes of the vectors, float64 [D]."""
    return np.sqrt(np.mean([some[whose == person].var(axis=0) for person in np.unique(whose)], axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_what_one_persons_faces_differ_in_counts_less(seed):
    some, whose = people(150, 8, seed)
    others, theirs = people(150, 8, seed + 100)  # of whom nothing was learned
    learned = space_of(some)
    for raw, names in ((some, whose), (others, theirs)):
        projected = learned.project(raw)
        assert confused(projected, names) < 0.5 * confused(raw, names)
        before, after = spread(raw, names), spread(projected, names)
        assert before[:4].mean() / before[4:].mean() > 2 * after[:4].mean() / after[4:].mean()
        assert np.allclose(np.linalg.norm(projected.astype(float), axis=1), GRID, atol=4)


def test_of_few_people_nothing_is_learned():
    some, _ = people(space.FEWEST_PEOPLE, 40)
    numbers = np.arange(len(some)) % space.FEWEST_PEOPLE
    assert normalization(some, numbers) is not None
    assert normalization(some, np.minimum(numbers, space.FEWEST_PEOPLE - 2)) is None
    some = faces(200, DIMENSIONS, people=60).astype(np.int16)  # which differ by the same in all directions
    found = space_of(some)
    assert found.matrix is None and np.array_equal(found.project(found.centred(some)), some)
    assert found.edge(bounds(0.7)) == bounds(0.7).edge


def test_pairs_are_of_one_person_and_no_near_copies():
    some, whose = people(100, 6)
    burst = some + np.random.default_rng(0).integers(-20, 21, some.shape).astype(np.int16)  # cosines of 0.9998
    both, names = np.concatenate([some, burst]), np.concatenate([whose, whose])
    cohort = Cohort.of(both, np.full(len(both), -1), len(both), 0.7, bounds(0.7, 0.5))
    found, numbers = differences(both, cohort.crowding(both), bounds(0.7).edge, 0.98)
    assert len(found) > 0.5 * len(both) and 50 < len(np.unique(numbers)) < 200
    assert np.linalg.norm(found.astype(float), axis=1).min() > GRID * np.sqrt(2 * (1 - 0.982))
    right = {tuple(row) for name in np.unique(names) for row in
             (both[names == name][:, None] - both[names == name][None]).reshape(-1, DIMENSIONS).tolist()}
    assert np.mean([tuple(row) in right for row in found.tolist()]) > 0.97


def test_a_direction_in_which_nothing_differs_is_not_stretched_without_end():
    some, _ = people(60, 8)
    some[:, 7:9] = 0
    matrix, inverse = normalization(some, np.arange(len(some)) // 8)
    assert np.isfinite(matrix).all() and np.isfinite(inverse).all()
    assert np.linalg.norm(matrix, 2) <= 10.1 * space.STEPS


def of_paper(some: np.ndarray) -> float:
    """Ledoit and Wolf's b^2 / d^2, term by term."""
    moment, count, dimensions = some.T @ some / len(some), len(some), some.shape[1]
    target = np.trace(moment) / dimensions * np.eye(dimensions)
    variance = sum(((np.outer(row, row) - moment)**2).sum() for row in some) / count**2
    return min(1.0, variance / ((moment - target)**2).sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(2, 12), st.integers(1, 4), st.integers(0, 999))
def test_shrinkage_is_that_of_the_paper_where_people_have_one_pair_each(count, dimensions, times, seed):
    random = np.random.default_rng(seed)
    some = random.integers(-8000, 8000, (count, dimensions)) // random.integers(1, 9, dimensions)
    covariance, shrinkage = within_people(some.astype(np.int16), np.arange(count))
    assert np.allclose(covariance, some.T @ some / count)
    assert shrinkage == pytest.approx(of_paper(some.astype(float)))
    again = np.tile(np.arange(count), times)  # the same pairs several times are no more evidence
    repeated, as_much = within_people(some[again].astype(np.int16), again)
    assert np.allclose(repeated, covariance) and as_much == pytest.approx(shrinkage)


def test_nothing_depends_on_blocks(monkeypatch):
    some, _ = people(150, 8)
    found = space_of(some)
    assert found.matrix is not None
    projected = found.project(some)
    for rows in (1, 100, 1000):
        monkeypatch.setattr(space, "ROWS", rows)
        monkeypatch.setattr(space, "BLOCK", rows)
        again = space_of(some)
        assert np.array_equal(again.matrix, found.matrix) and np.array_equal(again.project(some), projected)


def test_a_matrix_is_the_root_of_the_inverse():
    random = np.random.default_rng(1)
    axes = np.linalg.qr(random.standard_normal((8, 8)))[0]
    lengths = np.array([1, 1, 1, 1, 2, 2, 4, 4])
    some = np.rint(500 * (random.standard_normal((40_000, 8)) * lengths) @ axes.T).astype(np.int16)
    matrix, inverse = (found / space.STEPS for found in normalization(some, np.arange(len(some))))
    wanted = (axes / np.sqrt(0.99 * lengths**2 / np.mean(lengths**2) + 0.01)) @ axes.T
    assert np.abs(matrix - wanted).max() < 0.03
    assert np.allclose(matrix @ inverse, np.eye(8), atol=2e-3)
