"""How far a stage is, as seen in this process: for the live line of a local run, never for accounts."""
from __future__ import annotations

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


def reset(stage: str) -> None:
    """Start counting anew."""
    with _LOCK:
        _DONE[stage] = 0
