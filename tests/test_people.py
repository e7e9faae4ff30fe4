"""Identities as a whole, against their plain definitions."""
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.identity import PEOPLE
from tests.builders import shot, unit
from transforms import digests, levels, people
from transforms.cells import Cells
from transforms.cluster import summary
from transforms.homes import run_here
from transforms.linkage import Clustered, Graph, all_kinds, letters
from transforms.people import describe
from transforms.similarity import Edges, on_grid


def known_people(faces: np.ndarray, whose: list[int], outlier: float) -> Clustered:
    """Of unit vectors [N, D], of which it is said whose they are."""
    nothing, count = np.zeros(0, np.int64), len(faces)
    graph = Graph(digests.numbers(f"face-{row}" for row in range(count)), on_grid(faces).astype(np.int16),
                  np.zeros(count, np.int64), np.full(count, -1), Cells.one(faces.shape[1]), Edges(nothing, nothing, nothing))
    camps = scipy.sparse.csr_matrix((count, 1), dtype=np.int64)
    steps = [levels.Begin(), *levels.join_known(), *people.steps(lambda: graph.cells, outlier, False)]
    kept = run_here(steps, all_kinds(graph.cells), letters(graph, np.array(whose), camps, np.zeros(count, bool), ()))
    return Clustered.of(graph.ids, kept["results"]["face"], kept["results"], kept["people"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.sampled_from([-1.0, 0.85, 0.9]))
def test_people_are_what_their_faces_are(whose, outlier):
    faces = np.stack([shot(f"person-{person}", row) for row, person in enumerate(whose)])
    found = known_people(faces, whose, outlier)
    means = {person: unit(sum(face for face, its in zip(faces, whose, strict=True) if its == person)) for person in whose}
    similarity = np.array([face @ means[person] for face, person in zip(faces, whose, strict=True)])
    assert np.allclose(found.similarity, similarity, atol=1e-3)
    sure = np.abs(similarity - outlier) > 1e-3
    assert np.array_equal((found.label >= 0)[sure], (similarity >= outlier)[sure])
    labels = [label for label in dict.fromkeys(found.label.tolist()) if label >= 0]
    assert labels == list(range(len(found.people["id"])))
    middle = [unit(faces[found.label == label].sum(axis=0)) for label in labels]
    for label in labels:
        own = found.similarity[found.label == label]
        assert len({whose[row] for row in np.flatnonzero(found.label == label)}) == 1
        assert found.people["size"][label] == len(own)
        assert found.people["similarity"][label] == pytest.approx(own.mean(), abs=1e-5)
        others = {other: float(middle[other] @ middle[label]) for other in labels if other != label}
        nearest, value = found.people["nearest"][label], found.people["value"][label] / 4000**2
        assert (nearest == -1) == (not others)
        if others:
            assert value == pytest.approx(max(others.values()), abs=1e-3)
            assert others[nearest] == pytest.approx(max(others.values()), abs=1e-3)


def test_the_table_has_a_row_for_each_by_name():
    some = {"id": np.arange(3), "size": np.array([2, 1, 1]), "similarity": np.array([0.75, 1, 1]),
            "nearest": np.array([1, 0, -1]), "value": np.array([0.5, 0.5, 0]) * 4000**2}
    table = describe(some, ["b", "a", "c"], [Counter(y=1, x=1), Counter(), Counter(z=1)])
    assert table.schema == PEOPLE and table.to_pylist() == [
        {"identity": "a", "faces": 1, "spread": 0, "nearest": "b", "nearest_similarity": 0.5, "earlier": None},
        {"identity": "b", "faces": 2, "spread": 0.25, "nearest": "a", "nearest_similarity": 0.5, "earlier": "x"},
        {"identity": "c", "faces": 1, "spread": 0, "nearest": None, "nearest_similarity": None, "earlier": "z"}]


def test_the_summary_names_the_two_most_alike():
    middle = {"a": [1, 0, 0], "b": [0.9, 0.436, 0], "c": [0, 0, 1]}
    found = known_people(np.array([middle[name] for name in "aabbc"], np.float32), [0, 0, 1, 1, 2], 0.5)
    told = summary(describe(found.people, list("abc"), [Counter()] * 3))
    assert told == "3 identities, 1 of them of one face; the two most alike: a and b (cosine of their means 0.90)"
    nobody = known_people(np.zeros((0, 3), np.float32), [], 0.5)
    assert summary(describe(nobody.people, [], [])) == "0 identities"
