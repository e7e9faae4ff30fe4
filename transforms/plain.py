"""What others name and raise, as text that can be written and as one line."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

from transforms.failure import Failure


class UnusableInput(Failure):
    """An INPUT, or what an option names, that cannot be opened; the message is one line that says what to do."""


def is_text(value: str) -> bool:
    """Whether a name or a text can be written as UTF-8: a file's name may be any bytes, JSON may hold half a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: str) -> str:
    """The same with a question mark for what cannot be written."""
    return value.encode(errors="replace").decode()


@contextlib.contextmanager
def plainly(what: str) -> Iterator[None]:
    """Whatever a store or a reader of files raises becomes one line that starts with `what`; a Failure is one already."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:  # botocore's, aiohttp's, requests' and Arrow's errors have no common base
        line = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UnusableInput(as_text(f"{what}: {line}")[:400]) from None
