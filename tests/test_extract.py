"""The extract step: what comes of a chunk, whichever way its pictures end."""
from __future__ import annotations

import gc
import io
import os
import signal
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import PIL.Image
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.chunk import Chunk, Item
from schemas.face import Detection
from schemas.weights import Weights
from tests import insightface_weights
from tests.builders import EMBEDDER, drawn_photo
from transforms import face_models, inputs
from transforms.children import Children
from transforms.examination import Examined, ExamineOptions, InProcess, examine_in_child, start_child
from transforms.extract import ExtractChunks, ExtractOptions, Extractor, NamedChunk, close_examiners, name_chunk
from transforms.face_models import FaceModel
from transforms.failure import Failure
from transforms.parts import Parts
from transforms.pictures import BadPicture, encode

OPTIONS = ExtractOptions(extract_processes=1)
DLIB = face_models.embedder("dlib")
POISON = b"ends every process that looks at it"


def examine_or_die(piece: tuple[str, bytes]) -> Examined | BadPicture:
    if piece[1] == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return examine_in_child(piece)


@pytest.fixture
def mortal():
    """Child processes that a poisoned picture ends."""
    children = Children(1, examine_or_die, start_child, (ExamineOptions(), DLIB, None))
    yield children
    children.close()


@pytest.fixture
def photos(tmp_path):
    for name in ("a.jpg", "b.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(encode(drawn_photo(name)))
    (tmp_path / "copy-of-b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes())
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:1000])
    (tmp_path / "poison.jpg").write_bytes(POISON)
    return tmp_path


def test_a_picture_that_kills_twice_is_one_reject(mortal, photos):
    workdir = str(photos / "work")
    chunks = inputs.chunks([str(photos)], OPTIONS)
    named = [name_chunk(chunk, OPTIONS, DLIB) for chunk in chunks]
    extractor = Extractor(workdir, OPTIONS, DLIB)
    made = [extractor.make_part(one, mortal) for one in named]
    assert made == [one.part for one in named]
    images = [row for part in made for row in Parts(workdir, "images").read(part).to_pylist()]
    rejects = {row["uri"]: row for part in made for row in Parts(workdir, "rejects").read(part).to_pylist()}
    assert sorted(row["uri"] for row in images) == ["a.jpg", "b.jpg", "copy-of-b.jpg", "z.jpg"]
    assert len({row["image_key"] for row in images}) == 3
    assert rejects["poison.jpg"]["reason"] == "killed_worker" and rejects["poison.jpg"]["transient"]
    assert rejects["cut.jpg"]["reason"] == "broken_picture" and not rejects["cut.jpg"]["transient"]


def test_it_is_a_transform_for_pipelines_of_ones_own(photos):
    workdir = str(photos / "work")
    named = [name_chunk(chunk, OPTIONS, DLIB) for chunk in inputs.chunks([str(photos)], OPTIONS)]
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        made = pipeline | beam.Create(named) | ExtractChunks(workdir, OPTIONS, DLIB)
        assert_that(made, equal_to([one.part for one in named]))
    close_examiners()


