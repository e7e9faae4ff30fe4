"""A process whose bundles give elements on for seconds; ends well if each of these arrives.

    python -m tests.long_bundles"""
from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator

import apache_beam as beam

from pipeline import beam_runner
from transforms.homes import CAME, Mail

MEMORY = 6 << 30
"""Bytes that may be written to: where elements are cut, Beam may read the rest as a list of a thousand million windows."""
SECONDS = 3.0
"""Thrice as long as Beam waits by itself until it sends on what there is."""


class Send(beam.DoFn):
    def process(self, number: int) -> Iterator[tuple[int, Mail]]:
        sent, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            yield number, Mail(CAME, "newcomers", f"{number:032x}.arrow", sent)
            sent += 1
        yield number, Mail(CAME, "all", "", sent)


def check(element: tuple[int, Iterable[Mail]]) -> None:
    mails = sorted(element[1])
    sent, came = mails[0].batch, [mail.batch for mail in mails[1:]]
    if came != list(range(sent)):
        raise ValueError(f"{len(came)} of {sent} arrived")


def build(pipeline: beam.Pipeline) -> None:
    (pipeline | beam.Create(range(4)) | beam.Reshuffle() | beam.ParDo(Send()) | beam.GroupByKey()
     | "Check" >> beam.Map(check))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    beam_runner.run(build, "DirectRunner", [], children=2)
