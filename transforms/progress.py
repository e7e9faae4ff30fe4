"""How far a stage is, as seen in this process, and what it has to say: for people, never for accounts."""
from __future__ import annotations

import sys
import threading
from collections import Counter

_DONE: Counter[str] = Counter()
_LOCK = threading.Lock()


def advance(stage: str, count: int = 1) -> None:
    """Say that `count` more things of the stage are done."""
    with _LOCK:
        _DONE[stage] += count


def done(stage: str) -> int:
    """Things of the stage done in this process so far."""
    with _LOCK:
        return _DONE[stage]


def taken() -> dict[str, int]:
    """What is done of each stage, counted from 0 again: for another process to add."""
    with _LOCK:
        counts = dict(_DONE)
        _DONE.clear()
        return counts


def reset(stage: str) -> None:
    """Start counting anew."""
    with _LOCK:
        _DONE[stage] = 0


def tell(text: str, end: str = "\n") -> None:
    """Write a line to standard error, in place of a live line that stands there on a terminal."""
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)
