"""Who is composed: only whom a photo shows well enough, each once, and the same again whatever else changes."""
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipeline import stages
from pipeline.stages import RunOptions
from tests.builders import EMBEDDER, Photo, make_workdir, party
from transforms import casting, face_models
from transforms.casting import Ring, has_room, read_cast, roomy, scenes
from transforms.cluster import ClusterOptions

QUALITY = face_models.bounds(EMBEDDER).quality


def cast_of(folder, photos):
    workdir = make_workdir(folder, photos, scale=4)
    stages.cluster(workdir, ClusterOptions(), RunOptions())
    return read_cast(workdir, QUALITY)


def test_a_ring_gives_every_name_once_from_a_place_on():
    ring = Ring([f"name {n}" for n in range(9)])
    for start in (0, 2 ** 63, 2 ** 64 - 1):
        assert sorted(ring.walk(start)) == list(range(9))
    assert list(Ring([]).walk(5)) == []


def test_a_name_more_moves_few_draws():
    names = [f"name {n}" for n in range(50)]
    draws = np.random.default_rng(0).integers(0, 2 ** 63, 1000).tolist()
    before, after = ([next(Ring(some).walk(2 * draw)) for draw in draws] for some in (names, [*names, "new"]))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {50} and 0 < len(moved) < 60  # to the new one alone; its share is 1/51


@pytest.mark.parametrize(("box", "height", "others", "wanted"), [
    ((300, 100, 400, 200), 400, [], True),
    ((300, 100, 380, 180), 400, [], False),  # too small
    ((300, 100, 400, 200), 260, [], False),  # no shoulders
    ((300, 100, 400, 200), 400, [(500, 100, 600, 200)], False),  # somebody beside
    ((300, 100, 400, 200), 400, [(620, 100, 720, 200)], True)])
def test_who_can_be_cut_out(box, height, others, wanted):
    assert has_room(np.array([box], np.float32), np.array([height]), [others]).tolist() == [wanted]


def test_a_photo_is_roomy_where_both_shoulders_are_in_it():
    boxes = np.array([[150, 0, 250, 100], [20, 0, 120, 100], [250, 0, 350, 100]], np.float32)
    assert roomy(boxes, np.array([400, 400, 400])).tolist() == [True, False, False]


def test_scenes_show_different_people_from_different_photos(tmp_path):
    cast = cast_of(tmp_path, party(12, groups=0))
    found = scenes(cast, 200, 0)
    assert [scene.number for scene in found] == list(range(200)) and len({scene.seed for scene in found}) == 200
    for scene in found:
        for seen in ("identity", "face_id"):
            assert len({getattr(one, seen) for one in scene.foregrounds}) == len(scene.foregrounds)
        assert len({one.source.image_key for one in scene.foregrounds}) == len(scene.foregrounds)
    sizes = Counter(scene.people for scene in found)
    assert all(scene.people < len(scene.foregrounds) for scene in found)  # some can stand in
    assert sorted(sizes) == [2, 3, 4, 5, 6, 7, 8] and sizes[2] < 40  # most show more than two
    people = Counter(one.identity for scene in found for one in scene.foregrounds)
    assert len(people) == 12 and max(people.values()) < 3 * min(people.values())


def test_other_seeds_give_other_scenes(tmp_path):
    cast = cast_of(tmp_path, party(6, groups=0))
    assert scenes(cast, 20, 0) == scenes(cast, 20, 0) != scenes(cast, 20, 1)


def test_people_seen_in_one_photo_are_not_cut_out_of_it(tmp_path):
    """Nor are those whose other photos are the same one again, or of the same burst: no reference would be left."""
    alone = [Photo(f"{name}-{take}.jpg", (name,)) for name in ("a", "b") for take in range(2)]
    burst = [Photo(f"burst-{take}.jpg", ("c",), clip="one") for take in range(3)]
    cast = cast_of(tmp_path, [*alone, *burst, Photo("d.jpg", ("d",))])
    assert len(cast.people) == 2
    assert {one.source.uri[0] for scene in scenes(cast, 30, 0) for one in scene.foregrounds} == {"a", "b"}


def test_one_person_is_no_company(tmp_path):
    assert scenes(cast_of(tmp_path, [Photo(f"{n}.jpg", ("a",)) for n in range(3)]), 30, 0) == []


def test_backgrounds_are_photos_without_a_face(tmp_path):
    cast = cast_of(tmp_path, [*party(3, groups=0), Photo("hills.jpg", ()), Photo("sea.jpg", ())])
    assert {source.uri for source in cast.backgrounds} == {"hills.jpg", "sea.jpg"}
    used = Counter(scene.background.uri if scene.background else "" for scene in scenes(cast, 100, 0))
    assert set(used) == {"", "hills.jpg", "sea.jpg"} and 20 < used[""] < 60


def test_a_photo_more_changes_few_scenes(tmp_path):
    photos = party(30, groups=0)
    before = scenes(cast_of(tmp_path / "one", photos), 100, 0)
    after = scenes(cast_of(tmp_path / "two", [*photos, Photo("new.jpg", ("person-3",))]), 100, 0)
    whom = [[[one.source.uri for one in scene.foregrounds] for scene in some] for some in (before, after)]
    changed = [new for old, new in zip(*whom, strict=True) if old != new]
    assert 0 < len(changed) < 20 and all("new.jpg" in uris for uris in changed)


def test_shares_of_scenes_are_shares():
    assert sum(casting.PEOPLE.values()) == pytest.approx(1)
