"""Prompts: a caption where there is one, else a sentence built from what is known."""
from __future__ import annotations

import numpy as np

from transforms import digests

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
OPENINGS = ("A photo of {number} people", "{Number} people together in one picture", "A group of {number} people",
            "A picture that shows {number} people", "{Number} people side by side", "A photograph of {number} people")
WHOM = ("the person of reference {reference} {verb} {place}", "the one from reference {reference} {verb} {place}",
        "reference {reference} shows who {verb} {place}")
VERBS = ("stands", "is", "appears")
"""UMO asks for descriptions, not for instructions (umo README)."""


def places(centres: list[float], width: float) -> list[str]:
    """Where each person is, from the centres of their faces (x, pixels) in an image of that width: by rank where there
    are several, told apart by words that hold for exactly one of them."""
    order = np.argsort(np.asarray(centres), kind="stable")
    count = len(centres)
    words = {0: "on the left", count - 1: "on the right"}
    if count == 1:
        words = {0: "on the left" if centres[0] < width / 3 else "on the right" if centres[0] > 2 * width / 3
                 else "in the middle"}
    elif count % 2:
        words[count // 2] = "in the middle"
    ordinals = ("", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    named = [""] * count
    for rank, person in enumerate(order.tolist()):
        named[person] = words.get(rank) or f"{ordinals[rank]} from the left"
    return named


def describe(key: str, seed: int, people: int, centres: list[float], width: float) -> str:
    """A sentence on `people` people, of whom reference i + 1 has the face centred at x = `centres[i]`; seeded by key."""
    draw = digests.generator("prompt", key, seed)
    number = NUMBERS.get(people, str(people))
    opening = OPENINGS[draw.integers(len(OPENINGS))].format(number=number, Number=number.capitalize())
    whom, verb = WHOM[draw.integers(len(WHOM))], VERBS[draw.integers(len(VERBS))]
    clauses = [whom.format(reference=reference, verb=verb, place=place)
               for reference, place in enumerate(places(centres, width), 1)]
    return f"{opening}: {listed(clauses)}."


def listed(words: list[str]) -> str:
    """`a, b and c`, of one or more."""
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]
