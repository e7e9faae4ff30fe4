"""A process where a transform fails while another worker is still to connect; ends if the run does.

    python -m tests.late_worker"""
from __future__ import annotations

import itertools
import time

import apache_beam as beam
from apache_beam.runners.worker import sdk_worker

from pipeline import beam_runner
from transforms.failure import Failure

SECONDS = 1.0
"""Of being late: longer than the other worker takes to fail."""


class LateHarness(sdk_worker.SdkHarness):
    """Of four workers, two for each run, the first and the last connect late."""
    late = itertools.cycle([True, False, False, True])

    def run(self) -> None:
        if next(self.late):
            time.sleep(SECONDS)
        super().run()


def fail(element: int) -> None:
    raise Failure(f"{element} is none of ours")


def build(pipeline: beam.Pipeline) -> None:
    pipeline | beam.Create([1]) | beam.Map(fail)


if __name__ == "__main__":
    sdk_worker.SdkHarness = LateHarness
    for _ in range(2):  # the element goes to one of the two workers
        try:
            beam_runner.run(build, "DirectRunner", [])
        except Failure:
            continue
        raise SystemExit("it did not fail")
