"""What ends a command, the exit status it ends with (contract, section 1), and how an error is told."""
from __future__ import annotations


class Failure(Exception):
    """Exit status 1: failed, or nothing usable. The message is one plain line: what, and what to do."""


class WrongUsage(Exception):
    """Exit status 2. The message is one plain line."""


def in_a_line(error: BaseException) -> str:
    """An exception in one short line, for the message of a `Failure`."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
