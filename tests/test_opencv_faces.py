"""The backend `opencv` on models that see drawn markers, through OpenCV's own decoding, suppression and alignment."""
from __future__ import annotations

import hashlib
import importlib
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from transforms.children import Children
from transforms.face_models import FaceModel, MissingModel, opencv

cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
pytest.importorskip("onnx", reason="needs onnx, which writes the models")

weights = importlib.import_module("tests.opencv_weights")


@pytest.fixture(scope="module", params=[False, True], ids=["any_size", "fixed_size"])
def folder(request, tmp_path_factory) -> Path:
    """YuNet is published with an input of any size (2026may) and with one of 640 x 640 that OpenCV resizes (2023mar)."""
    return weights.write(tmp_path_factory.mktemp("weights"), fixed=request.param)


@pytest.fixture(scope="module")
def model(folder) -> FaceModel:
    return opencv.load(str(folder), "auto")


def crowd() -> tuple[np.ndarray, dict[int, tuple[int, int, np.ndarray]]]:
    """A picture of five markers; x of the middle -> (radius, y of the middle, keypoints)."""
    picture = weights.ground(900, 620)
    places = [(700, 480, 90, -15), (90, 100, 40, 0), (300, 120, 15, 25), (240, 420, 70, 40), (520, 150, 24, -30)]
    return picture, {x: (radius, y, weights.draw(picture, x, y, radius, angle, pattern))
                     for pattern, (x, y, radius, angle) in enumerate(places)}


def same(ones, others) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert (one.box == other.box).all() and (one.keypoints == other.keypoints).all()
        assert (one.embedding == other.embedding).all() and one.quality == other.quality


def test_faces_are_where_they_were_drawn_from_left_to_right(model):
    picture, drawn = crowd()
    faces = model.analyze([picture])[0]
    assert len(faces) == len(drawn)
    assert all(tuple(one.box[:2]) < tuple(other.box[:2]) for one, other in pairwise(faces))
    for face in faces:
        middle = (face.box[:2] + face.box[2:]) / 2
        x = min(drawn, key=lambda x: abs(x - middle[0]))
        radius, y, keypoints = drawn[x]
        assert np.abs(face.box - (x - radius, y - radius, x + radius, y + radius)).max() < 2
        assert np.abs(face.keypoints.reshape(5, 2) - keypoints).max() < 2
        assert abs(face.detection_score - weights.SCORE) < 0.01


