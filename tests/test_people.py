"""Identities as a whole, against their plain definitions."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.identity import PEOPLE
from tests.builders import shot, unit
from transforms import digests, levels, people
from transforms.cells import Cells
from transforms.graph import Graph, all_kinds, letters
from transforms.homes import run_here
from transforms.identities import people_of
from transforms.rows import Rows, take
from transforms.similarity import UNIT, Edges, on_grid
from transforms.space import STEPS, Space

AS_THEY_ARE = Space(None, None, None)


def known_people(faces: np.ndarray, whose: list[int], outlier: float, space: Space = AS_THEY_ARE, cohesion: float = -1.0,
                 sure: bool = False) -> Mapping[str, Rows]:
    """Of unit vectors [N, D], of which it is said whose they are, `sure`: by a user."""
    nothing, count = np.zeros(0, np.int64), len(faces)
    graph = Graph(digests.numbers(f"face-{row}" for row in range(count)), space.project(on_grid(faces).astype(np.int16)),
                  np.zeros(count, np.int64), np.full(count, -1), Cells.one(faces.shape[1]), Edges(nothing, nothing, nothing),
                  space)
    camps = scipy.sparse.csr_matrix((count, 1), dtype=np.int64)
    steps = [levels.Begin(), *levels.join_known(),
             *people.steps(lambda: graph.cells, lambda: graph.space, outlier, cohesion, False)]
    return run_here(steps, all_kinds(graph.cells), letters(graph, np.array(whose), camps, np.full(count, sure), ()))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=40), st.sampled_from([0.75, 0.8, 0.9]), st.booleans())
def test_who_are_hardly_alike_on_the_whole_are_nobody_unless_a_user_says_so(shown, cohesion, sure):
    faces = np.stack([shot(f"person-{person}", row) for row, person in enumerate(shown)])
    whose = np.array(shown) % 4  # up to three people are taken for one
    kept = known_people(faces, whose.tolist(), -1.0, cohesion=cohesion, sure=sure)
    results = take(kept["results"], np.argsort(kept["results"]["face"]))
    alike = np.array([(faces[whose == its] @ unit(faces[whose == its].sum(axis=0))).mean() for its in whose])
    clear = np.abs(alike - cohesion) > 1e-3
    assert np.array_equal(~results["lost"][clear], ((alike >= cohesion) | sure)[clear])
    assert set(kept["people"]["id"]) == set(results["head"][~results["lost"]])
    assert set(kept["people"]["nearest"]) <= {-1, *kept["people"]["id"].tolist()}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.sampled_from([-1.0, 0.85, 0.9]))
def test_people_are_what_their_faces_are(whose, outlier):
    faces = np.stack([shot(f"person-{person}", row) for row, person in enumerate(whose)])
    kept = known_people(faces, whose, outlier)
    results, people = take(kept["results"], np.argsort(kept["results"]["face"])), kept["people"]
    label = np.where(results["lost"], -1, np.searchsorted(people["id"], results["head"]))
    means = {person: unit(sum(face for face, its in zip(faces, whose, strict=True) if its == person)) for person in whose}
    similarity = np.array([face @ means[person] for face, person in zip(faces, whose, strict=True)])
    assert np.allclose(results["similarity"], similarity, atol=1e-3)
    sure = np.abs(similarity - outlier) > 1e-3
    assert np.array_equal((label >= 0)[sure], (similarity >= outlier)[sure])
    labels = range(len(people["id"]))
    assert set(labels) == set(label.tolist()) - {-1}
    middle = [unit(faces[label == its].sum(axis=0)) for its in labels]
    for its in labels:
        own = results["similarity"][label == its]
        assert len({whose[row] for row in np.flatnonzero(label == its)}) == 1
        assert people["size"][its] == len(own)
        assert people["similarity"][its] == pytest.approx(own.mean(), abs=1e-5)
        others = {other: float(middle[other] @ middle[its]) for other in labels if other != its}
        nearest, value = people["nearest"][its], people["value"][its] / 4000**2
        assert (nearest == -1) == (not others)
        if others:
            assert value == pytest.approx(max(others.values()), abs=1e-3)
            assert others[int(np.searchsorted(people["id"], nearest))] == pytest.approx(max(others.values()), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_told_of_people_is_a_cosine_in_whatever_space_they_are(seed):
    whose = [row % 6 for row in range(60)]
    faces = np.stack([shot(f"person-{person}", row + 100 * seed) for row, person in enumerate(whose)])
    dimensions = faces.shape[1]
    lengths = np.geomspace(0.5, 2, dimensions)
    axes = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimensions, dimensions)))[0]
    space = Space(None, np.rint(STEPS * (axes / lengths) @ axes.T), np.rint(STEPS * (axes * lengths) @ axes.T))
    plain, projected = known_people(faces, whose, -1.0), known_people(faces, whose, -1.0, space)
    for table, name, one in (("results", "similarity", 1), ("people", "similarity", 1), ("people", "value", UNIT)):
        assert np.allclose(projected[table][name], plain[table][name], atol=0.01 * one)
    assert np.array_equal(projected["people"]["nearest"], plain["people"]["nearest"])


def test_the_table_has_a_row_for_each_by_name():
    table = people_of({"name": np.array(["b", "a", "c"], object), "size": np.array([2, 1, 1]),
                       "similarity": np.array([0.75, 1, 1]), "nearest": np.array(["a", "b", None], object),
                       "value": np.array([0.5, 0.5, 0]) * 4000**2, "earlier": np.array(["x", None, "z"], object)})
    assert table.schema == PEOPLE and table.to_pylist() == [
        {"identity": "a", "faces": 1, "spread": 0, "nearest": "b", "nearest_similarity": 0.5, "earlier": None},
        {"identity": "b", "faces": 2, "spread": 0.25, "nearest": "a", "nearest_similarity": 0.5, "earlier": "x"},
        {"identity": "c", "faces": 1, "spread": 0, "nearest": None, "nearest_similarity": None, "earlier": "z"}]
