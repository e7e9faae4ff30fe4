"""The element of `extract`: a run of inputs, the unit of work, of retry and of checkpoint (design, point 2)."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One input as the listing or a manifest tells of it; nothing was opened yet."""

    uri: str
    """Relative to the chunk's root."""
    version: str = ""
    """Size and time or etag, as far as known: a changed file has another version."""
    group: str | None = None
    clip: str | None = None
    timestamp: float | None = None
    """Seconds."""
    caption: str | None = None
    license: str | None = None
    sidecars: tuple[tuple[str, str], ...] = ()
    """(uri, version) of `.txt` and `.json` files beside it that carry its caption and licence."""
    fault: str = ""
    """A reason of the closed list where the listing knows already that this is no picture."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items read together by one worker."""

    root: str
    """URL of the folder that every item's uri starts from."""
    items: tuple[Item, ...]
    tar: bool = False
    """True where the one item is a tar of pictures."""
    source: str = "photo"
    """What its pictures are, see `Image.source`."""

    def identity(self) -> list[object]:
        """What the chunk's name is a digest of, as JSON can say it."""
        return [self.root, self.tar, [dataclasses.astuple(item) for item in self.items]]
