"""Names outlive the coming and going of faces."""
from __future__ import annotations

from collections import Counter
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.homes import in_homes
from transforms import cluster, digests
from transforms.cluster import named
from transforms.failure import Failure
from transforms.identities import Summary, people_of
from transforms.known import Known
from transforms.naming import DESCRIBED, JOINED, NAMED, PARTED


def told(labels: list[int], face_ids: list[str], earlier: dict[str, str], known: Known | None = None):
    """What is kept of faces of whom it is said whose they are; -1 is nobody."""
    ids = digests.numbers(face_ids)
    head_of = {label: min(ids[row] for row in np.flatnonzero(np.array(labels) == label)) for label in set(labels)}
    head = np.array([head_of[label] if label >= 0 else its for label, its in zip(labels, ids, strict=True)], np.int64)
    lost = np.array(labels, int) < 0
    people, size = np.unique(head[~lost], return_counts=True)
    by_id, by_head = np.argsort(ids), np.lexsort((ids, head))
    kept = {"results": {"id": ids[by_id], "face": by_id, "head": head[by_id], "similarity": np.ones(len(ids)),
                        "lost": lost[by_id]},
            "members": {"id": head[by_head], "face": ids[by_head]},
            "people": {"id": people, "size": size, "similarity": np.ones(len(people)),
                       "nearest": np.roll(people, 1) if len(people) > 1 else np.full(len(people), -1),
                       "value": np.zeros(len(people))}}
    before = digests.numbers(earlier), np.array(list(earlier.values()), object)
    return named(face_ids, ids, kept, known or Known(), [before])


def name_clusters(labels, face_ids, earlier, known=None) -> list[str | None]:
    table = told(list(labels), face_ids, earlier, known)[NAMED]
    return table["name"][np.argsort(table["face"])].tolist()


def plain(labels: list[int], face_ids: list[str], earlier: dict[str, str], given: dict[int, str]) -> list[str | None]:
    """The rule in one loop."""
    faces = [(label, face) for label, face in zip(labels, face_ids, strict=True) if label >= 0]
    least = {label: min(face for its, face in faces if its == label) for label, _ in faces}
    common = Counter((label, earlier[face]) for label, face in faces if face in earlier)
    names = dict(given)
    for (label, name), _ in sorted(common.items(), key=lambda item: (-item[1], item[0][1], least[item[0][0]])):
        if label not in names and name not in names.values():
            names[label] = name
    taken = {*earlier.values(), *given.values()}
    for label in least.keys() - names.keys():
        own = digests.of(least[label])
        names[label] = next(name for number in count(1) if (name := own if number == 1 else f"{own}-{number}") not in taken)
    return [names.get(label) for label in labels]


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
    assert name_clusters(numbers, [f"f{face}" for face in range(len(labels))], earlier) == names


def test_a_face_that_leaves_the_identity_named_after_it_does_not_take_the_name_along():
    first, = set(name_clusters([0, 0, 0], ["a", "b", "c"], {}))
    second = name_clusters([0, 1, 1], ["a", "b", "c"], dict.fromkeys("abc", first))
    assert second == [f"{first}-2", first, first]
    third = name_clusters([0, 1, 1, 1, 1], ["a", "b", "c", "d", "e"], {"d": second[0], "e": second[0], "b": first, "c": first})
    assert third == [f"{first}-3", *[first] * 4]


@st.composite
def namings(draw):
    labels = draw(st.lists(st.integers(-1, 5), max_size=20))
    face_ids = [f"f{face:02d}" for face in range(len(labels))]
    own = [digests.of(face) for face in face_ids[:3]]
    names = ["A", "B", "C", "D", *own, *(f"{name}-2" for name in own[:2])]
    earlier = {face_id: draw(st.sampled_from(names)) for face_id in [*face_ids, "gone"] if draw(st.booleans())}
    return labels, face_ids, earlier


@settings(deadline=None)
@given(namings(), st.data())
def test_any_number_of_homes_gives_the_names_of_the_rule(naming, data):
    labels, face_ids, earlier = naming
    given_name = {label: name for label, name in zip(sorted({*labels} - {-1}), ["B", "Eve"], strict=False)
                  if data.draw(st.booleans())}
    known = Known(person={face: label for face, label in zip(face_ids, labels, strict=True) if label in given_name},
                  names=given_name)
    wanted = plain(labels, face_ids, earlier, given_name)
    assert name_clusters(labels, face_ids, earlier, known) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "run_here", in_homes(data.draw(st.integers(2, 9))))
        assert name_clusters(labels, face_ids, earlier, known) == wanted


