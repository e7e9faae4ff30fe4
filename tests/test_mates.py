"""Faces of one image: two people, unless it shows one person twice."""
from __future__ import annotations

import numpy as np

from tests.builders import person, shot
from transforms.mates import exclusive_images, same_person_twice


def test_only_the_image_with_two_faces_of_one_person_is_marked():
    embeddings = np.stack([person("a"), shot("a", 1, noise=0.3), person("a"), person("b"), person("c")])
    images = np.array([0, 0, 1, 1, 2])
    assert same_person_twice(embeddings, images, 0.8).tolist() == [True, True, False, False, False]


def test_all_faces_of_such_an_image_are_marked_wherever_they_stand():
    embeddings = np.stack([person("a"), person("b"), person("x"), person("a")])
    assert same_person_twice(embeddings, np.array([7, 7, 3, 7]), 0.8).tolist() == [True, True, False, True]


def test_no_faces_and_single_faces_are_fine():
    assert same_person_twice(np.zeros((0, 8)), np.zeros(0, np.int64), 0.8).tolist() == []
    assert same_person_twice(person("a")[None], np.array([0]), 0.8).tolist() == [False]


def test_images_that_keep_faces_apart():
    images, exempt = np.array([7, 3, 7, 3, 5, 9, 9]), np.array([False, False, False, True, False, True, True])
    assert exclusive_images(images, exempt).tolist() == [0, -1, 0, -1, -1, -1, -1]
    assert exclusive_images(images[:0], exempt[:0]).tolist() == []
