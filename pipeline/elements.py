"""What a stage works on, handed to its pipeline."""
from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import apache_beam as beam

from transforms import digests
from transforms.parts import Parts, get, join, put

FOLDER = "elements"
"""Of the work directory, while a pipeline runs."""
PACK = 1 << 20
"""Bytes of elements that travel together. What `beam.Create` is given is part of the pipeline, of which Dataflow takes 20 MB
("Request quotas", Jobs), and which every thread of a local runner unpacks: of more elements than one pack, names travel."""


@contextmanager
def elements(workdir: str, some: Iterable[object]) -> Iterator[beam.PTransform]:
    """The elements as `beam.Create` gives them, for as long as the pipeline runs."""
    things = list(some)
    packs = list(_packed(things))
    if len(packs) < 2:
        yield beam.Create(things)
        return
    left = Parts(workdir, FOLDER)
    left.discard()  # of a run that was stopped
    names = [digests.of_bytes(pack) for pack in packs]
    for name, pack in zip(names, packs, strict=True):
        put(join(left.url, name), pack)
    try:
        yield _Packed(left.url, names)
    finally:
        left.discard()


def _packed(things: list[object]) -> Iterator[bytes]:
    """Elements in packs of about `PACK` bytes, as Beam itself would pickle them."""
    waiting, size = list[bytes](), 0
    for thing in things:
        waiting.append(pickle.dumps(thing))
        size += len(waiting[-1])
        if size > PACK:
            yield pickle.dumps(waiting)
            waiting, size = [], 0
    if waiting:
        yield pickle.dumps(waiting)


class _Packed(beam.PTransform):
    def __init__(self, url: str, names: list[str]) -> None:
        super().__init__()
        self.url, self.names = url, names

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[object]:
        url = self.url
        return (pipeline
                | "Packs" >> beam.Create(self.names)
                | "Unpack" >> beam.FlatMap(lambda name: map(pickle.loads, pickle.loads(get(join(url, name)))))
                | "Spread" >> beam.Reshuffle())
