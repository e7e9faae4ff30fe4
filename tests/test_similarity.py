"""Exactness on the grid, and every block function against the plain definition on small inputs."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.spatial.distance import squareform

from schemas.embedder import Bounds
from transforms import similarity
from transforms.similarity import (
    GRID,
    UNIT,
    Cohort,
    add_to,
    average_linkage,
    on_grid,
    products,
    provisional_join,
    strong_edges,
)


def nobody(count: int) -> tuple[np.ndarray, csr_matrix]:
    """Persons and camps of faces of whom nothing is said."""
    return np.full(count, -1), csr_matrix((count, 1), dtype=np.int64)


def faces(count: int, dimensions: int = 8, seed: int = 0, people: int | None = None) -> np.ndarray:
    """float32 [count, dimensions] on the grid: unit vectors, around so many people's means if that is given."""
    random = np.random.default_rng([seed, count, dimensions])
    vectors = random.standard_normal((count, dimensions))
    if people:
        vectors = 0.5 * vectors + 2 * random.standard_normal((people, dimensions))[random.integers(0, people, count)]
    return on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def bounds(small_join: float = 0.5, crowding: float = 1.0, growth: float = 0.0) -> Bounds:
    return Bounds(same_person=0.5, strict_same_person=0.9, near_copy=0.95, outlier=0.4, cohesion=0.4, margin=0.2, quality=0.3,
                  crowding_weight=crowding, crowding_growth=growth, edge=0.2, normalized_edge=0.2, join=0.1, adopt=0.2,
                  small_join=small_join, spill=16, origin="made up for tests")


def ids(count: int) -> list[str]:
    return [f"face-{number:04d}" for number in range(count)]


@pytest.mark.parametrize("dimensions", [1, 128, 512, 4096, 32768])
@pytest.mark.parametrize("kind", ["equal", "random", "sparse"])
def test_products_of_grid_vectors_are_exact(dimensions, kind):
    random = np.random.default_rng(dimensions)
    vectors = {"equal": np.ones((3, dimensions)), "random": random.standard_normal((3, dimensions)),
               "sparse": random.standard_normal((3, dimensions)) ** 9}[kind]
    grid = on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    exact = grid.astype(np.int64) @ grid.astype(np.int64).T
    assert np.abs(grid).astype(np.int64).max() <= GRID
    assert (np.abs(grid).astype(np.int64) @ np.abs(grid).astype(np.int64).T).max() < 2**24  # bounds every partial sum
    assert np.array_equal(products(grid, grid), exact)
    order = random.permutation(dimensions)
    assert np.array_equal(products(grid[:1, order], grid[1:, order]), exact[:1, 1:])


@pytest.mark.parametrize("vector", [[1.1, 0], [np.nan, 0], [np.inf, 0]])
def test_what_is_no_unit_vector_is_refused(vector):
    with pytest.raises(ValueError, match="unit length"):
        on_grid(np.array([[1, 0], vector], np.float32))


def test_no_faces_and_one():
    for count in (0, 1):
        some = faces(count)
        images = np.arange(count)
        cohort = Cohort.of(some, images, count, 0.5, bounds())
        assert cohort.crowding(some).tolist() == [0] * count
        assert len(strong_edges(some, np.zeros(count, np.int64), 0.1, 4)) == 0
        assert average_linkage(some, images, *nobody(count), 0.5).tolist() == [0] * count


def plain_average_linkage(similarities: np.ndarray, images: np.ndarray, least: float) -> list[frozenset[int]]:
    """The most similar two clusters first, as long as there are any, and they share no image."""
    clusters = [frozenset([face]) for face in range(len(similarities))]
    while True:
        merges = [(np.mean([similarities[face, other] for face in a for other in b]), a, b)
                  for index, a in enumerate(clusters) for b in clusters[:index]
                  if not any(images[face] == images[other] >= 0 for face in a for other in b)]
        merges = [merge for merge in merges if merge[0] >= least]
        if not merges:
            return sorted(clusters, key=min)
        _, a, b = max(merges, key=lambda merge: merge[0])
        clusters = [cluster for cluster in clusters if cluster not in (a, b)] + [a | b]


def clusters_of(labels: np.ndarray) -> list[frozenset[int]]:
    return sorted((frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)), key=min)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.integers(0, 999), st.floats(-0.5, 0.9))
def test_average_linkage_is_that_of_the_definition(count, seed, least):
    some = faces(count, 5, seed, people=4)
    images = np.random.default_rng(seed).integers(-1, count, count)
    expected = plain_average_linkage(products(some, some).astype(float) / UNIT, images, least)
    assert clusters_of(average_linkage(some, images, *nobody(len(some)), least)) == expected


