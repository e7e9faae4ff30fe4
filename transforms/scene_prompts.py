"""Prompts of pictures that are to be generated: drawn from a grammar, or read from a user's file.

A style is photoreal, stylised (drawn, painted, modelled) or imaginative (a place that is not of this world): UMO keeps the last
two of what is generated, as a complement to photos (arXiv 2509.06818, 3.2)."""
from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from transforms import digests
from transforms.casting import PEOPLE
from transforms.failure import Failure
from transforms.manifests import read_rows
from transforms.parts import filesystem, get
from transforms.plain import is_text, plainly
from transforms.prompts import NUMBERS, listed

STYLES = ("photoreal", "stylised", "imaginative")
MOST_PEOPLE = 10
"""Whom a prompt may ask for: as many as a sample may have references (`--max-identities`)."""
RELATIONS = ("{number} friends", "{number} colleagues", "a family of {number}", "a band of {number} musicians",
             "{number} teammates", "{number} neighbours", "{number} strangers who have just met", "{number} old classmates",
             "{number} travellers", "{number} people of different ages")
DOING = ("stand side by side and look into the camera", "sit around a table", "lean against one another and laugh",
         "pose in two rows", "turn towards the viewer", "walk towards the viewer", "talk to one another")
PLACES = ("in a kitchen", "on a city square", "at the seaside", "in a library", "on a mountain path", "in a workshop",
          "in a garden", "on a railway platform", "in a concert hall", "in front of a plain wall")
WORLDS = ("on the moon, the earth behind them", "in a city under the sea", "on the back of a sleeping dragon",
          "in a forest of glowing mushrooms", "aboard an airship above the clouds", "in a palace of ice",
          "on a street of a Mars colony", "inside a giant clockwork", "on a floating island", "in a library without end")
LIGHT = ("in soft morning light", "at golden hour", "under an overcast sky", "by candlelight", "in the light of neon signs",
         "in bright noon sun", "by moonlight", "lit by a large window from the left")
FORMS = {
    "photoreal": ("a photograph", "a candid photograph", "a studio photograph", "a photograph on film"),
    "stylised": ("an oil painting", "a watercolour", "a pencil drawing", "a comic panel", "a still of a 3D animated film",
                 "a woodcut", "a pastel drawing", "a flat vector illustration"),
    "imaginative": ("a photograph", "a film still", "a detailed digital painting", "a fantasy book cover")}
"""What a picture of each style is."""
AGES = ("a young", "a middle-aged", "an old", "a thirty-year-old", "a forty-year-old", "a fifty-year-old")
ORIGINS = ("East African", "West African", "South Asian", "East Asian", "South-East Asian", "Central Asian", "Arab", "Persian",
           "Mediterranean", "Slavic", "Scandinavian", "Irish", "Andean", "Mexican", "Polynesian", "Afro-Brazilian")
HAIR = ("short black hair", "long dark hair", "curly brown hair", "a shaved head", "grey hair in a bun", "short red hair",
        "blond hair to the shoulders", "braided hair", "a short afro", "wavy chestnut hair", "white hair", "hair tied back")
FEATURES = ("round glasses", "freckles", "a scar on the chin", "thick eyebrows", "a gap between the front teeth", "dimples",
            "high cheekbones", "a crooked nose", "a broad jaw", "laughter lines", "a mole on the cheek", "pale eyes")
"""People are drawn evenly from these, grown-ups all, so that those of one picture look different: three of one gender or origin
are what models mix up (XVerse's issue 30)."""
LOOKS = ("looking into the camera, face on", "turned half to the left", "turned half to the right", "head tilted, smiling",
         "looking slightly up", "looking slightly down")
"""Of a portrait; the first one's is the first."""


@dataclass(frozen=True)
class ScenePrompt:
    """What a picture is to show."""

    text: str
    people: int
    """How many; 0 where a user's file does not say."""
    style: str
    """One of `STYLES`; '' where a user's file does not say."""


def drawn_prompt(key: str, seed: int, styles: Collection[str] = STYLES, number: int = 0) -> ScenePrompt:
    """A description of two to eight people, or of `number`, in one of these styles; the same for the same key and seed.

    Raises ValueError for a style that is not one of `STYLES`, or for none."""
    wanted = sorted(set(styles), key=STYLES.index)
    draw = digests.generator("scene prompt", key, seed)
    drawn, style = int(draw.choice(list(PEOPLE), p=list(PEOPLE.values()))), str(draw.choice(wanted))
    people = number or drawn

    def one(words: Collection[str]) -> str:
        return str(draw.choice(list(words)))

    who = one(RELATIONS).format(number=NUMBERS[people])
    form = one(FORMS[style])
    doing, place = one(DOING), one(WORLDS if style == "imaginative" else PLACES)
    return ScenePrompt(f"{form[0].upper()}{form[1:]} of {who} who {doing} {place}, {one(LIGHT)}.", people, style)


def drawn_person(*key: object) -> str:
    """A description of somebody, the same for the same key anywhere."""
    draw = digests.generator("generated person", *key)
    age, origin, gender, hair, feature = (str(draw.choice(list(words))) for words in
                                          (AGES, ORIGINS, ("woman", "man"), HAIR, FEATURES))
    return f"{age} {origin} {gender} with {hair} and {feature}"


def portrait(person: str, take: int) -> str:
    """A description of one person's portrait; `take` counts from 0."""
    return f"A studio photograph of {person}, head and shoulders, {LOOKS[take % len(LOOKS)]}, against a plain background."


def with_people(scene: str, people: list[str]) -> str:
    """A scene's description and that of those in it."""
    return f"{scene} They are {listed(people)}."


def read_prompts(url: str) -> list[ScenePrompt]:
    """The prompts of a user's file, in its order: of a .txt one a line, of a .jsonl one a row {"prompt", "people", "style"}, of
    which the last two may be missing. Raises Failure where the file cannot be read, holds none, or a line of it is none."""
    extension = posixpath.splitext(url)[1].lower()
    if extension == ".txt":
        with plainly(f"{url} cannot be read"):
            lines = get(url).decode("utf-8-sig").splitlines()
        found = [ScenePrompt(line.strip(), 0, "") for line in lines if line.strip()]
    elif extension == ".jsonl":
        found = list(_of_rows(url))
    else:
        raise Failure(f"{url} is no file of prompts: a .txt holds one a line, a .jsonl one a row {{\"prompt\": \"…\"}}")
    if not found:
        raise Failure(f"{url} holds no prompts")
    return found


def _of_rows(url: str) -> Iterator[ScenePrompt]:
    for number, row in enumerate(read_rows(*filesystem(url), "prompt", ("people", "style")), 1):
        match row:
            case {"prompt": str(text), **more} if text.strip() and is_text(text):
                people, style = more.get("people") or 0, str(more.get("style") or "")
                if isinstance(people, bool) or not isinstance(people, int) or people and not 2 <= people <= MOST_PEOPLE:
                    raise Failure(f"{url}:{number}: people is {people!r}, not 2 to {MOST_PEOPLE}: mend it")
                if style and style not in STYLES:
                    raise Failure(f"{url}:{number}: style is {style!r}, not one of {', '.join(STYLES)}: mend it")
                yield ScenePrompt(text.strip(), people, style)
            case _:
                raise Failure(f"{url}:{number} has no prompt: mend it")


def of_styles(prompts: list[ScenePrompt], styles: Collection[str]) -> list[ScenePrompt]:
    """Those of the wanted styles, and those whose style nobody said."""
    return [prompt for prompt in prompts if not prompt.style or prompt.style in styles]
