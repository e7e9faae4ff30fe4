"""Which rectangle shows one person and nobody else."""
from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.crops import MARGINS, RULES, BadCrop, CropOptions, rectangle, render

boxes = st.tuples(st.integers(0, 900), st.integers(0, 600), st.integers(20, 120)).map(
    lambda box: np.array([box[0], box[1], box[0] + box[2], box[1] + box[2]], np.float32))


@pytest.mark.parametrize("rule", sorted(MARGINS))
def test_a_lone_face_gets_the_rules_margins(rule):
    beside, above, below = MARGINS[rule]
    crop = rectangle(np.array([500, 500, 600, 600], np.float32), [], 5000, 5000, CropOptions(ref_crop=rule))
    assert crop == pytest.approx([500 - beside * 100, 500 - above * 100, 600 + beside * 100, 600 + below * 100], abs=1)


def test_full_is_the_whole_picture_and_margins_stop_at_its_edge():
    face = np.array([5, 5, 65, 65], np.float32)
    assert rectangle(face, [], 100, 90, CropOptions(ref_crop="full")).tolist() == [0, 0, 100, 90]
    assert rectangle(face, [], 100, 90, CropOptions(ref_crop="head")).tolist()[:2] == [0, 0]


@given(boxes, st.lists(boxes, max_size=4), st.sampled_from(RULES))
def test_no_other_face_is_left_in_a_crop(face, others, rule):
    try:
        crop = rectangle(face, others, 1100, 800, CropOptions(ref_crop=rule))
    except BadCrop as bad:
        assert bad.reason == "crop_with_several_faces" and others
        return
    assert (crop[:2] >= 0).all() and crop[2] <= 1100 and crop[3] <= 800
    assert (crop[:2] <= face[:2]).all() and (crop[2:] >= np.minimum(face[2:], [1100, 800])).all()
    for other in others:
        meets = np.minimum(crop[2:], other[2:]) - np.maximum(crop[:2], other[:2])
        assert (meets <= 0).any()


def test_a_face_over_another_cannot_be_cut_free():
    face = np.array([100, 100, 160, 160], np.float32)
    with pytest.raises(BadCrop):
        rectangle(face, [face + 20], 400, 400, CropOptions(ref_crop="face"))


def test_references_are_never_enlarged_beyond_half_again():
    picture = PIL.Image.new("RGB", (400, 400))
    assert render(picture, np.array([0, 0, 100, 80]), CropOptions()).size == (150, 120)
    assert render(picture, np.array([0, 0, 400, 300]), CropOptions(ref_size=200)).size == (200, 150)


def test_a_known_person_stands_for_the_rule():
    face, person = np.array([100, 60, 140, 100], np.float32), np.array([70.4, 40, 190, 380.6], np.float32)
    whole = CropOptions(ref_crop="person")
    assert rectangle(face, [], 400, 400, whole, person).tolist() == [71, 40, 190, 380]
    assert rectangle(face, [], 400, 400, whole).tolist() != [71, 40, 190, 380]
    assert rectangle(face, [], 400, 400, CropOptions(ref_crop="face"), person).tolist() == [86, 42, 154, 114]
    beside = np.array([160, 60, 190, 90], np.float32)
    assert rectangle(face, [beside], 400, 400, whole, person).tolist() == [71, 40, 160, 380]
    narrow = np.array([110, 70, 130, 380], np.float32)  # the face's own surroundings are never cut
    assert rectangle(face, [], 400, 400, whole, narrow).tolist()[0] == 94


def test_the_margins_can_be_changed():
    face = np.array([500, 500, 600, 600], np.float32)
    tight, usual = (rectangle(face, [], 5000, 5000, CropOptions(ref_margin=margin)) for margin in (0.5, 1.0))
    assert (np.abs(2 * (tight - [*face]) - (usual - [*face])) <= 2).all()  # whole pixels
