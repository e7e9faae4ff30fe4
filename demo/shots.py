"""The kinds of photo that the recipe is written in: portraits, groups, composed scenes, video calls."""
from __future__ import annotations

from dataclasses import dataclass

from demo.cutouts import Outline
from demo.heads import Window
from demo.looks import Film, Look


@dataclass(frozen=True)
class Subject:
    """A person as one source picture shows them."""

    source: str
    face: int = 0
    """Which of the picture's faces, by ascending x."""
    window: Window = (-2.7, -2.7, 2.7, 3.5)
    """What a portrait shows: left, top, right, bottom in units around the eyes."""
    outline: Outline = ()
    """For cutting the person out; empty where nothing does."""


@dataclass(frozen=True)
class Single:
    """A portrait; cut out and put before a backdrop where one is named."""

    subject: Subject
    look: Look = Look()
    film: Film = Film()
    side: int = 640
    """Longest side, pixels."""
    backdrop: str = ""


@dataclass(frozen=True)
class Group:
    """A part of a source picture with several people, each with a look of their own."""

    source: str
    window: Window
    """Left, top, right, bottom as shares of the picture."""
    looks: tuple[Look, ...]
    """By ascending x of the faces whose eyes lie in the window."""
    film: Film = Film()
    side: int = 1024


@dataclass(frozen=True)
class Standing:
    """Where a cut-out person stands in a scene."""

    subject: Subject
    look: Look
    x: int
    y: int
    """Between the eyes, pixels of the scene."""
    unit: float
    """Pixels between the pupils."""


@dataclass(frozen=True)
class Scene:
    """People cut out and put before one backdrop, the farthest first."""

    backdrop: str
    people: tuple[Standing, ...]
    film: Film = Film()
    size: tuple[int, int] = (960, 640)


@dataclass(frozen=True)
class Call:
    """The screen of a video call: portraits in tiles."""

    tiles: tuple[Single, ...]
    columns: int
    tile: tuple[int, int] = (300, 340)
    """Width and height, pixels."""
    film: Film = Film()


Photo = Single | Group | Scene | Call
