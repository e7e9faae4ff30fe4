"""Every face backend keeps the protocol: one suite for all, on real pictures where they are."""
from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from schemas.face import Detection
from tests import insightface_weights, opencv_weights
from tests.builders import drawn_photo
from transforms import digests, face_models
from transforms.children import Children, Killed
from transforms.examination import Examined, ExamineOptions, InProcess, examine_in_child, start_child
from transforms.extract import ExtractOptions, Extractor
from transforms.face_models import FaceModel, MissingModel
from transforms.failure import WrongUsage
from transforms.pictures import BadPicture, Limits, decode, encode

DEV = Path(__file__).parents[2] / "shared" / "faces" / "dev" / "images"
real = pytest.mark.skipif(not DEV.exists(), reason="needs ../shared/faces")


@dataclass(frozen=True)
class Subject:
    """A backend, and pictures of different sizes in which it finds faces; one of the pictures shows none."""

    name: str
    """BACKEND[:ARGUMENT]."""
    model: FaceModel
    pictures: list[np.ndarray]
    counts: list[int]


def picture(name: str) -> np.ndarray:
    return np.asarray(decode((DEV / name).read_bytes(), Limits()))


def markers(name: str) -> Subject:
    """A backend whose weights see drawn squares."""
    pictures = [insightface_weights.picture(640, 480, ("ann", 100, 100, 60), ("bob", 380, 200, 90)),
                insightface_weights.picture(1600, 900, ("cat", 800, 300, 150)), insightface_weights.picture(300, 200),
                insightface_weights.picture(500, 700, ("dan", 50, 400, 80))]
    return Subject(name, face_models.load(name, "cpu"), pictures, [2, 1, 0, 1])


@pytest.fixture(scope="module", params=["dlib", "opencv", "insightface", "insightface, batches",
                                        "insightface, one face at a time"])
def subject(request, tmp_path_factory) -> Subject:
    if request.param == "dlib":
        if not DEV.exists():
            pytest.skip("needs ../shared/faces")
        names = ["azure_002.jpg", "bbt_006.png", "misc_001.jpg", "azure_013.jpg"]
        return Subject("dlib", face_models.load("dlib"), [picture(name) for name in names], [2, 1, 0, 1])
    if request.param == "opencv":
        pictures = [opencv_weights.ground(*size) for size in ((640, 480), (1600, 900), (300, 200), (500, 700))]
        places = [(0, 130, 130, 40), (0, 420, 250, 60), (1, 900, 400, 80), (3, 100, 500, 50)]
        for pattern, (at, x, y, radius) in enumerate(places):
            opencv_weights.draw(pictures[at], x, y, radius, pattern=pattern)
        name = f"opencv:{opencv_weights.write(tmp_path_factory.mktemp('opencv'))}"
        return Subject(name, face_models.load(name, "cpu"), pictures, [2, 1, 0, 1])
    pack = insightface_weights.write_pack(tmp_path_factory.mktemp("pack"), batched="batches" in request.param,
                                          batch=1 if "one face" in request.param else "n")
    return markers(f"insightface:{pack}")


def same(one: Detection, other: Detection, tolerance: float) -> bool:
    """Whether two detections are one, but for what sums of a batch round otherwise."""
    return all(np.abs(getattr(one, name) - getattr(other, name)).max() <= tolerance
               for name in ("box", "keypoints", "embedding")) and abs(one.quality - other.quality) <= tolerance


def test_an_empty_batch_gives_nothing(subject):
    assert subject.model.analyze([]) == []


@pytest.mark.parametrize("pixels", [np.zeros((1, 1, 3), np.uint8), np.zeros((300, 200, 3), np.uint8),
                                    np.full((60, 12000, 3), 255, np.uint8), np.asarray(drawn_photo("nobody"))])
def test_a_picture_without_a_face_gives_an_empty_list(subject, pixels):
    pixels = pixels if subject.name == "dlib" else pixels * np.array([1, 1, 0], np.uint8)  # blue makes a marker
    assert subject.model.analyze([pixels]) == [[]]


