"""Names outlive the coming and going of faces."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import digests
from transforms.naming import name_clusters


@pytest.mark.parametrize(("labels", "earlier", "names"), [
    ("", {}, []),
    ("0", {"f0": "Ann"}, ["Ann"]),
    ("00110", {"f0": "Ann", "f2": "Bob"}, ["Ann", "Ann", "Bob", "Bob", "Ann"]),
    # an outlier has no name, and lends none
    ("-0", {"f0": "Ann"}, [None, digests.of("f1")]),
    # a person falls in two: the larger part keeps the name
    ("01111", {f"f{face}": "Ann" for face in range(5)}, [digests.of("f0"), "Ann", "Ann", "Ann", "Ann"]),
    # two become one: the name that more of the faces had
    ("000", {"f0": "Bob", "f1": "Ann", "f2": "Bob"}, ["Bob", "Bob", "Bob"]),
    # as many of both: the first name in order
    ("00", {"f0": "Bob", "f1": "Ann"}, ["Ann", "Ann"]),
    # one to one: who comes second takes the next best of its own
    ("000111", {"f0": "Ann", "f1": "Ann", "f3": "Ann", "f4": "Bob"}, ["Ann"] * 3 + ["Bob"] * 3),
    # two halves of one person: the one with the least face keeps the name
    ("1010", {f"f{face}": "Ann" for face in range(4)}, ["Ann", digests.of("f1"), "Ann", digests.of("f1")]),
])
def test_names(labels, earlier, names):
    numbers = np.array([-1 if label == "-" else int(label) for label in labels], int)
    assert name_clusters(numbers, [f"f{face}" for face in range(len(labels))], earlier, {}) == names


def test_a_face_that_leaves_the_identity_named_after_it_does_not_take_the_name_along():
    first = name_clusters(np.array([0, 0, 0]), ["a", "b", "c"], {}, {})
    earlier = dict(zip("abc", first, strict=True))
    second = name_clusters(np.array([0, 1, 1]), ["a", "b", "c"], earlier, {})
    assert second[1:] == first[1:]
    assert second[0] not in earlier.values()


@st.composite
def namings(draw):
    labels = draw(st.lists(st.integers(-1, 5), max_size=20))
    face_ids = [f"f{face:02d}" for face in range(len(labels))]
    earlier = {face_id: draw(st.sampled_from("ABCD")) for face_id in face_ids if draw(st.booleans())}
    return labels, face_ids, earlier


@given(namings(), st.randoms(use_true_random=False))
def test_names_are_one_to_one_and_depend_neither_on_the_order_nor_on_the_numbers(naming, random):
    labels, face_ids, earlier = naming
    names = name_clusters(np.array(labels, int), face_ids, earlier, {})
    pairs = set(zip(labels, names, strict=True))
    assert len({label for label, _ in pairs}) == len({name for _, name in pairs}) == len(pairs)
    assert {label for label, name in pairs if name is None} <= {-1}

    rows = random.sample(range(len(labels)), len(labels))
    numbers = random.sample(range(6), 6)
    other = name_clusters(np.array([numbers[labels[row]] if labels[row] >= 0 else -1 for row in rows], int),
                          [face_ids[row] for row in rows], earlier, {})
    assert other == [names[row] for row in rows]


@given(namings())
def test_naming_again_changes_nothing(naming):
    labels, face_ids, earlier = naming
    names = name_clusters(np.array(labels, int), face_ids, earlier, {})
    known = {face_id: name for face_id, name in zip(face_ids, names, strict=True) if name is not None}
    assert name_clusters(np.array(labels, int), face_ids, known, {}) == names