class Fussy:
    """A face model that fails on small pictures, alone and in a batch, and on all of them where it is told to."""

    def __init__(self, model: FaceModel, always: bool) -> None:
        self.embedder, self.device, self.model, self.always = model.embedder, model.device, model, always

    def analyze(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        if self.always or any(max(picture.shape) < 100 for picture in pictures):
            raise ValueError("a picture that I cannot take")
        return self.model.analyze(pictures)


def fussy(folder: Path, always: bool, sides: Sequence[int] = (300, 80, 310, 320)
          ) -> tuple[InProcess, Extractor, list[NamedChunk]]:
    """What examines and is run, and chunks of square pictures of these sides."""
    options = ExtractOptions(faces=f"insightface:{insightface_weights.write_pack(folder / 'pack')}", device="cpu")
    (folder / "photos").mkdir()
    for n, side in enumerate(sides):
        (folder / "photos" / f"{n}.jpg").write_bytes(encode(PIL.Image.fromarray(insightface_weights.picture(side, side))))
    about = face_models.embedder(options.faces)
    examiner = InProcess(options, about, None)
    examiner.models.faces = Fussy(examiner.models.faces, always)
    named = [name_chunk(chunk, options, about) for chunk in inputs.chunks([str(folder / "photos")], options)]
    return examiner, Extractor(str(folder / "work"), options, about), named


def test_a_picture_on_which_a_model_fails_costs_itself_and_not_its_batch(tmp_path):
    examiner, extractor, named = fussy(tmp_path, always=False)
    made = [extractor.make_part(one, examiner) for one in named]
    rejects = [row for part in made for row in Parts(extractor.workdir, "rejects").read(part).to_pylist()]
    assert [(row["uri"], row["reason"], row["transient"]) for row in rejects] == [("1.jpg", "model_failed", True)]
    assert sum(Parts(extractor.workdir, "images").read(part).num_rows for part in made) == 3


def test_pictures_on_which_a_model_goes_on_failing_stay_rejects(tmp_path):
    examiner, extractor, named = fussy(tmp_path, always=False, sides=(80, 300, 90))
    rejects = Parts(extractor.workdir, "rejects")
    for retry in (False, True, True):
        again = Extractor(extractor.workdir, extractor.options, extractor.embedder, retry=retry)
        made = [again.make_part(one, examiner) for one in named]
        rows = [row for part in made for row in rejects.read(part).to_pylist()]
        assert [(row["uri"], row["reason"]) for row in rows] == [("0.jpg", "model_failed"), ("2.jpg", "model_failed")]


def test_a_machine_without_room_is_no_fault_of_the_pictures(tmp_path, monkeypatch):
    pack = insightface_weights.write_pack(tmp_path / "pack")
    options = ExamineOptions(faces=f"insightface:{pack}", device="cpu")
    examiner = InProcess(options, face_models.embedder(options.faces), None)
    with Path("/dev/full").open("w+b", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        with pytest.raises(OSError, match="No space"):
            list(examiner.map([("key", encoded_marker())]))


def encoded_marker() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(insightface_weights.picture(400, 400, ("ann", 120, 130, 120))).save(buffer, "PNG")
    return buffer.getvalue()


def test_models_are_let_go_when_a_stage_is_done(tmp_path):
    pack = insightface_weights.write_pack(tmp_path / "pack")
    options = ExamineOptions(faces=f"insightface:{pack}", device="cpu")
    examiner = InProcess(options, face_models.embedder(options.faces), None)
    model = weakref.ref(examiner.models.faces)
    list(examiner.map([("key", encoded_marker())]))
    examiner.close()
    gc.collect()
    assert model() is None


def test_a_worker_with_other_weights_is_refused(tmp_path):
    pack, other = (insightface_weights.write_pack(tmp_path / name) for name in ("pack", "other"))
    insightface_weights.write_embedder(other / "w_markers.onnx", dimensions=32)
    options = ExamineOptions(faces=f"insightface:{other}", device="cpu")
    with pytest.raises(Failure, match="other weights than the command was given"):
        InProcess(options, face_models.embedder(f"insightface:{pack}"), None)


def test_a_model_that_fails_on_everything_ends_the_stage(tmp_path):
    examiner, extractor, named = fussy(tmp_path, always=True)
    with pytest.raises(Failure, match=r"fail on any picture \(ValueError: a picture that I cannot take\)"):
        extractor.make_part(named[0], examiner)
    assert not (tmp_path / "work").exists()


def test_the_name_of_a_part_says_what_it_is_made_of():
    chunk = Chunk("/photos", (Item("a.jpg", "10 1.0"),))

    def name(chunk: Chunk = chunk, **options: object) -> NamedChunk:
        return name_chunk(chunk, ExtractOptions(**options), EMBEDDER)

    assert name() == name(extract_processes=7, chunk_size=3, device="cuda:1", accelerator="type:nvidia-l4")
    others = [name_chunk(chunk, OPTIONS, EMBEDDER, Weights("ultralytics", "n.pt", "0" * 64, "AGPL-3.0")),
              name(ref_margin=0.5), name(ref_size=100), name(min_side=9), name(max_pixels=10), name(ref_crop="face"),
              name(Chunk("/photos", (Item("a.jpg", "10 2.0"),))), name(Chunk("/others", chunk.items)),
              name(Chunk("/photos", (Item("b.jpg", "10 1.0"),)))]
    assert len({one.part for one in [name(), *others]}) == len(others) + 1
