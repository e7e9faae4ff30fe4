"""Child processes that may die: one process dies, one piece of work is lost (design, point 8).

Models that hold the interpreter's lock run here, each child with a model of its own. A child that dies is replaced
and the piece it had is tried once more, alone; a piece that kills twice is given back as `KILLED`."""
from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

from transforms.ahead import ahead
from transforms.failure import Failure

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class CannotStart(Failure):
    """A child process ended before it took any work: the fault is not a picture's."""


_failure: BaseException | None = None


def _ready() -> BaseException | None:
    """In a child: what its start failed by."""
    return _failure


class _Child:
    """One spawned process."""

    def __init__(self, children: Children[Any, Any]) -> None:
        self.executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_start,
                                            initargs=(children.initialize, children.arguments))
        self.ready = self.executor.submit(_ready)

    def wait_until_ready(self) -> None:
        """Raises what its start failed by, CannotStart where it ended without a word."""
        try:
            failure = self.ready.result()
        except BrokenProcessPool:
            raise CannotStart("child processes end as they start: look for what they print, and start a script's own "
                              "pipeline below `if __name__ == \"__main__\":`") from None
        if failure is not None:
            raise failure


def _start(initialize: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In a new child: end with the parent, however that ends; an executor's worker would wait for it for ever.

    An interrupt from the keyboard is the parent's business."""
    global _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a child process"

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    try:
        initialize(*arguments)
    except Exception as error:  # of any kind: the parent raises it
        _failure = error


class Killed:
    """Stands for the result of a piece that ended its process twice."""


KILLED = Killed()


class Children(Generic[Piece, Result]):
    """`count` spawned processes; each runs `initialize(*arguments)` once and then `function(piece)` one at a time."""

    def __init__(self, count: int, function: Callable[[Piece], Result], initialize: Callable[..., None],
                 arguments: tuple[Any, ...]) -> None:
        self.function, self.initialize, self.arguments = function, initialize, arguments
        self.count = count
        self.idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for _ in range(count):
            self.idle.put(_Child(self))
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="children")

    def _run(self, piece: Piece) -> Result | Killed:
        child = self.idle.get()
        try:
            for _ in range(2):
                child.wait_until_ready()
                try:
                    return child.executor.submit(self.function, piece).result()
                except BrokenProcessPool:
                    child.executor.shutdown(wait=False)
                    child = _Child(self)
            return KILLED
        finally:
            self.idle.put(child)

    def map(self, pieces: Iterable[Piece]) -> Iterator[Result | Killed]:
        """Results in the order of the pieces, which are taken at most twice as many ahead as there are children.

        Callers in several threads share the children."""
        for _, future in ahead(lambda piece: self.threads.submit(self._run, piece), pieces, 2 * self.count):
            yield future.result()

    def close(self) -> None:
        """End the processes."""
        self.threads.shutdown(wait=True)
        while not self.idle.empty():
            self.idle.get().executor.shutdown(wait=True)