@settings(deadline=None)
@given(namings(), st.randoms(use_true_random=False))
def test_names_are_one_to_one_and_depend_neither_on_the_order_nor_on_the_numbers(naming, random):
    labels, face_ids, earlier = naming
    names = name_clusters(labels, face_ids, earlier)
    pairs = set(zip(labels, names, strict=True))
    assert len({label for label, _ in pairs}) == len({name for _, name in pairs}) == len(pairs)
    assert {label for label, name in pairs if name is None} <= {-1}

    rows = random.sample(range(len(labels)), len(labels))
    numbers = random.sample(range(6), 6)
    other = name_clusters([numbers[labels[row]] if labels[row] >= 0 else -1 for row in rows],
                          [face_ids[row] for row in rows], earlier)
    assert other == [names[row] for row in rows]


@settings(deadline=None)
@given(namings())
def test_naming_again_changes_nothing(naming):
    labels, face_ids, earlier = naming
    names = name_clusters(labels, face_ids, earlier)
    known = {face_id: name for face_id, name in zip(face_ids, names, strict=True) if name is not None}
    assert name_clusters(labels, face_ids, known) == names


# --- what is told ---


def test_people_have_their_neighbours_names_and_their_earlier_ones():
    kept = told([0, 0, 0, 1], ["f0", "f1", "f2", "f3"], {"f0": "Ann", "f1": "Ann", "f2": "Bob"})
    people = people_of(kept[DESCRIBED]).to_pylist()
    assert [(row["identity"], row["faces"], row["nearest"], row["earlier"]) for row in people] == sorted(
        [("Ann", 3, digests.of("f3"), "Ann"), (digests.of("f3"), 1, "Ann", None)])


def test_splits_and_merges_are_told_by_name_and_no_more_of_them_than_a_user_reads():
    labels, face_ids = [0, 0, 1, 2, 2, 2], [f"f{face}" for face in range(6)]
    kept = told(labels, face_ids, {"f0": "Ann", "f1": "Ann", "f2": "Ann", "f3": "Bob", "f4": "Bob", "f5": "Cid"})
    one = Summary.of(kept[DESCRIBED], kept[PARTED], kept[JOINED])
    assert list(one.lines())[:-1] == [f"identity Ann is split into Ann (2 faces), {digests.of('f2')} (1 faces)",
                                      "identity Bob is merged from Bob (2 faces), Cid (1 faces)"]
    faces = [f"f{face:02d}" for face in range(60)]
    earlier = {face: f"p{at // 2:02d}" for at, face in enumerate(faces)}
    kept = told([face // 2 + 30 * (face % 2) for face in range(60)], faces, earlier)
    lines = list(Summary.of(kept[DESCRIBED], kept[PARTED], kept[JOINED]).lines())
    assert len(lines) == 22 and lines[0].startswith("identity p00 is split into ")
    assert lines[20] == "10 more identities are split into others"


def test_summaries_of_homes_add_up():
    def described(names: str, nearest: list[str | None], values: list[float]):
        return {"name": np.array(list(names), object), "size": np.ones(len(names), int), "similarity": np.ones(len(names)),
                "nearest": np.array(nearest, object), "value": np.array(values) * 4000**2,
                "earlier": np.full(len(names), None)}

    fates = [{"name": np.array([name, name], object), "other": np.array(["x", "y"], object), "count": np.array([2, 1])}
             for name in ("Zoe", "Ann")]
    nothing = {name: column[:0] for name, column in fates[0].items()}
    both = Summary.of(described("ab", ["b", "c"], [0.5, 0.7]), fates[0], nothing) + Summary.of(
        described("c", ["b"], [0.7]), fates[1], nothing)
    assert list(both.lines()) == [
        "identity Ann is split into x (2 faces), y (1 faces)", "identity Zoe is split into x (2 faces), y (1 faces)",
        "3 identities, 3 of them of one face; the two most alike: b and c (cosine of their means 0.70)"]
    assert list(Summary.of(described("", [], []), nothing, nothing).lines()) == ["0 identities"]


def test_two_who_are_said_to_be_two_are_not_merged_in_silence():
    known = Known(camps={"f0": {0}, "f1": {0}})
    known.one.add("f0")
    known.one.add("f1")
    with pytest.raises(Failure, match="merges the people of f1 and f0, who are said to be two"):
        told([0, 0], ["f0", "f1"], {}, known)
