"""Sentences that say who stands where."""
from __future__ import annotations

import re

import pytest

from transforms.prompts import describe, places


@pytest.mark.parametrize(("centres", "wanted"), [
    ([10, 90], ["on the left", "on the right"]),
    ([90, 10], ["on the right", "on the left"]),
    ([50, 90, 10], ["in the middle", "on the right", "on the left"]),
    ([10, 30, 60, 90], ["on the left", "second from the left", "third from the left", "on the right"]),
])
def test_places_are_told_by_rank(centres, wanted):
    assert places(centres, 100) == wanted


@pytest.mark.parametrize("count", range(1, 11))
def test_no_two_people_are_in_one_place(count):
    assert len(set(places([float(n * 7 % 11) for n in range(count)], 11))) == count


def test_a_description_names_every_reference_once_and_is_no_instruction():
    sentence = describe("key", 0, 3, [80, 20, 50], 100)
    assert re.findall(r"reference (\d)", sentence) == ["1", "2", "3"]
    assert "three" in sentence.lower() and sentence.endswith(".")
    assert sentence.index("on the right") < sentence.index("on the left") < sentence.index("in the middle")


def test_sentences_vary_by_key_and_stay_by_seed():
    said = [describe(f"key-{n}", 0, 2, [1, 2], 3) for n in range(50)]
    assert len(set(said)) > 20
    assert said == [describe(f"key-{n}", 0, 2, [1, 2], 3) for n in range(50)]
    assert said != [describe(f"key-{n}", 1, 2, [1, 2], 3) for n in range(50)]
