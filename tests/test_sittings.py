"""What is to be generated: everybody recurs, everything is drawn from keys, and a scene more changes no other sitting."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from schemas.picture import Picture, Sitting
from transforms.failure import Failure, WrongUsage
from transforms.prompts import NUMBERS
from transforms.scene_prompts import FORMS
from transforms.sittings import SCENES, SittingOptions, panels, sittings

OPTIONS = SittingOptions()
MODES = "scene", "portrait-then-scene", "panels"


def every(found: list[Sitting]) -> list[Picture]:
    return [one for sitting in found for one in (*sitting.from_words, *sitting.from_pictures)]


def scenes(found: list[Sitting]) -> list[Picture]:
    return [one for one in every(found) if one.people > 1]


@pytest.mark.parametrize("mode", MODES)
def test_as_many_scenes_as_were_asked_for_each_picture_with_a_key_and_seed_of_its_own(mode):
    options = replace(OPTIONS, generate_mode=mode)
    assert sittings(0, options, 0) == []
    found = sittings(20, options, 0)
    assert len(found) == (1 if mode == "panels" else 3)  # of 8 scenes at most, and four panels are four
    assert sum(len(one.captions) for one in scenes(found)) == 20
    for name in ("key", "seed"):
        assert len({getattr(one, name) for one in every(found)}) == len(every(found))
    assert all(0 <= one.seed < 2 ** 63 and len(one.key) == 32 for one in every(found))
    assert sittings(20, options, 0) == found != sittings(20, options, 1)


def test_a_scene_more_changes_no_other_sitting():
    before, after = sittings(2 * SCENES, OPTIONS, 0), sittings(2 * SCENES + 1, OPTIONS, 0)
    assert after[:2] == before and len(after) == 3


def test_everybody_in_a_scene_has_portraits_of_which_it_is_given_the_first():
    for sitting in sittings(16, replace(OPTIONS, portraits=3), 0):
        first = {one.key: one for one in sitting.from_words}
        assert all(one.people == 1 and not one.given for one in first.values())
        others = Counter(key for one in sitting.from_pictures if one.people == 1 for key in one.given)
        assert others == dict.fromkeys(first, 2)
        for scene in (one for one in sitting.from_pictures if one.people > 1):
            assert len(set(scene.given)) == scene.people and set(scene.given) <= first.keys()
            for key in scene.given:
                person = first[key].prompt.removeprefix("A studio photograph of ").partition(", head")[0]
                assert person in scene.captions[0] and scene.prompt.startswith(scene.captions[0])
        assert {key for one in sitting.from_pictures if one.people > 1 for key in one.given} == first.keys()  # nobody in vain


def test_from_words_alone_the_same_words_say_who_it_is():
    for sitting in sittings(8, replace(OPTIONS, generate_mode="scene"), 0):
        assert not sitting.from_pictures and not any(one.given for one in sitting.from_words)
        people = {one.prompt.partition(", head")[0].removeprefix("A studio photograph of ") for one in sitting.from_words
                  if one.people == 1}
        for scene in (one for one in sitting.from_words if one.people > 1):
            assert sum(person in scene.prompt for person in people) >= scene.people


def test_panels_show_the_same_people_in_other_scenes():
    for sheet in sittings(40, replace(OPTIONS, generate_mode="panels"), 0)[0].from_words:
        assert len(set(sheet.captions)) == 4 and not sheet.given and 2 <= sheet.people <= 4
        assert len({caption.partition("They are ")[2] for caption in sheet.captions}) == 1
        for caption in sheet.captions:
            assert caption.partition(" They are ")[0] in sheet.prompt
            assert NUMBERS[sheet.people] in caption


def test_panels_lie_apart_inside_of_the_picture():
    assert panels(100, 200) == [(1, 2, 49, 98), (51, 2, 99, 98), (1, 102, 49, 198), (51, 102, 99, 198)]


def test_most_scenes_are_of_three_people_and_more_and_in_the_wanted_styles():
    found = scenes(sittings(400, OPTIONS, 0))
    assert {one.style for one in found} == {"stylised", "imaginative"}
    sizes = Counter(one.people for one in found)
    assert sorted(sizes) == [2, 3, 4, 5, 6, 7, 8] and sizes[2] < 80
    photos = scenes(sittings(20, replace(OPTIONS, generated_styles="photoreal"), 0))
    assert all(any(one.prompt.lower().startswith(form) for form in FORMS["photoreal"]) for one in photos)


def test_sizes_are_drawn_from_those_that_were_named():
    options = replace(OPTIONS, generate_sizes="512x512,768x512")
    found = sittings(40, options, 0)
    assert {one.size for one in scenes(found)} == {(512, 512), (768, 512)}
    assert {one.size for one in every(found) if one.people == 1} == {(512, 512)}
    for wrong in ("500x512", "512x0"):
        with pytest.raises(WrongUsage, match=f"--generate-sizes {wrong}"):
            sittings(1, replace(OPTIONS, generate_sizes=wrong), 0)


def test_a_users_prompts_are_taken_in_turn_those_of_the_wanted_styles(tmp_path):
    rows = [{"prompt": "A band.", "people": 5}, {"prompt": "A photo.", "style": "photoreal"}, {"prompt": "A woodcut."}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = scenes(sittings(8, replace(OPTIONS, prompts=str(tmp_path / "a.jsonl")), 0))
    assert [one.captions[0].partition(" They")[0] for one in found] == ["A band.", "A woodcut."] * 4
    assert [one.people for one in found[::2]] == [5] * 4 and len({one.seed for one in found}) == 8
    with pytest.raises(WrongUsage, match="none of --generated-styles photoreal"):
        (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "A woodcut.", "style": "stylised"}))
        sittings(1, replace(OPTIONS, prompts=str(tmp_path / "b.jsonl"), generated_styles="photoreal"), 0)
    with pytest.raises(Failure, match="cannot be read"):
        sittings(1, replace(OPTIONS, prompts=str(tmp_path / "c.txt")), 0)
