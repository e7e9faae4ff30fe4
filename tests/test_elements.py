"""Elements of a pipeline, however many, arrive once each."""
from __future__ import annotations

import logging
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline import beam_runner
from pipeline.elements import FOLDER, PACK, elements

FEW, MANY = [("few", number) for number in range(3)], [("x" * 1000, number) for number in range(5 * PACK // 1000)]


@pytest.mark.parametrize("some", [[], FEW, MANY])
def test_every_element_arrives_once_and_nothing_is_left(tmp_path, some):
    with elements(str(tmp_path), some) as source:
        assert len(list((tmp_path / FOLDER).glob("*"))) == (6 if some is MANY else 0)
        beam_runner.run(lambda pipeline: assert_that(pipeline | source, equal_to(some)), "DirectRunner", ())
    assert not (tmp_path / FOLDER).exists()


def test_a_pipeline_holds_names_of_elements_and_not_these(tmp_path):
    def size(some: list[tuple[str, int]]) -> int:
        with elements(str(tmp_path), some) as source:
            pipeline = beam.Pipeline()
            pipeline | source
            return len(pipeline.to_runner_api().SerializeToString())

    unlike = [(f"{number:064x}" * 16, number) for number in range(5 * PACK // 1000)]
    assert size(unlike) < 2 * size(FEW) < len(unlike) * 64


def test_what_a_stopped_run_left_is_removed(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "old").write_bytes(b"")
    with elements(str(tmp_path), MANY):
        assert not Path(tmp_path, FOLDER, "old").exists()


def test_what_beam_says_of_this_machine_is_no_news(caplog):
    def say(_):
        logging.warning("Resource module is not available for current platform, memory usage cannot be fetched.")
        logging.warning("a picture is odd")

    beam_runner.run(lambda pipeline: pipeline | beam.Create([1]) | beam.Map(say), "DirectRunner", ())
    assert "a picture is odd" in caplog.text and "Resource module" not in caplog.text
