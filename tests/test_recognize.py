"""Who is in a picture is what its faces say: on people who are known, a verdict for each way to be wrong."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline import stages
from pipeline.stages import RunOptions
from schemas.identity import Identity
from schemas.scene import Shown
from tests.builders import EMBEDDER, make_workdir, party, shot, unit
from transforms import face_models
from transforms.cluster import ClusterOptions
from transforms.parts import Parts
from transforms.recognize import Newcomers, NotFoundAgain, Roster, Seen, admit, mean, nobody, read_roster, recognize

BOUNDS = face_models.bounds(EMBEDDER)


@dataclass(frozen=True)
class Known:
    roster: Roster
    identity: dict[str, str]
    """Person -> identity."""
    photo: dict[str, str]
    """Name of a photo -> image_key."""


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Known:
    photos = party(8, groups=0)
    workdir = make_workdir(tmp_path_factory.mktemp("party"), photos)
    stages.cluster(workdir, ClusterOptions(), RunOptions())
    photo = {row["uri"]: row["image_key"] for row in Parts(workdir, "images").read_all().to_pylist()}
    named = {row["face_id"]: row["identity"] for row in Parts(workdir, "identities").read_all().to_pylist()}
    return Known(read_roster(workdir, BOUNDS), {one.people[0]: named[f"{photo[one.name]}:0"] for one in photos}, photo)


def shown(known: Known, *people: str) -> list[Shown]:
    """People put in from left to right, each cut out of their first photo."""
    return [Shown(known.identity[name], f"{known.photo[f'alone-{name}-0.jpg']}:0", known.photo[f"alone-{name}-0.jpg"],
                  [100.0 * n, 0, 100.0 * n + 90, 90]) for n, name in enumerate(people)]


def seen(*embeddings: np.ndarray, quality: float = 0.9) -> Seen:
    """Faces found from left to right, each in the middle of a place."""
    boxes = np.array([[100 * n + 10, 10, 100 * n + 80, 80] for n in range(len(embeddings))], np.float32)
    return Seen([f"{'0' * 32}:{n}" for n in range(len(embeddings))], boxes,
                np.full(len(embeddings), quality, np.float32), np.stack(embeddings).astype(np.float16))


def faces(*people: str) -> list[np.ndarray]:
    return [shot(name, "a new picture", noise=0.5) for name in people]


TRIO = "person-1", "person-4", "person-6"


def test_who_was_put_in_is_found_again(known):
    found = recognize(seen(*faces(*TRIO)), shown(known, *TRIO), known.roster, BOUNDS)
    assert [row.identity for row in found] == [known.identity[name] for name in TRIO]
    assert all(BOUNDS.outlier <= row.centroid_similarity <= 1 for row in found)


@pytest.mark.parametrize(("found", "reason"), [
    ((), "no_face"), (TRIO[:2], "too_few_faces"), ((*TRIO, "person-2"), "wrong_people"),
    (("person-1", "person-4", "person-2"), "wrong_people"), (("person-4", "person-1", "person-6"), "wrong_people"),
    (("person-1", "person-4", "stranger"), "wrong_people")])
def test_who_is_not_found_again(known, found, reason):
    faces_found = seen(*faces(*found)) if found else nobody(EMBEDDER.dimensions)
    with pytest.raises(NotFoundAgain) as no:
        recognize(faces_found, shown(known, *TRIO), known.roster, BOUNDS)
    assert no.value.reason == reason


def test_a_face_elsewhere_than_it_was_put_is_not_the_one(known):
    elsewhere = seen(*faces(*TRIO))
    elsewhere.boxes[2] += 300
    with pytest.raises(NotFoundAgain, match="wrong_people"):
        recognize(elsewhere, shown(known, *TRIO), known.roster, BOUNDS)


def test_a_face_of_low_quality_is_not_kept(known):
    with pytest.raises(NotFoundAgain, match="low_quality"):
        recognize(seen(*faces(*TRIO), quality=BOUNDS.quality - 0.01), shown(known, *TRIO), known.roster, BOUNDS)


def newcomer(face_id: str, identity: str | None) -> tuple[str, Identity]:
    return face_id, Identity(face_id, identity, 1.0)


def generated(*people: str, quality: float = 0.9) -> tuple[Seen, Newcomers]:
    """A picture of these, and portraits of the three."""
    found = seen(*faces(*people), quality=quality) if people else nobody(EMBEDDER.dimensions)
    there = [newcomer(face_id, None if name == "stranger" else name)
             for face_id, name in zip(found.face_ids, people, strict=True)]
    return found, Newcomers(dict([*there, *(newcomer(f"portrait of {name}:0", name) for name in TRIO)]))


@pytest.mark.parametrize(("people", "wanted", "given", "reason"), [
    (TRIO, 3, TRIO, ""), (TRIO, 3, (), ""), (TRIO, 0, (), ""), (TRIO, 0, TRIO, ""), (TRIO[:1], 1, TRIO[:1], ""),
    (TRIO[:1], 1, (), ""), ((*TRIO, "person-2"), 0, (), ""), ((*TRIO[:2], "stranger"), 3, (), ""), ((), 3, TRIO, "no_face"),
    (TRIO[:2], 3, TRIO, "too_few_faces"), (TRIO[:1], 0, (), "too_few_faces"), ((*TRIO, "person-2"), 3, TRIO, "wrong_people"),
    ((*TRIO[:2], "person-2"), 3, TRIO, "wrong_people"), ((*TRIO[:2], "stranger"), 3, TRIO, "wrong_people"),
    (("person-2",), 1, TRIO[:1], "wrong_people"), (TRIO, 3, (*TRIO[:2], "nobody"), "wrong_people")])
def test_generated_people_are_those_of_the_pictures_that_they_were_made_from(people, wanted, given, reason):
    found, newcomers = generated(*people)
    claimed = [f"portrait of {name}" for name in given]
    if reason:
        with pytest.raises(NotFoundAgain) as no:
            admit(found, wanted, claimed, newcomers, BOUNDS)
        assert no.value.reason == reason
    else:
        told = [None if name == "stranger" else name for name in people]
        assert [row.identity for row in admit(found, wanted, claimed, newcomers, BOUNDS)] == told


def test_generated_faces_must_be_good_and_of_different_people():
    found, newcomers = generated(*TRIO, quality=BOUNDS.quality - 0.01)
    with pytest.raises(NotFoundAgain, match="low_quality"):
        admit(found, 3, [], newcomers, BOUNDS)
    one = faces(TRIO[0])[0]
    with pytest.raises(NotFoundAgain, match="too_similar"):
        admit(seen(one, one), 2, [], newcomers, BOUNDS)


def test_a_portrait_of_two_shows_nobody_in_particular():
    newcomers = Newcomers(dict([newcomer("a:0", "one"), newcomer("a:1", "two"), newcomer("b:0", None), newcomer("c:0", "one")]))
    assert [newcomers.shown(image_key) for image_key in "abcd"] == ["", "", "one", ""]


def left(name: str) -> np.ndarray:
    """The embedding of a person's gallery where the first photo does not count."""
    return shot(name, f"alone-{name}-1.jpg", noise=0.6)


