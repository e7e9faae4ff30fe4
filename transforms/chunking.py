"""Runs of a sorted list that stay the same when something is added or removed elsewhere."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from transforms import digests

Thing = TypeVar("Thing")


def cut(things: Iterable[Thing], size: int, name: Callable[[Thing], str]) -> Iterator[tuple[Thing, ...]]:
    """Runs of sorted things, cut after each whose name's digest is 0 modulo `size`, at most four times that long.

    A thing added or removed touches one run, two where it is a cut (content-defined chunking: Muthitacharoen, Chen,
    Mazières 2001, "A low-bandwidth network file system", 3.1)."""
    run: list[Thing] = []
    for thing in things:
        run.append(thing)
        if digests.number(name(thing)) % size == 0 or len(run) == 4 * size:
            yield tuple(run)
            run = []
    if run:
        yield tuple(run)
