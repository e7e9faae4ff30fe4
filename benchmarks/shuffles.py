"""What the shuffles of `cluster` move, and what that comes to for a hundred million faces.

    python -m benchmarks.shuffles [--sets 250000x128 1000000x128] [--seed 3] [--faces 100000000] [--keep FOLDER]

Runs the stage on two generated sets (`benchmarks.identities`), one after the other, and counts for each kind of element
function what it gives on (elements), what it leaves in parts (bytes) and how much processor time it takes. A power of the
number of faces through the two measurements says what another number comes to. Vectors and edges lie in parts; an element is
a name of one, some hundred bytes: last come the largest element and the most that one key's elements come to, as Python pickles
them, of the larger set. The smaller set must have several homes, of `link.FACES` each."""
from __future__ import annotations

import argparse
import math
import os
import pickle

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: a thread's time is all that it takes

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from benchmarks.identities import MADE, FaceSet, make, place
from pipeline import stages
from pipeline.stages import RunOptions
from transforms import compare, homes, identities, link, parts, survey
from transforms.cluster import ClusterOptions
from transforms.parts import Parts

MEASURED: list[type[beam.DoFn]] = [
    survey.KeyImages, survey.FindCopies, survey.SurveyBlock, survey.MakeTable, compare.PlaceBlock, compare.CompareRegion,
    compare.BestOfBlock, link.SayWho, link.LayOut, homes.TakeStep, identities.SendCalled,
    identities.SendEarlier, identities.SendSaid, identities.LeaveHome, identities.WriteBlock]


ELEMENT, VALUES = 4e6, 8e6
"""Bytes that an element, and a key's elements together, stay below (issue "Identities")."""


@dataclass
class Moved:
    elements: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Meter:
    """Counts what element functions move, by name; those of `TakeStep` by the step."""

    def __init__(self) -> None:
        self.moved: dict[str, Moved] = {}
        self.largest = 0
        """Bytes of an element."""
        self.values: Counter[tuple[str, str, Any]] = Counter()
        """Function, which of its uses, and key -> bytes of its elements."""
        self.here = threading.local()
        self.lock = threading.Lock()

    def __enter__(self) -> Meter:
        self.before: list[tuple[Any, str, Any]] = []
        for kind in MEASURED:
            self._replace(kind, "process", self._measured(kind.process))
        self._replace(parts, "appearing_whole", self._counted(parts.appearing_whole))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, original in self.before:
            setattr(owner, name, original)

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self.before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)

    def _measured(self, process: Any) -> Any:
        @functools.wraps(process)
        def measured(function: beam.DoFn, *element: Any) -> Iterator[Any]:
            self.here.bytes, start = 0, time.thread_time()
            given = list(process(function, *element))
            seconds = time.thread_time() - start
            name, use = type(function).__name__, ""
            if isinstance(function, homes.TakeStep):
                name, use = type(function.step).__name__, function.stem
            sizes = [len(pickle.dumps(one)) for one in given]
            with self.lock:
                self.largest = max([self.largest, *sizes])
                for one, size in zip(given, sizes, strict=True):
                    if isinstance(one, tuple):
                        self.values[name, use, one[0]] += size
                moved = self.moved.setdefault(name, Moved())
                moved.elements, moved.bytes = moved.elements + len(given), moved.bytes + self.here.bytes
                moved.seconds += seconds
            yield from given
        return measured

    def _counted(self, appearing_whole: Any) -> Any:
        @contextlib.contextmanager
        def counted(path: str) -> Iterator[str]:
            with appearing_whole(path) as waiting:
                yield waiting
                self.here.bytes = getattr(self.here, "bytes", 0) + os.path.getsize(waiting)
        return counted


def measure(faces: FaceSet, seed: int, keep: Path | None) -> Meter:
    with place(keep, f"{faces}-{seed}") as workdir:
        make(faces, seed, workdir)
        for folder in MADE:
            Parts(str(workdir), folder).discard()
        with Meter() as meter:
            stages.cluster(str(workdir), ClusterOptions(cluster_processes=1), RunOptions())
        return meter


def power(small: float, large: float, ratio: float, farther: float) -> float:
    """What follows `large` by the same power of the number of faces: sets grew by `ratio`, and are to grow by `farther`."""
    if small <= 0 or large <= 0:
        return large
    return large * farther ** (math.log(large / small) / math.log(ratio))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=FaceSet.of, nargs=2, default=[FaceSet(250_000, 128), FaceSet(1_000_000, 128)],
                        metavar="FACESxDIMENSIONS", help="the smaller one first; default: 250000x128 1000000x128")
    parser.add_argument("--seed", type=int, default=3, help="default: 3")
    parser.add_argument("--faces", type=int, default=10**8, help="default: 100000000")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of generated sets, to be used again; default: none")
    values = parser.parse_args()
    meters = [measure(faces, values.seed, values.keep) for faces in values.sets]
    small, large = (meter.moved for meter in meters)
    ratio = values.sets[1].faces / values.sets[0].faces
    farther = values.faces / values.sets[1].faces
    print(f"| by | elements | MB | seconds | elements, {values.faces} faces | GB | core hours |", "|---" * 7 + "|", sep="\n")
    total = Moved()
    for name in large:
        one, other = small.get(name, Moved()), large[name]
        elements, size, seconds = (power(getattr(one, what), getattr(other, what), ratio, farther)
                                   for what in ("elements", "bytes", "seconds"))
        print(f"| {name} | {one.elements}, {other.elements} | {one.bytes / 1e6:.0f}, {other.bytes / 1e6:.0f} "
              f"| {one.seconds:.0f}, {other.seconds:.0f} | {elements:.2g} | {size / 1e9:.0f} | {seconds / 3600:.1f} |")
        total = Moved(total.elements + round(elements), total.bytes + round(size), total.seconds + seconds)
    print(f"| all | | | | {total.elements:.2g} | {total.bytes / 1e9:.0f} | {total.seconds / 3600:.0f} |")
    for what, size, goal in [("element", meters[1].largest, ELEMENT),
                             ("key's elements", max(meters[1].values.values()), VALUES)]:
        print(f"largest {what}: {size / 1e6:.3f} MB < {goal / 1e6:.0f}: {'reached' if size < goal else 'NOT REACHED'}")


if __name__ == "__main__":
    main()
