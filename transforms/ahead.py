"""Work in threads or processes, some way ahead of what is taken back, in order."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def ahead(submit: Callable[[Piece], Future[Result]], pieces: Iterable[Piece],
          many: int) -> Iterator[tuple[Piece, Future[Result]]]:
    """Each piece with its result to come, in the order of the pieces, of which at most `many` are in work."""
    waiting: deque[tuple[Piece, Future[Result]]] = deque()
    for piece in pieces:
        waiting.append((piece, submit(piece)))
        if len(waiting) >= many:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
