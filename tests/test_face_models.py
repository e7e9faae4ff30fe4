"""Every face backend keeps the protocol: one suite for all, on real pictures where they are."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.builders import drawn_photo
from transforms import face_models
from transforms.face_models import FaceModel, MissingModel
from transforms.failure import WrongUsage
from transforms.pictures import Limits, decode

DEV = Path(__file__).parents[2] / "shared" / "faces" / "dev" / "images"
real = pytest.mark.skipif(not DEV.exists(), reason="needs ../shared/faces")


@pytest.fixture(scope="module", params=sorted(face_models.BACKENDS))
def model(request) -> FaceModel:
    return face_models.load(request.param)


def picture(name: str) -> np.ndarray:
    return np.asarray(decode((DEV / name).read_bytes(), Limits()))


def test_an_empty_batch_gives_nothing(model):
    assert model.analyze([]) == []


@pytest.mark.parametrize("pixels", [np.zeros((1, 1, 3), np.uint8), np.zeros((300, 200, 3), np.uint8),
                                    np.full((60, 3000, 3), 255, np.uint8), np.asarray(drawn_photo("nobody"))])
def test_a_picture_without_a_face_gives_an_empty_list(model, pixels):
    assert model.analyze([pixels]) == [[]]


@real
def test_a_batch_gives_what_each_picture_gives_alone_in_order(model):
    names = ["azure_002.jpg", "bbt_006.png", "misc_001.jpg", "azure_013.jpg"]
    pictures = [picture(name) for name in names]
    together = model.analyze(pictures)
    assert [len(faces) for faces in together] == [2, 1, 0, 1]
    for pixels, faces in zip(pictures, together, strict=True):
        alone = model.analyze([pixels])[0]
        for one, other in zip(faces, alone, strict=True):
            assert (one.box == other.box).all() and (one.keypoints == other.keypoints).all()
            assert (one.embedding == other.embedding).all() and one.quality == other.quality


@real
def test_faces_are_described_as_the_records_say(model):
    pixels = picture("bbt_004.jpg")
    faces = model.analyze([pixels])[0]
    assert len(faces) == 6
    assert [face.box[0] for face in faces] == sorted(face.box[0] for face in faces)
    for face in faces:
        assert face.embedding.shape == (model.embedder.dimensions,) and face.embedding.dtype == np.float32
        assert abs(np.linalg.norm(face.embedding.astype(float)) - 1) < 1e-5
        assert 0 <= face.quality <= 1
        left, right, nose, mouth_left, mouth_right = face.keypoints.reshape(5, 2)
        assert left[0] < right[0] and mouth_left[0] < mouth_right[0]  # as seen in the picture
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1]) + 0.2 * face.side
        for x, y in face.keypoints.reshape(5, 2):
            assert face.box[0] - 5 <= x <= face.box[2] + 5 and face.box[1] - 5 <= y <= face.box[3] + 5


@real
def test_the_bounds_part_one_person_from_another(model):
    bounds = face_models.bounds(model.embedder)
    man, man_again, woman = (model.analyze([picture(name)])[0][0].embedding
                             for name in ("age_005.jpg", "age_008.jpg", "age_018.jpg"))
    assert bounds.same_person <= man @ man_again <= bounds.near_copy
    assert man @ woman < bounds.same_person
    assert bounds.same_person < bounds.strict_same_person < bounds.near_copy


@real
def test_a_copy_is_above_the_near_copy_bound(model):
    pixels = picture("age_005.jpg")
    smaller = pixels[20:, 10:][::1]
    one, other = (model.analyze([seen])[0][0].embedding for seen in (pixels, np.ascontiguousarray(smaller)))
    assert one @ other > face_models.bounds(model.embedder).near_copy


def test_provenance_needs_no_model(model):
    assert face_models.embedder(model.embedder.backend) == model.embedder
    assert len(model.embedder.sha256) == 64 and model.embedder.license


def test_an_unknown_backend_or_argument_is_wrong_usage():
    with pytest.raises(WrongUsage, match="known are dlib"):
        face_models.load("facenet")
    with pytest.raises(WrongUsage, match="takes no argument"):
        face_models.load("dlib:large")


def test_a_missing_package_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingModel, match="pip install dlib-bin"):
        face_models.load("dlib")
