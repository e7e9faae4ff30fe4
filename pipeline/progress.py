"""How far a stage is: one live line on a terminal, plain lines else, where there is news."""
from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from transforms import progress

LIVE_SECONDS, PLAIN_SECONDS = 0.5, 10.0
"""Between two lines: often enough to seem alive, seldom enough for a log."""


def line(stage: str, done: int, total: int, unit: str, seconds: float) -> str:
    """`extract   120/1000 images   14.2 images/s   62 s left`"""
    rate = done / seconds if seconds > 0 else 0.0
    left = f"   {(total - done) / rate:.0f} s left" if rate and done < total else ""
    return f"{stage:<10}{done}/{total} {unit}" + (f"   {rate:.1f} {unit}/s{left}" if done else "")


@contextmanager
def shown(stage: str, total: int, unit: str) -> Iterator[None]:
    """Show the stage's progress on standard error while the block runs, and its last line at the end."""
    progress.reset(stage)
    live = sys.stderr.isatty()
    start = time.monotonic()
    over = threading.Event()

    def show(end: str) -> None:
        progress.tell(line(stage, min(progress.done(stage), total), total, unit, time.monotonic() - start), end)

    def watch() -> None:
        before = None
        while not over.wait(LIVE_SECONDS if live else PLAIN_SECONDS):
            if live or progress.done(stage) != before:
                show("" if live else "\n")
            before = progress.done(stage)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        show("\n")
