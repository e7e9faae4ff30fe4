"""The measures against their definitions, spelled out face by face."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.scoring import Score, bcubed, pairwise

clusterings = st.lists(st.tuples(st.integers(-1, 4), st.sampled_from("abcd")), max_size=25)


def alone(labels: list[int]) -> list[int]:
    """An outlier is a cluster of its own."""
    return [label if label >= 0 else -1 - face for face, label in enumerate(labels)]


@given(clusterings)
def test_bcubed_is_a_mean_over_faces(pairs):
    labels, people = alone([label for label, _ in pairs]), [person for _, person in pairs]
    precision, recall = [], []
    for face in range(len(pairs)):
        cluster = {other for other in range(len(pairs)) if labels[other] == labels[face]}
        person = {other for other in range(len(pairs)) if people[other] == people[face]}
        precision.append(len(cluster & person) / len(cluster))
        recall.append(len(cluster & person) / len(person))
    score = bcubed(np.array([label for label, _ in pairs], int), people)
    assert score.precision == pytest.approx(np.mean(precision) if pairs else 1)
    assert score.recall == pytest.approx(np.mean(recall) if pairs else 1)


@given(clusterings)
def test_pairwise_counts_pairs(pairs):
    labels, people = alone([label for label, _ in pairs]), [person for _, person in pairs]
    together = {pair for pair in itertools.combinations(range(len(pairs)), 2) if labels[pair[0]] == labels[pair[1]]}
    same = {pair for pair in itertools.combinations(range(len(pairs)), 2) if people[pair[0]] == people[pair[1]]}
    score = pairwise(np.array([label for label, _ in pairs], int), people)
    assert score.precision == pytest.approx(len(together & same) / len(together) if together else 1)
    assert score.recall == pytest.approx(len(together & same) / len(same) if same else 1)


@pytest.mark.parametrize(("labels", "people", "precision", "recall"), [
    ([], "", 1, 1),
    ([0], "a", 1, 1),
    ([-1, -1], "aa", 1, 0.5),
    ([0, 0, 0, 0], "aabb", 0.5, 1),
    ([0, 0, 1, 1, 1], "aaabb", (1 + 1 + 1 / 3 + 2 / 3 + 2 / 3) / 5, (2 / 3 + 2 / 3 + 1 / 3 + 1 + 1) / 5),
])
def test_bcubed_of_known_cases(labels, people, precision, recall):
    score = bcubed(np.array(labels, int), people)
    assert (score.precision, score.recall) == (pytest.approx(precision), pytest.approx(recall))


def test_f_is_the_harmonic_mean():
    assert Score(0.5, 1).f == pytest.approx(2 / 3)
    assert Score(0, 0).f == 0


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 labels for 3 faces"):
        bcubed(np.array([0, 1]), "abc")