def test_keypoints_are_left_first_as_seen_in_the_picture(model):
    picture = weights.ground(300, 300)
    weights.draw(picture, 150, 150, 40)
    left, right, nose, mouth_left, mouth_right = model.analyze([picture])[0][0].keypoints.reshape(5, 2)
    assert left[0] < nose[0] < right[0] and mouth_left[0] < nose[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_faces_of_equal_x_come_from_top_to_bottom(model):
    picture = weights.ground(200, 600)
    for y in (450, 150):
        weights.draw(picture, 100, y, 40)
    faces = model.analyze([picture])[0]
    assert [round(float(face.box[1] / 10)) for face in faces] == [11, 41]


def test_a_batch_of_mixed_sizes_gives_what_each_picture_gives_alone(model):
    picture, drawn = crowd()
    large = cv2.resize(picture, None, fx=3, fy=3)
    batch = [picture, weights.ground(1, 1), large, weights.ground(31, 2000), picture[:, ::-1], picture[50:190]]
    together = model.analyze(batch)
    assert [len(faces) for faces in together] == [5, 0, 5, 0, 5, 3]
    for pixels, faces in zip(batch, together, strict=True):
        same(faces, model.analyze([pixels])[0])
    assert model.analyze([]) == []


@pytest.mark.parametrize("pixels", [np.zeros((1, 1, 3), np.uint8), np.zeros((1, 5000, 3), np.uint8),
                                    np.full((5000, 3, 3), 255, np.uint8), weights.ground(700, 500)])
def test_a_picture_without_a_face_gives_an_empty_list(model, pixels):
    assert model.analyze([pixels]) == [[]]


@pytest.mark.parametrize("radius", [45, 150, 600, 1200])  # 30 to 800 pixels across in the copies of 1280, of 320 or of both
def test_small_and_large_faces_of_a_large_picture_are_found_once_and_scaled_back(model, radius):
    picture = weights.ground(4000, 3000)
    x, y = 1803, 1406
    keypoints = weights.draw(picture, x, y, radius, 10)
    face, = model.analyze([picture])[0]
    tolerance = max(2, radius / 50)
    assert np.abs(face.box - (x - radius, y - radius, x + radius, y + radius)).max() < tolerance
    assert np.abs(face.keypoints.reshape(5, 2) - keypoints).max() < tolerance


def test_the_embedding_is_of_an_upright_chip(model):
    def embedding(radius: float, angle: float, pattern: int) -> np.ndarray:
        picture = weights.ground(1400, 1000)
        weights.draw(picture, 640, 480, radius, angle, pattern)
        return model.analyze([picture])[0][0].embedding

    first, second = embedding(48, 0, 1), embedding(48, 0, 2)
    assert first.dtype == np.float32 and first.shape == (128,) and abs(np.linalg.norm(first.astype(float)) - 1) < 1e-6
    for radius, angle in ((48, 35), (48, -80), (48, 180), (30, 15), (96, 60), (240, -25)):
        assert embedding(radius, angle, 1) @ first > 0.9
        assert embedding(radius, angle, 2) @ first < 0.5
    assert first @ second < 0.5


def test_the_grain_of_a_large_face_does_not_reach_its_chip(model):
    picture = weights.ground(2400, 1800)
    weights.draw(picture, 1200, 900, 500, 20, 4)
    grainy = picture.copy()
    grainy[:, :, :2] = (picture[:, :, :2] + np.random.default_rng(0).normal(0, 60, (1800, 2400, 2))).clip(0, 255)
    (smooth,), (rough,) = model.analyze([picture, grainy])
    assert smooth.embedding @ rough.embedding > 0.996  # 0.9986; 0.9923 where the chip is cut from the large picture


def test_quality_falls_for_small_and_for_blurred_faces(model):
    def quality(radius: float, blur: float = 0) -> float:
        picture = weights.ground(600, 500)
        weights.draw(picture, 300, 250, radius, 0, 3)
        return model.analyze([cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture])[0][0].quality

    small, full, blurred = quality(15), quality(60), quality(60, 6)
    assert 0 < small < 0.6 * full and 0 <= blurred < 0.6 * full and full <= 1


def test_provenance_is_of_both_files_and_needs_no_model(folder, model, tmp_path):
    about = opencv.embedder(str(folder))
    files = sorted(folder.glob("*.onnx"))
    assert about == model.embedder
    assert about.sha256 == hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert (about.backend, about.name, about.dimensions) == ("opencv", "face_recognition_sface_2021dec", 128)
    assert about.license == "MIT (YuNet), Apache-2.0 (SFace)"
    for file in files:
        (tmp_path / file.name).write_bytes(b"no model")
    assert opencv.embedder(str(tmp_path)).sha256 != about.sha256


def test_missing_weights_are_named_with_where_to_get_them(folder, tmp_path, monkeypatch):
    with pytest.raises(MissingModel, match="^--faces opencv needs a folder .*opencv_zoo.*--faces opencv:FOLDER$"):
        opencv.embedder("")
    with pytest.raises(MissingModel, match=r"^no face_detection_yunet\*.onnx in .*nowhere: get"):
        opencv.load(str(tmp_path / "nowhere"), "cpu")
    detector, recogniser = sorted(folder.glob("*.onnx"))
    (tmp_path / detector.name).write_bytes(detector.read_bytes())
    with pytest.raises(MissingModel, match=r"^no face_recognition_sface\*.onnx in .*: get"):
        opencv.load(str(tmp_path), "cpu")
    for name in ("face_recognition_sface_2021dec.onnx", "face_recognition_sface_2021dec_int8.onnx"):
        (tmp_path / name).write_bytes(recogniser.read_bytes())
    with pytest.raises(MissingModel, match="several .*2021dec.onnx, face_recognition_sface_2021dec_int8.onnx.*leave one"):
        opencv.embedder(str(tmp_path))
    (tmp_path / name).unlink()
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert opencv.embedder(f"~/{tmp_path.name}") == opencv.embedder(str(folder))


@pytest.mark.parametrize("at", [0, 1])
def test_a_file_that_is_no_model_is_named(folder, tmp_path, at):
    files = sorted(folder.glob("*.onnx"))
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stub = tmp_path / files[at].name
    stub.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 229738\n")
    with pytest.raises(MissingModel, match=f"cannot read {stub} .*git-lfs") as error:
        opencv.load(str(tmp_path), "cpu")
    assert "\n" not in str(error.value)


def test_a_missing_package_is_an_import_error(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match="cv2"):
        opencv.load(str(folder), "cpu")


_model: FaceModel


def start(argument: str, device: str) -> None:
    global _model
    _model = opencv.load(argument, device)


def analyze(picture: np.ndarray):
    return _model.analyze([picture])[0], cv2.getNumThreads()


def test_a_child_process_sees_the_same_on_one_thread(folder, model):
    children = Children(1, analyze, start, (str(folder), "cuda"))
    try:
        picture, _ = crowd()
        (faces, threads), = children.map([picture])
    finally:
        children.close()
    same(faces, model.analyze([picture])[0])
    assert threads == 1
