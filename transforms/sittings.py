"""What is to be generated: whom, in which pictures, from which words.

A scene is a sample only where its people are seen again, so that everything is planned in sittings: some people, and a few
scenes of some of them each. A sitting is drawn from its number alone, so that a scene more changes no other sitting."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.picture import Picture, Sitting
from transforms import digests
from transforms.casting import PEOPLE
from transforms.failure import WrongUsage
from transforms.scene_prompts import (
    STYLES,
    ScenePrompt,
    drawn_person,
    drawn_prompt,
    of_styles,
    portrait,
    read_prompts,
    with_people,
)

SCENES = 8
"""Of a sitting: few, for a sitting's pictures are a part each, which is lost where a worker dies. With the next number it makes
about three scenes a person."""
CAST = 12
"""People of a sitting; more than the most that a prompt may ask for."""
GRID = 2, 2
"""Columns and rows of panels."""
MOST_IN_PANELS = 4
"""People of panels, unless a user's file wants more: in half a picture's width more have faces too small to be told by. A
choice."""
GUTTER = 0.02
"""Of a panel's sides, cut off at each edge: models draw lines between panels. A choice."""
SIZE_STEP = 16
"""Pixels: what transformer models' sides are multiples of (8 of the autoencoder, twice for patches)."""


@dataclass(frozen=True)
class SittingOptions:
    generate_mode: str = field(default="portrait-then-scene", metadata={
        "choices": ("scene", "portrait-then-scene", "panels"),
        "help": "how generated people come to be in several pictures. portrait-then-scene: a portrait of each from words, then "
                "other portraits and scenes by an image-conditioned pipeline that is given it. panels: one picture of four "
                "panels of the same people, split. scene: portraits and scenes from the same words alone, so that a person "
                "recurs only by luck, and few samples come of it; default: %(default)s"})
    portraits: int = field(default=2, metadata={
        "least": 1,
        "help": "portraits of each generated person, of which all but the first are made from the first; default: %(default)s, "
                "so that a reference need not be the picture that the scene was made from"})
    generate_sizes: str = field(default="1024x1024,1152x896,896x1152", metadata={
        "matches": r"\d+x\d+(,\d+x\d+)*", "metavar": "WxH[,WxH…]",
        "help": "sizes of generated pictures in pixels, multiples of 16, one drawn for each, the first for portraits; default: "
                "%(default)s"})
    prompts: str | None = field(default=None, metadata={
        "metavar": "FILE", "recorded": False,
        "help": "prompts of generated scenes, in turn: a .txt of one a line, or a .jsonl of {\"prompt\", \"people\", "
                "\"style\"}, the last two if known; who is in it is added to each; default: prompts from a grammar, mostly of "
                "three people and more"})
    generated_styles: str = field(default="stylised,imaginative", metadata={
        "matches": rf"({'|'.join(STYLES)})(,({'|'.join(STYLES)}))*", "metavar": ",".join(STYLES),
        "help": "styles of generated scenes; prompts of a file that say no style are taken too; default: %(default)s, as UMO "
                "has it, for photos show better what people look like"})

    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each size. Raises WrongUsage."""
        found = []
        for size in self.generate_sizes.split(","):
            width, height = (int(side) for side in size.split("x"))
            if min(width, height) < SIZE_STEP or width % SIZE_STEP or height % SIZE_STEP:
                raise WrongUsage(f"--generate-sizes {size}: sides are multiples of {SIZE_STEP}")
            found.append((width, height))
        return found

    def scene_prompts(self) -> list[ScenePrompt] | None:
        """The prompts of the user's file that are of the wanted styles; None where there is no file. Raises Failure,
        WrongUsage where no prompt is left."""
        if self.prompts is None:
            return None
        found = of_styles(read_prompts(self.prompts), self.generated_styles.split(","))
        if not found:
            raise WrongUsage(f"--prompts {self.prompts} has none of --generated-styles {self.generated_styles}")
        return found


def asked(prompt: str, captions: tuple[str, ...], style: str, people: int, size: tuple[int, int], given: tuple[str, ...],
          *draws: object) -> Picture:
    """A picture whose seed is drawn from `draws`."""
    seed = digests.number("generated", *draws) >> 1
    return Picture(digests.of("generated", prompt, captions, style, people, seed, size, given), prompt, captions, style, people,
                   seed, size, given)


def sittings(count: int, options: SittingOptions, seed: int) -> list[Sitting]:
    """Sittings of `count` scenes in all, of which four panels are as many. Raises Failure, WrongUsage."""
    prompts, sizes = options.scene_prompts(), options.sizes()
    scenes = -(-count // (GRID[0] * GRID[1])) if options.generate_mode == "panels" else count
    return [_sitting(range(start, min(start + SCENES, scenes)), options, prompts, sizes, seed)
            for start in range(0, scenes, SCENES)]


def _sitting(numbers: range, options: SittingOptions, prompts: Sequence[ScenePrompt] | None, sizes: list[tuple[int, int]],
             seed: int) -> Sitting:
    who = {place: drawn_person(seed, numbers[0], place) for place in range(CAST)}
    cast, scenes = {}, []
    for number in numbers:
        draw = digests.generator("sitting", seed, number)
        prompt = prompts[number % len(prompts)] if prompts else _drawn(number, options, seed)
        people = prompt.people or int(draw.choice(list(PEOPLE), p=list(PEOPLE.values())))
        chosen = draw.permutation(CAST)[:people].tolist()
        cast.update({place: who[place] for place in chosen})
        scenes.append((number, prompt, chosen, sizes[draw.integers(len(sizes))]))
    if options.generate_mode == "panels":
        return Sitting(tuple(sheet(prompt, [who[place] for place in chosen], size, seed, number)
                             for number, prompt, chosen, size in scenes), ())
    by_words = options.generate_mode == "scene"
    first = {place: _portrait(person, 0, (), sizes[0], seed, numbers[0], place) for place, person in cast.items()}
    shown = {place: () if by_words else (first[place].key,) for place in cast}
    others = [_portrait(cast[place], take, shown[place], sizes[0], seed, numbers[0], place)
              for place in cast for take in range(1, options.portraits)]
    made = []
    for number, prompt, chosen, size in scenes:
        caption = with_people(prompt.text, [who[place] for place in chosen])
        given = tuple(key for place in chosen for key in shown[place])
        told = f"{caption} The given pictures show them, in that order." if given else caption
        made.append(asked(told, (caption,), prompt.style, len(chosen), size, given, seed, number, "scene"))
    rest = (*others, *made)
    return Sitting((*first.values(), *rest), ()) if by_words else Sitting(tuple(first.values()), rest)


def _drawn(number: int, options: SittingOptions, seed: int) -> ScenePrompt:
    styles = options.generated_styles.split(",")
    prompt = drawn_prompt(str(number), seed, styles)
    many = options.generate_mode == "panels" and prompt.people > MOST_IN_PANELS
    return drawn_prompt(str(number), seed, styles, MOST_IN_PANELS) if many else prompt


def _portrait(person: str, take: int, given: tuple[str, ...], size: tuple[int, int], *draws: object) -> Picture:
    caption = portrait(person, take)
    told = f"{caption} The same person as in the given picture." if given else caption
    return asked(told, (caption,), "photoreal", 1, size, given, *draws, "portrait", take)


def sheet(prompt: ScenePrompt, people: list[str], size: tuple[int, int], seed: int, number: int) -> Picture:
    """A picture of panels, in each of which the same people are seen, in another scene."""
    columns, rows = GRID
    wanted = [prompt.style] if prompt.style else STYLES
    drawn = [drawn_prompt(f"{number} panel {panel}", seed, wanted, len(people)) for panel in range(1, columns * rows)]
    captions = tuple(with_people(one.text, people) for one in (prompt, *drawn))
    told = " ".join((f"A sheet of {columns} x {rows} pictures, in each of which the same {len(people)} people are seen.",
                     *(f"Picture {place}: {one.text}" for place, one in enumerate((prompt, *drawn), 1)),
                     with_people("", people).strip()))
    return asked(told, captions, prompt.style, len(people), size, (), seed, number, "sheet")


def panels(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Where the panels of a picture are, row by row: x0 y0 x1 y1, pixels, without what may be a line between them."""
    columns, rows = GRID
    across, down = width // columns, height // rows
    cut = round(GUTTER * across), round(GUTTER * down)
    return [(column * across + cut[0], row * down + cut[1], (column + 1) * across - cut[0], (row + 1) * down - cut[1])
            for row in range(rows) for column in range(columns)]
