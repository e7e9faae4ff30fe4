"""Element functions that compute much: where bundles are threads of one process, child processes do their work.

Threads wait for each other, for the interpreter's lock and for BLAS, which serves one caller of a process at a time: a million
generated faces of 128 numbers take 475 s in two threads, 338 where BLAS has one thread, 275 in two children (two cores)."""
from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from threadpoolctl import threadpool_limits

from transforms import progress
from transforms.children import Children, Killed
from transforms.failure import Failure

_children: Children[tuple[bytes, Any, tuple[Any, ...]], tuple[list[Any], dict[str, int]]] | None = None
_here: tuple[bytes, beam.DoFn] | None = None


@contextmanager
def child_processes(count: int) -> Iterator[None]:
    """While the block runs, what is `InChild` in this process is done in `count` children; in this process with 1."""
    global _children
    if count == 1:
        yield
        return
    _children = Children(count, _process, _one_thread, ())
    try:
        yield
    finally:
        _children.close()
        _children = None


class InChild(beam.DoFn):
    """Another element function, whose elements child processes take where `child_processes` has started some.

    A child that dies costs nothing (`transforms.children`): what an element leaves in parts has the same names the second time.
    One that dies again raises Failure."""

    def __init__(self, function: beam.DoFn) -> None:
        self.function = function

    def default_type_hints(self) -> Any:
        return self.function.default_type_hints()

    def setup(self) -> None:
        if _children is None:
            _one_thread()
            self.function.setup()
        else:
            self.pickled = pickle.dumps(self.function)

    def process(self, element: Any, *more: Any) -> Iterator[Any]:
        if _children is None:
            yield from self.function.process(element, *more)
            return
        done, = _children.map([(self.pickled, element, more)])
        if isinstance(done, Killed):
            raise Failure(f"a child process ended twice at {type(self.function).__name__}, for want of memory most likely: "
                          "run the same command again with a smaller --cluster-processes")
        results, advanced = done
        for stage, count in advanced.items():
            progress.advance(stage, count)
        yield from results


def _one_thread() -> None:
    """From now on a product takes one thread of this process: others run beside it, on any runner."""
    threadpool_limits(1, "blas")


def _process(piece: tuple[bytes, Any, tuple[Any, ...]]) -> tuple[list[Any], dict[str, int]]:
    """In a child: what comes of an element, and how far that brings each stage."""
    global _here
    pickled, element, more = piece
    if _here is None or _here[0] != pickled:
        _here = pickled, pickle.loads(pickled)
        _here[1].setup()
    return list(_here[1].process(element, *more)), progress.taken()
