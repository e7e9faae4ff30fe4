"""A picture that is to be generated."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """What is asked for; the same again from the same model and options."""

    key: str
    """32 hex characters: of all below."""
    prompt: str
    """What the model is told."""
    captions: tuple[str, ...]
    """What it shows, in words; several where it is to be split into as many panels, row by row."""
    style: str
    """One of `scene_prompts.STYLES`, or empty where nobody said."""
    people: int
    """How many it is to show, in each of its panels."""
    seed: int
    """In [0, 2^63): of the noise that it begins with."""
    size: tuple[int, int]
    """Width and height, pixels."""
    given: tuple[str, ...] = ()
    """Keys of the pictures of those who are to be in it; none where words are all that the model is given."""


@dataclass(frozen=True)
class Sitting:
    """Pictures of some people who recur in them."""

    from_words: tuple[Picture, ...]
    from_pictures: tuple[Picture, ...]
    """Each given some of those from words."""
