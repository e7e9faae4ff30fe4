"""The extract step: what comes of a chunk, whichever way its pictures end."""
from __future__ import annotations

import os
import signal

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.chunk import Chunk, Item
from tests.builders import EMBEDDER, drawn_photo
from transforms import inputs
from transforms.children import Children
from transforms.examination import Examined, ExamineOptions, examine_in_child, start_child
from transforms.extract import ExtractChunks, ExtractHandler, ExtractOptions, NamedChunk, close_examiners, name_chunk
from transforms.parts import Parts
from transforms.pictures import BadPicture, encode

OPTIONS = ExtractOptions(extract_processes=1)
POISON = b"ends every process that looks at it"


def examine_or_die(piece: tuple[str, bytes]) -> Examined | BadPicture:
    if piece[1] == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return examine_in_child(piece)


@pytest.fixture
def mortal():
    """Child processes that a poisoned picture ends."""
    children = Children(1, examine_or_die, start_child, (ExamineOptions(),))
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
    named = [name_chunk(chunk, OPTIONS, EMBEDDER) for chunk in chunks]
    made = list(ExtractHandler(workdir, OPTIONS, EMBEDDER).run_inference(named, mortal))
    assert made == [one.part for one in named]
    images = [row for part in made for row in Parts(workdir, "images").read(part).to_pylist()]
    rejects = {row["uri"]: row for part in made for row in Parts(workdir, "rejects").read(part).to_pylist()}
    assert sorted(row["uri"] for row in images) == ["a.jpg", "b.jpg", "copy-of-b.jpg", "z.jpg"]
    assert len({row["image_key"] for row in images}) == 3
    assert rejects["poison.jpg"]["reason"] == "killed_worker" and rejects["poison.jpg"]["transient"]
    assert rejects["cut.jpg"]["reason"] == "broken_picture" and not rejects["cut.jpg"]["transient"]


def test_it_is_a_transform_for_pipelines_of_ones_own(photos):
    workdir = str(photos / "work")
    named = [name_chunk(chunk, OPTIONS, EMBEDDER) for chunk in inputs.chunks([str(photos)], OPTIONS)]
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        made = pipeline | beam.Create(named) | ExtractChunks(workdir, OPTIONS, EMBEDDER)
        assert_that(made, equal_to([one.part for one in named]))
    close_examiners()


def test_the_name_of_a_part_says_what_it_is_made_of():
    chunk = Chunk("/photos", (Item("a.jpg", "10 1.0"),))

    def name(chunk: Chunk = chunk, **options: object) -> NamedChunk:
        return name_chunk(chunk, ExtractOptions(**options), EMBEDDER)

    assert name() == name(extract_processes=7, chunk_size=3)
    others = [name(ref_size=100), name(min_side=9), name(max_pixels=10), name(ref_crop="face"),
              name(Chunk("/photos", (Item("a.jpg", "10 2.0"),))), name(Chunk("/others", chunk.items)),
              name(Chunk("/photos", (Item("b.jpg", "10 1.0"),)))]
    assert len({one.part for one in [name(), *others]}) == len(others) + 1
