"""Child processes that may die: one process dies, one piece of work is lost (design, point 8).

Models that hold the interpreter's lock run here, each child with a model of its own. A child that dies is replaced
and the piece it had is tried once more, alone; a piece that kills twice is given back as `KILLED`."""
from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def _start(initialize: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In a new child: end with the parent, however that ends; an executor's worker would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a child process"

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    initialize(*arguments)


class Killed:
    """Stands for the result of a piece that ended its process twice."""


KILLED = Killed()


class Children(Generic[Piece, Result]):
    """`count` spawned processes; each runs `initialize(*arguments)` once and then `function(piece)` one at a time."""

    def __init__(self, count: int, function: Callable[[Piece], Result], initialize: Callable[..., None],
                 arguments: tuple[Any, ...]) -> None:
        self.function, self.initialize, self.arguments = function, initialize, arguments
        self.count = count
        self.idle: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
        for _ in range(count):
            self.idle.put(self._child())
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="children")

    def _child(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_start,
                                   initargs=(self.initialize, self.arguments))

    def _run(self, piece: Piece) -> Result | Killed:
        child = self.idle.get()
        try:
            for _ in range(2):
                try:
                    return child.submit(self.function, piece).result()
                except BrokenProcessPool:
                    child.shutdown(wait=False)
                    child = self._child()
            return KILLED
        finally:
            self.idle.put(child)

    def map(self, pieces: Iterable[Piece]) -> Iterator[Result | Killed]:
        """Results in the order of the pieces, which are taken at most twice as many ahead as there are children.

        Callers in several threads share the children."""
        ahead: deque[Future[Result | Killed]] = deque()
        for piece in pieces:
            ahead.append(self.threads.submit(self._run, piece))
            if len(ahead) >= 2 * self.count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def close(self) -> None:
        """End the processes."""
        self.threads.shutdown(wait=True)
        while not self.idle.empty():
            self.idle.get().shutdown(wait=True)


_SHARED: dict[Any, Children[Any, Any]] = {}
_LOCK = threading.Lock()


def shared(key: Any, make: Callable[[], Children[Any, Any]]) -> Children[Any, Any]:
    """The process's one set of children for `key`: threads that run bundles share them."""
    with _LOCK:
        if key not in _SHARED:
            _SHARED[key] = make()
        return _SHARED[key]


def close_shared() -> None:
    """End all shared children: what a local stage does when it is done, to give their memory back."""
    with _LOCK:
        while _SHARED:
            _SHARED.popitem()[1].close()