def test_people_who_cannot_be_told_apart_are_not_kept(known):
    one, other = left("person-1"), left("person-4")
    blend = unit(one + 0.9 * other)  # the one, and more the other than that one's own face is
    weak = unit(other + 1.2 * unit(np.random.default_rng(0).standard_normal(EMBEDDER.dimensions)))
    with pytest.raises(NotFoundAgain) as no:
        recognize(seen(blend, weak), shown(known, "person-1", "person-4"), known.roster, BOUNDS)
    assert no.value.reason == "too_similar"


def test_the_assignment_is_of_all_faces_at_once(known):
    """Two faces are both most like the first: where each took its best, one would be a wrong person. As it is they are the
    right ones, who are too much alike."""
    one, other = left("person-1"), left("person-4")
    both = [unit(one + 0.95 * other), one]
    cosines = known.roster.similarities(np.stack(both).astype(np.float16), shown(known, "person-1", "person-4"))
    assert [known.roster.names[best] for best in cosines.argmax(axis=1)] == [known.identity["person-1"]] * 2
    with pytest.raises(NotFoundAgain) as no:
        recognize(seen(*both), shown(known, "person-4", "person-1"), known.roster, BOUNDS)
    assert no.value.reason == "too_similar"


def test_the_photo_that_somebody_was_cut_out_of_does_not_speak_for_them(known):
    """With the cut-out's own photo in the gallery anything that was put in would be found again."""
    people = shown(known, "person-1", "person-4")
    own = shot("person-1", "alone-person-1-0.jpg", noise=0.6)
    cosines = known.roster.similarities(own[None].astype(np.float16), people)
    other = shot("person-1", "alone-person-1-1.jpg", noise=0.6).astype(np.float16)
    column = known.roster.names.index(known.identity["person-1"])
    assert cosines[0, column] == pytest.approx(float(own.astype(np.float16).astype(float) @ other.astype(float)), abs=2e-3)
    untouched = known.roster.names.index(known.identity["person-2"])
    mine = [shot("person-2", f"alone-person-2-{take}.jpg", noise=0.6).astype(np.float16) for take in range(2)]
    assert cosines[0, untouched] == pytest.approx(float(own @ mean(np.stack(mine)).astype(float)), abs=2e-3)