def test_a_batch_gives_what_each_picture_gives_alone_in_order(subject):
    together = subject.model.analyze(subject.pictures)
    assert [len(faces) for faces in together] == subject.counts
    tolerance = 1e-4 if subject.name.startswith("insightface") else 0
    for pixels, faces in zip(subject.pictures, together, strict=True):
        for one, other in zip(faces, subject.model.analyze([pixels])[0], strict=True):
            assert same(one, other, tolerance)


def test_faces_are_described_as_the_records_say(subject):
    for faces in subject.model.analyze(subject.pictures):
        assert [face.box[0] for face in faces] == sorted(face.box[0] for face in faces)
        for face in faces:
            assert face.embedding.shape == (subject.model.embedder.dimensions,) and face.embedding.dtype == np.float32
            assert abs(np.linalg.norm(face.embedding.astype(float)) - 1) < 1e-5
            assert 0 <= face.quality <= 1
            left, right, nose, mouth_left, mouth_right = face.keypoints.reshape(5, 2)
            assert left[0] < right[0] and mouth_left[0] < mouth_right[0]  # as seen in the picture
            assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1]) + 0.2 * face.side
            for x, y in face.keypoints.reshape(5, 2):
                assert face.box[0] - 5 <= x <= face.box[2] + 5 and face.box[1] - 5 <= y <= face.box[3] + 5


def test_provenance_needs_no_model(subject):
    about = face_models.embedder(subject.name)
    assert about == subject.model.embedder and about.backend == subject.name.partition(":")[0]
    assert len(about.sha256) == 64 and about.license
    assert 0 < face_models.bounds(about).same_person < face_models.bounds(about).near_copy < 1


def test_in_this_process_and_in_children_it_finds_the_same(subject):
    options = ExamineOptions(faces=subject.name, device="cpu")
    files = [(digests.of_bytes(data), data) for data in (encode(PIL.Image.fromarray(pixels)) for pixels in subject.pictures)]
    files.insert(1, ("0" * 32, files[0][1][:500]))  # a bad picture costs itself, not its batch
    about = (subject.model.embedder, None)
    here, there = InProcess(options, *about), Children(2, examine_in_child, start_child, (options, *about))
    for one, other in zip(here.map(files), there.map(files), strict=True):
        assert type(one) is type(other)
        if isinstance(one, BadPicture):
            assert one.reason == other.reason == "not_a_picture"
            continue
        assert len(one.faces) == len(other.faces) and len(one.crops) == len(other.crops)
        tolerance = 1e-4 if subject.name.startswith("insightface") else 0
        assert all(same(*faces, tolerance) for faces in zip(one.faces, other.faces, strict=True))
        assert [str(bad) for _, bad in one.dropped] == [str(bad) for _, bad in other.dropped]
    here.close()
    there.close()


def die_of_poison(piece: tuple[str, bytes]) -> Examined | BadPicture:
    if piece[1] == b"poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return examine_in_child(piece)


def test_a_worker_that_dies_loses_one_picture(subject):
    data = encode(PIL.Image.fromarray(subject.pictures[0]))
    children = Children(1, die_of_poison, start_child, (ExamineOptions(faces=subject.name), subject.model.embedder, None))
    before, killed, after = children.map([("a", data), ("b", b"poison"), ("c", data)])
    assert isinstance(killed, Killed) and len(before.faces) == len(after.faces) == subject.counts[0]
    children.close()


def test_what_beam_sends_to_workers_can_be_pickled(subject):
    extractor = Extractor("memory://work", ExtractOptions(faces=subject.name), subject.model.embedder)
    assert pickle.loads(pickle.dumps(extractor)).embedder == subject.model.embedder


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_models.load("dlib")


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


def test_an_unknown_backend_or_argument_is_wrong_usage():
    with pytest.raises(WrongUsage, match="known are dlib, insightface, opencv"):
        face_models.load("facenet")
    with pytest.raises(WrongUsage, match="takes no argument"):
        face_models.load("dlib:large")


def test_a_missing_package_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingModel, match="pip install dlib-bin"):
        face_models.load("dlib")
