"""Candidates by identity, poses, and vectors read when wanted."""
from __future__ import annotations

import numpy as np
import pytest

from tests.builders import make_workdir, party
from transforms.gallery import VectorCache, hash_distance, pose_difference, poses
from transforms.parts import Parts

FRONTAL = np.array([[30, 40, 70, 40, 50, 60, 35, 80, 65, 80]], np.float32)


def test_a_frontal_face_has_no_pose_and_a_turned_one_has():
    assert poses(FRONTAL)[0] == pytest.approx([0, 0], abs=1e-6)
    turned = FRONTAL.copy()
    turned[0, 4] += 20  # the nose, half an eye distance to the right
    assert poses(turned)[0] == pytest.approx([0.5, 0], abs=1e-6)
    assert pose_difference(poses(FRONTAL)[0], poses(turned))[0] == pytest.approx(1)


def test_a_tilted_head_is_not_a_turned_one():
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rotated = (FRONTAL.reshape(5, 2) @ turn.T).reshape(1, 10).astype(np.float32)
    assert poses(rotated)[0] == pytest.approx([0, 0], abs=1e-5)


def test_hash_distance_counts_differing_bits():
    others = np.array([0b1011, 0b1000, 2**64 - 1], np.uint64)
    assert hash_distance(0b1011, others).tolist() == [0, 2, 61]


def test_the_cache_gives_what_the_parts_hold_and_stays_small(tmp_path):
    crops = Parts(make_workdir(tmp_path, party()), "crops")
    names = crops.parts()
    tiny, roomy = VectorCache(crops, most_bytes=1), VectorCache(crops)
    for name in [*names, *names]:
        rows = np.arange(crops.read(name).num_rows)[::-1]
        assert (tiny.rows(name, rows) == roomy.rows(name, rows)).all()
        assert len(tiny._kept) == 1
