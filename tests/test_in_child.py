"""What an element function gives does not depend on where its elements are processed."""
from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline import beam_runner
from transforms import progress
from transforms.failure import Failure
from transforms.in_child import InChild, child_processes


class Add(beam.DoFn):
    """Adds up the numbers of a key, and how many processes have begun for it."""

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def setup(self) -> None:
        self.table = 100
        (self.begun / str(os.getpid())).touch()

    def process(self, element: tuple[int, Iterable[int]], more: int) -> Iterator[tuple[int, int]]:
        key, numbers = element
        progress.advance("adding", 2)
        yield key, sum(numbers) + more + self.table
        yield beam.pvalue.TaggedOutput("beside", key)


class Dies(beam.DoFn):
    """Kills its process at an element for which there are not so many marks yet."""

    def __init__(self, marks: Path, times: int) -> None:
        self.marks, self.times = marks, times

    def process(self, element: int) -> Iterator[int]:
        if element == 3 and len(list(self.marks.iterdir())) < self.times:
            (self.marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield element


class Fails(beam.DoFn):
    def process(self, element: int) -> Iterator[int]:
        raise Failure(f"{element} is no such thing")


def run(function: beam.DoFn, children: int, *expected: object) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        result = pipeline | beam.Create(range(7)) | beam.ParDo(InChild(function))
        assert_that(result, equal_to(list(expected)))

    with child_processes(children):
        beam_runner.run(build, "DirectRunner", (), children)


@pytest.mark.parametrize("children", [1, 2])
def test_results_outputs_and_progress_are_the_same_in_children(tmp_path, children):
    def build(pipeline: beam.Pipeline) -> None:
        more = pipeline | "More" >> beam.Create([1000])
        sums = (pipeline | beam.Create([(number % 3, number) for number in range(12)]) | beam.GroupByKey()
                | beam.ParDo(InChild(Add(tmp_path)), beam.pvalue.AsSingleton(more)).with_outputs("beside", main="sums"))
        assert_that(sums.sums | "Together" >> beam.GroupByKey() | beam.MapTuple(lambda key, its: (key, list(its))),
                    equal_to([(0, [1118]), (1, [1122]), (2, [1126])]))
        assert_that(sums.beside, equal_to([0, 1, 2]), "beside")

    progress.reset("adding")
    with child_processes(children):
        beam_runner.run(build, "DirectRunner", (), children)
    assert progress.done("adding") == 6
    assert (str(os.getpid()) in os.listdir(tmp_path)) == (children == 1)


def test_a_child_that_dies_costs_nothing(tmp_path):
    run(Dies(tmp_path, 1), 2, *range(7))
    assert len(list(tmp_path.iterdir())) == 1


def test_who_dies_again_ends_the_run_with_a_line_that_helps(tmp_path):
    with pytest.raises(Failure, match="ended twice at Dies, .* with a smaller --cluster-processes$"):
        run(Dies(tmp_path, 2), 2)


def test_a_failure_is_the_same_in_a_child():
    with pytest.raises(Failure, match="is no such thing$"):
        run(Fails(), 2)
