"""Identities as a whole, against their plain definitions."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import shot, unit
from transforms.cells import Cells
from transforms.cluster import summary
from transforms.people import describe
from transforms.similarity import on_grid


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1, 6), min_size=1, max_size=40))
def test_people_are_what_their_faces_are(whose):
    faces = np.stack([shot(f"person-{person}", row) for row, person in enumerate(whose)])
    names = [f"n{person}" if person >= 0 else None for person in whose]
    people = sorted({name for name in names if name})
    mean = {name: unit(sum(face for face, its in zip(faces, names, strict=True) if its == name)) for name in people}
    similarity = np.array([face @ mean[name] if name else 0 for face, name in zip(faces, names, strict=True)], np.float32)
    earlier = [name and name.replace("n", "old") for name in names]
    table = describe(on_grid(faces).astype(np.int16), Cells.one(faces.shape[1]), similarity, names, earlier).to_pylist()
    assert [row["identity"] for row in table] == people
    assert [row["earlier"] for row in table] == [name.replace("n", "old") for name in people]
    for row in table:
        own = [value for value, name in zip(similarity, names, strict=True) if name == row["identity"]]
        assert row["faces"] == len(own) and row["spread"] == pytest.approx(1 - np.mean(own), abs=1e-5)
        others = {name: float(mean[name] @ mean[row["identity"]]) for name in people if name != row["identity"]}
        if not others:
            assert row["nearest"] is None and row["nearest_similarity"] is None
            continue
        assert row["nearest_similarity"] == pytest.approx(max(others.values()), abs=1e-3)
        assert others[row["nearest"]] == pytest.approx(max(others.values()), abs=1e-3)


def test_the_summary_names_the_two_most_alike():
    middle = {"a": [1, 0, 0], "b": [0.9, 0.436, 0], "c": [0, 0, 1]}
    faces = np.array([middle[name] for name in "aabbc"], np.float32)
    grid = on_grid(faces).astype(np.int16)
    told = summary(describe(grid, Cells.one(3), np.ones(5, np.float32), list("aabbc"), [None] * 5))
    assert told == "3 identities, 1 of them of one face; the two most alike: a and b (cosine of their means 0.90)"
    assert summary(describe(grid[:0], Cells.one(3), np.ones(0, np.float32), [], [])) == "0 identities"