def test_average_linkage_of_more_than_are_compared_at_once_is_scipys():
    some = faces(300, 8, 3, people=40)
    images = np.arange(300) // 2
    distance = 1 - products(some, some).astype(float) / UNIT
    distance[(images[:, None] == images) & ~np.eye(300, dtype=bool)] = 4 * 300 ** 2
    tree = linkage(squareform(distance.clip(0), checks=False), "average")
    expected = clusters_of(fcluster(tree, 1 - 0.4, "distance"))
    assert 1 < len(expected) < 150
    assert clusters_of(average_linkage(some, images, *nobody(300), 0.4)) == expected


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 999), st.sampled_from([np.int16, np.int32, np.float32]))
def test_vectors_are_added_to_the_rows_that_they_are_of(count, more, seed, kind):
    rng = np.random.default_rng(seed)
    sums, rows, vectors = rng.integers(-9, 9, (count, 5)), rng.integers(0, count, more), rng.integers(-4000, 4000, (more, 5))
    expected = [list(row) for row in sums.tolist()]
    for row, vector in zip(rows.tolist(), vectors.tolist(), strict=True):
        expected[row] = [one + other for one, other in zip(expected[row], vector, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "ADDED", 5 * 7)
        add_to(sums, rows, vectors.astype(kind))
    assert sums.tolist() == expected


def plain_crowding(some: np.ndarray, cohort: Cohort) -> list[int]:
    """`Cohort.crowding`, one face and one rank at a time, in Python's integers."""
    first, last = cohort.ranks
    groups = np.split(cohort.faces.astype(int), cohort.starts[1:])
    half = []
    for face in some.astype(int):
        similar = [[int(face @ other) for other in group] for group in groups]
        own = max(range(len(groups)), key=lambda group, similar=similar: (np.mean(similar[group]), -group))
        if np.mean(similar[own]) < cohort.least * UNIT:
            own = -1
        others = [value for group in range(len(groups)) for value in similar[group] if group != own]
        others.sort(reverse=True)
        mean, tip = (sum(some) / len(some) if some else 0.0 for some in (others[first:last], others[similarity.TIP:first]))
        half.append(int(np.rint((cohort.weight * mean + cohort.tail * (tip - mean) / similarity.STEPS) / 2)))
    return half


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 999), st.sampled_from([0.3, 0.6, 0.9]), st.integers(1, 70),
       st.sampled_from([0.5, 1.0]), st.sampled_from([0.0, 0.5]), st.sampled_from([60, 10**6]))
def test_crowding_is_that_of_the_definition_in_any_blocks(count, seed, least, block, crowding, growth, number):
    some = faces(count, 6, seed, people=9)
    cohort = Cohort.of(some, np.arange(count), number, least, bounds(crowding=crowding, growth=growth))
    half = cohort.crowding(some, block)
    assert half.tolist() == plain_crowding(some, cohort)


def test_crowding_of_a_whole_cohort():
    some = faces(2500, 16, people=300)
    cohort = Cohort.of(some[:similarity.COHORT], np.arange(similarity.COHORT), 2500, 0.6, bounds())
    assert len(cohort.faces) == similarity.COHORT and cohort.ranks == (similarity.NEAREST, similarity.FARTHEST)
    assert cohort.crowding(some)[:20].tolist() == plain_crowding(some[:20], cohort)


def test_a_person_who_is_most_of_a_set_does_not_crowd_himself():
    random = np.random.default_rng(0)
    middle = np.eye(64)[0]
    vectors = np.concatenate([middle + 0.1 * random.standard_normal((200, 64)), random.standard_normal((100, 64))])
    some = on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    half = Cohort.of(some, np.arange(300), 300, 0.4, bounds()).crowding(some) / UNIT
    assert half[:200].max() < 0.2


@pytest.mark.parametrize(("count", "people"), [(0, None), (1, None), (2, 1), (300, None), (300, 100), (300, 20), (1100, 2)])
def test_the_more_one_person_makes_up_the_sooner_a_cohort_is_joined(count, people):
    some = faces(count, 32, people=people)
    pairs = [(row, other) for row in range(count) for other in range(count)
             if row != other and int(some[row].astype(int) @ some[other].astype(int)) >= 0.9 * UNIT]
    others = np.bincount([row for row, _ in pairs], minlength=count)
    share = np.mean([others[row] for row, _ in pairs]) / (count - 1) if pairs else 0.0
    first = similarity.NEAREST / similarity.COHORT
    assert (share > first) == bool(people)
    expected = 0.6 * (max(share, first) / first)**-similarity.FALL
    assert provisional_join(some.astype(np.int16), bounds(0.6)) == pytest.approx(expected)


def plain_edges(some: np.ndarray, half: np.ndarray, least: float, most: int) -> list[tuple[int, int]]:
    """`strong_edges` by sorting each row of the whole matrix."""
    scaled = some.astype(np.int64) @ some.astype(np.int64).T - half[:, None] - half[None, :]
    edges = set()
    for row in range(len(some)):
        others = [other for other in range(len(some)) if other != row and scaled[row, other] >= least * UNIT]
        best = sorted(others, key=lambda other: (-scaled[row, other], other))[:most]
        edges |= {(min(row, other), max(row, other)) for other in best}
    return sorted(edges)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 999), st.floats(-0.6, 0.9), st.integers(1, 8), st.integers(1, 50),
       st.integers(1, 40), st.integers(1, 50))
def test_strong_edges_are_those_of_the_definition_in_any_blocks(count, seed, least, most, block, waiting, panel):
    some = faces(count, 3, seed)
    some = some[np.random.default_rng(seed).integers(0, max(count, 1), count)]  # some faces twice: ties
    half = np.random.default_rng(seed).integers(0, UNIT // 4, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "WAITING", waiting)  # prune often
        patch.setattr(similarity, "PANEL", panel)
        edges = strong_edges(some, half, least, most, block)
    assert list(zip(edges.first.tolist(), edges.second.tolist(), strict=True)) == plain_edges(some, half, least, most)


def test_a_thousand_times_the_same_face_gives_few_edges():
    some = np.repeat(faces(1), 1000, axis=0)
    edges = strong_edges(some, np.zeros(1000, np.int64), 0.5, 4, block=128)
    assert len(edges) <= 4 * 1000
    assert set(edges.second.tolist()) == set(range(1, 1000))
