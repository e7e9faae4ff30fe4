"""A picture to be composed of cut-out people, and what became of it, or of one to be generated."""
from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Source:
    """A photo that something is taken from."""

    image_key: str
    root: str
    uri: str
    """Relative to `root`."""
    license: str | None


@dataclass(frozen=True)
class Foreground:
    """A person who is to be cut out of a photo. Boxes are in pixels of the upright photo."""

    source: Source
    part: str
    """Of `faces`, where the face's row stands."""
    face_id: str
    identity: str
    box: tuple[float, ...]
    """x0 y0 x1 y1 of the face."""
    keypoints: tuple[float, ...]
    """Ten numbers, as in `Detection`."""
    others: tuple[tuple[float, ...], ...]
    """Boxes of the photo's other faces."""


@dataclass(frozen=True)
class Scene:
    """Who is put before which background."""

    number: int
    """Counts a work directory's scenes from 0."""
    seed: int
    """In [0, 2^63): of all that its composing draws by chance."""
    people: int
    """How many are to be in it."""
    foregrounds: tuple[Foreground, ...]
    """As many, and then some who stand in for those who cannot be shown whole."""
    background: Source | None
    """None for one that is drawn."""

    def identity(self) -> list[object]:
        """What its picture and its row are made of, as JSON can say it: contents and not where they lie."""
        return [self.number, self.seed, self.people, self.background and [self.background.image_key, self.background.license],
                [[one.source.image_key, one.source.license, one.face_id, one.identity, one.box, one.keypoints, one.others]
                 for one in self.foregrounds]]


@dataclass(frozen=True)
class Shown:
    """A person of a composed picture."""

    identity: str
    face_id: str
    """Of the face that was cut out."""
    image_key: str
    """Of the photo that it was cut out of."""
    box: list[float]
    """Where the face was put: x0 y0 x1 y1, pixels of the composed picture."""


@dataclass(frozen=True)
class Proposal:
    """A row of `synthetic`: a picture that was proposed, whether or not it could be made."""

    key: str
    """32 hex characters: the member's name in the tar."""
    uri: str
    """Relative to `W/synthetic`: `tar#offset,size`, and `tar#key` where there is no picture."""
    image_key: str
    """Digest of the picture's bytes; empty where there is no picture, for the `reason`."""
    generator: str
    """What made it, with its version: `composite/1`, `diffusers:NAME@REVISION`."""
    prompt: str
    """What it was made from; empty for a composite, which takes none."""
    seed: int
    people: list[Shown]
    """Who was put in; of a generated picture nobody, for that is only claimed."""
    background: str
    """image_key of the photo behind the people; empty where it was drawn."""
    license: str
    """Of all photos in it, where every one's is known, or of the model that generated it; else empty."""
    reason: str
    """Why there is no picture, of the closed list in `schemas.reject`; else empty."""
    detail: str
    caption: str = ""
    """What it shows in words; empty for a composite."""
    style: str = ""
    """Of what was generated, one of `scene_prompts.STYLES`, or empty where nobody said."""
    wanted: int = 0
    """How many people it was to show; 0 where nobody said, and for a composite, whose `people` say it."""
    given: list[str] = field(default_factory=list)
    """image_keys of the generated pictures that it was made from, whose people it is to show."""


_SHOWN = pa.struct([("identity", pa.string()), ("face_id", pa.string()), ("image_key", pa.string()),
                    ("box", pa.list_(pa.float32()))])
PROPOSALS = pa.schema([
    ("key", pa.string()), ("uri", pa.string()), ("image_key", pa.string()), ("generator", pa.string()), ("prompt", pa.string()),
    ("seed", pa.int64()), ("people", pa.list_(_SHOWN)), ("background", pa.string()), ("license", pa.string()),
    ("reason", pa.string()), ("detail", pa.string()), ("caption", pa.string()), ("style", pa.string()), ("wanted", pa.int32()),
    ("given", pa.list_(pa.string()))])


def read_proposals(table: pa.Table) -> list[Proposal]:
    """The rows of a part of `synthetic`."""
    return [Proposal(**{**row, "people": [Shown(**one) for one in row["people"]]}) for row in table.to_pylist()]
