"""Cells against the plain definition: who is in which, and what is found inside them."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import cells, similarity
from transforms.cells import Cells, best_of_cells, by_cell, neighbours
from transforms.similarity import UNIT, on_grid, products


def some_faces(count: int, seed: int, dimensions: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Grid vectors int16 [count, dimensions] around a few people, some of them twice, and halves int64 [count]."""
    random = np.random.default_rng([seed, count])
    people = random.standard_normal((1 + count // 5, dimensions))
    vectors = people[random.integers(0, len(people), count)] + 0.4 * random.standard_normal((count, dimensions))
    faces = on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int16)
    return faces[random.integers(0, count, count)], random.integers(0, UNIT // 4, count)


def scaled(faces: np.ndarray, others: np.ndarray, half: np.ndarray) -> np.ndarray:
    return faces.astype(np.int64) @ others.astype(np.int64).T - half[None, :]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 999), st.integers(1, 6), st.integers(1, 9), st.sampled_from([0, 1, 3]))
def test_cells_of_a_face_are_its_most_similar_centres(count, seed, spill, block, limit):
    centres, half = some_faces(count, seed)
    faces, _ = some_faces(50, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "REGION", 5)
        patch.setattr(cells, "ROWS", block)
        patch.setattr(cells, "LIMIT", limit)
        table = Cells.around(centres.astype(np.float32), half, spill)
        found = table.nearest(faces, len(table.heads))
    assert sorted(map(tuple, table.centres.astype(int).tolist())) == sorted(map(tuple, centres.tolist()))
    similar = scaled(faces, table.centres, table.half)
    for row, its in enumerate(found.tolist()):
        expected = sorted(range(count), key=lambda cell, row=row: (-similar[row, cell], cell))[:spill]
        assert its == sorted(expected)


def test_regions_hold_their_cells_in_a_row(monkeypatch):
    monkeypatch.setattr(cells, "REGION", 4)
    table = Cells.around(*((part := some_faces(60, 3))[0].astype(np.float32), part[1], 4))
    region = table.region(np.arange(60))
    assert region.min() == 0 and (np.diff(region) >= 0).all() and region.max() < len(table.heads)
    nearest = products(table.centres, table.heads).argmax(axis=1)
    assert np.array_equal(nearest, region)


def test_few_faces_are_in_one_cell():
    faces, half = some_faces(30, 1)
    assert Cells.one(6).nearest(faces).tolist() == [[0]] * 30
    assert [(cell, rows.tolist()) for cell, rows in by_cell(np.zeros((3, 1), np.int64))] == [(0, [0, 1, 2])]
    assert list(by_cell(np.zeros((0, 1), np.int64))) == []
    whole = neighbours(Cells.one(6), faces, half, 0.2, 3)
    plain = similarity.strong_edges(faces, half, 0.2, 3)
    assert all(np.array_equal(*pair) for pair in zip(vars(whole).values(), vars(plain).values(), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(0, 999), st.floats(-0.3, 0.8), st.integers(1, 5), st.integers(1, 12), st.integers(2, 8))
def test_neighbours_are_the_best_of_those_that_share_a_cell(count, seed, least, most, centres, largest):
    faces, half = some_faces(count, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "WAITING", 20)
        table = Cells.around(faces[:centres].astype(np.float32), half[:centres], 2)
        member = table.nearest(faces)
        edges = neighbours(table, faces, half, least, most)
    similar = scaled(faces, faces, half) - half[:, None]
    expected = set()
    for row in range(count):
        others = [other for other in range(count) if other != row and similar[row, other] >= least * UNIT
                  and set(member[row]) & set(member[other])]
        best = sorted(others, key=lambda other, row=row: (-similar[row, other], other))[:most]
        expected |= {(min(row, other), max(row, other)) for other in best}
    assert list(zip(edges.first.tolist(), edges.second.tolist(), strict=True)) == sorted(expected)
    assert np.array_equal(edges.similarity, similar[edges.first, edges.second])


def test_a_cell_that_is_too_large_is_split_and_neighbours_still_meet(monkeypatch):
    monkeypatch.setattr(cells, "CELL", 30)
    monkeypatch.setattr(cells, "LARGEST", 100)
    random = np.random.default_rng(0)
    people = np.repeat(random.standard_normal((150, 32)), 4, axis=0) + 0.2 * random.standard_normal((600, 32))
    faces = on_grid(people / np.linalg.norm(people, axis=1, keepdims=True)).astype(np.int16)
    compared = []
    compare = similarity.BestEdges.compare
    monkeypatch.setattr(similarity.BestEdges, "compare", lambda self, faces, half, rows, fresh: (
        compared.append(len(rows)), compare(self, faces, half, rows, fresh))[1])
    edges = neighbours(replace(Cells.one(32), spill=4), faces, np.zeros(600, np.int64), 0.7, 16)
    assert 100 > max(compared) > 1
    same = (edges.first // 4 == edges.second // 4).sum()
    assert same == len(edges) and same > 0.95 * 150 * 6


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 999), st.integers(1, 50))
def test_the_best_two_are_those_of_all_that_share_a_cell(ours, theirs, seed, numbers):
    random = np.random.default_rng(seed)
    values = random.integers(0, 6, (ours, theirs)).astype(float)  # ties
    here, there = (np.sort(random.permuted(np.tile(np.arange(6), (count, 1)), axis=1)[:, :2]) for count in (ours, theirs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "NUMBERS", numbers)
        best = best_of_cells(here, there, lambda rows, columns: values[np.ix_(rows, columns)])
    for row in range(ours):
        shared = sorted((-values[row, column], column) for column in range(theirs) if set(here[row]) & set(there[column]))
        assert best.column[row] == (shared[0][1] if shared else -1)
        assert best.value[row] == (-shared[0][0] if shared else -np.inf)
        assert best.second[row] == (-shared[1][0] if len(shared) > 1 else -np.inf)


def test_cells_around_middles_hold_more_of_ones_own_than_those_around_faces():
    random = np.random.default_rng(3)
    people = np.repeat(random.standard_normal((300, 64)), 10, axis=0) + 1.4 * random.standard_normal((3000, 64))
    faces = on_grid(people / np.linalg.norm(people, axis=1, keepdims=True)).astype(np.int16)
    order, half = random.permutation(3000), np.zeros(3000, np.int64)

    def together(table: Cells) -> float:
        """Share of pairs of one person that share a cell."""
        found = table.nearest(faces).reshape(300, 10, -1)
        return float((found[:, :, None, :, None] == found[:, None, :, None, :]).any((3, 4)).mean())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "CELL", 100)
        drawn = order[:1000]
        middles = Cells.around_middles(faces[drawn], 3000, 4, lambda some: np.zeros(len(some), np.int64))
        plain = Cells.around(faces[drawn[:len(middles)]].astype(np.float32), half[:len(middles)], 4)
    assert len(middles) == 120 and together(middles) > together(plain) + 0.05
