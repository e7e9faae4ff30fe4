"""The measures against their definitions, the assignment against brute force."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import matching


def matrices(rows: int = 5, columns: int = 5) -> st.SearchStrategy[np.ndarray]:
    """Similarity matrices up to 5 x 5."""
    return st.tuples(st.integers(1, rows), st.integers(1, columns)).flatmap(lambda shape: st.lists(
        st.floats(-1, 1, width=16), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
            lambda values: np.array(values).reshape(shape)))


def brute_force_mimr(matrix: np.ndarray) -> float:
    """UMO, 3.3: over all one-to-one matchings, the one with the greatest sum; matched +1, others -1."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    best = max(sum(wide[row, column] for row, column in enumerate(columns))
               for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0]))
    return (2 * best - matrix.sum()) / matrix.size


@given(matrices())
def test_mimr_is_the_greatest_over_all_matchings(matrix):
    assert matching.mimr(matrix) == pytest.approx(brute_force_mimr(matrix), abs=1e-5)


@pytest.mark.parametrize(("people", "cross"), [(2, 0.0), (3, 0.2), (5, 0.1)])
def test_mimr_has_the_ceiling_that_umo_states(people, cross):
    matrix = np.full((people, people), cross) + np.eye(people) * (1 - cross)
    assert matching.mimr(matrix) == pytest.approx((1 - (people - 1) * cross) / people, abs=1e-6)


def test_an_empty_matrix_gives_no_reward():
    assert matching.mimr(np.zeros((0, 3))) == 0.0
    assert matching.id_sim(np.zeros((2, 0))) == 0.0


@pytest.mark.parametrize(("row", "margin"), [
    ([0.8, 0.2, 0.4], 0.5), ([0.5, 0.5], 0.0), ([0.4, -0.4], 1.0), ([-0.1, -0.3], 0.0), ([0.0, 0.0], 0.0)])
def test_margins_follow_umo_equation_5(row, margin):
    assert matching.margins(np.array([row]))[0] == pytest.approx(margin)


def test_margins_need_two_faces():
    with pytest.raises(ValueError, match="two faces"):
        matching.margins(np.array([[0.9]]))


@given(st.integers(1, 5), st.integers(1, 5), st.randoms(use_true_random=False))
def test_assign_pairs_as_many_as_can_be_and_then_the_best(faces, pictures, random):
    weights = np.array([[random.choice([np.nan, random.uniform(0, 2)]) for _ in range(pictures)] for _ in range(faces)])
    best = (0, 0.0)
    for choice in itertools.product(range(-1, pictures), repeat=faces):
        used = [column for column in choice if column >= 0]
        values = [weights[row, column] for row, column in enumerate(choice) if column >= 0]
        if len(set(used)) == len(used) and not np.isnan(values).any():
            best = max(best, (len(values), sum(values)))
    chosen = matching.assign(weights)
    values = [weights[row, column] for row, column in enumerate(chosen) if column >= 0]
    assert len(set(chosen[chosen >= 0].tolist())) == (chosen >= 0).sum()
    assert (len(values), sum(values)) == (best[0], pytest.approx(best[1]))


@given(matrices())
def test_what_holds_both_ways_is_the_greatest_of_its_row_and_column(matrix):
    assignment = matrix.argmax(axis=1)
    for row, holds in enumerate(matching.holds_both_ways(matrix, assignment)):
        column = assignment[row]
        if holds:
            assert matrix[row, column] == matrix[row].max() == matrix[:, column].max() == matrix[row, column]


def test_two_references_of_one_face_do_not_both_hold():
    matrix = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert matching.holds_both_ways(matrix, np.array([0, 0])).tolist() == [True, False]


def test_similarities_are_of_the_float16_that_is_written():
    with pytest.raises(ValueError, match="float16"):
        matching.similarity_matrix(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    rows = np.random.default_rng(0).standard_normal((3, 128)).astype(np.float16)
    exact = [[sum(float(a) * float(b) for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    assert np.abs(matching.similarity_matrix(rows, rows) - exact).max() < 1e-6
