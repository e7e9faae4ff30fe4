"""Pictures composed of cut-out people: who stands where, what is behind them, one light for all. Needs OpenCV.

Lengths are in sides of a face, which is one size for all who stand in a row: they are as far from the camera as one another.
Numbers that name no origin were chosen by eye on composites of faces/dev."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image

from transforms.cutouts import MOST_SIDE, SOLID, Cutout, from_lab, resized, to_lab

LONGEST = 1280
"""Longest side of a composite, pixels: somewhat above what `write` leaves of a target."""
TWO_ROWS = 4
"""People from whom on they may stand in two rows."""
ASPECTS = 0.7, 2.4
"""Width over height of a composite; UNO's and UMO's trainers take 1/3 to 3."""
DRAWS, CHANGES = 200, 1000
"""Arrangements that are drawn for a number of people, and changes that are then tried on the best of them, before somebody is
left out."""
REAR, LEVEL = -1.3, 0.22
"""Where the faces of the rear row are, and how far a face may be above or below its row's: people differ in height by that."""
COARSE = 12
"""Side of a face, pixels, at which arrangements are judged."""
SEAMS = 0.2
"""Most length of seams that a composite may show, over all people: where a photo ended in somebody who is seen whole."""
ALONE = 0.15
"""Most cover that anybody may have on another's face, hair and chin included."""
HEAD = np.array([-0.18, -0.3, 0.18, 0.12])
"""From a face's box, x0 y0 x1 y1, to what nobody may cover: ears, hair and chin."""
JITTER = 0.05
"""Faces of one row differ in size by so much, as people do."""
SHORT = 1 / COARSE + 2.3 * JITTER
"""How far above the picture's edge somebody may end, sides of a face, who was judged to reach it: a coarse pixel, and what the
jitter takes of the 2.3 sides that a picture may go on below a face (`changed`)."""
MATCH = 0.5
"""How far colours go from the photo's towards the scene's. All the way is Reinhard's own, after which everybody is as pale as
the sky."""
MOST_SHIFT = 18.0
"""Most that a colour changes, in units of L*a*b*: light differs, people must stay who they are."""
GRAIN = 1.6
"""Standard deviation of the noise on everything, of 255."""


class NoPlace(Exception):
    """Fewer than two people of a scene can be shown without a seam and with no face covered."""


@dataclass(frozen=True)
class Arrangement:
    """Where people stand: y grows downwards, 0 is the front row's."""

    frame: tuple[float, float, float, float]
    """Left, top, right, bottom of the picture."""
    centres: np.ndarray
    """float64 [P, 2]: the middle of each one's face box."""
    order: tuple[int, ...]
    """Who stands farthest first."""


@dataclass(frozen=True)
class Silhouette:
    """A cut-out in `COARSE` pixels a face."""

    solid: np.ndarray
    """bool [h, w]: where the person is."""
    seam: np.ndarray
    """bool [h, w]: where the photo ended in the person."""
    cover: np.ndarray
    """float32 [h, w]."""
    face: np.ndarray
    """float [4]."""

    @staticmethod
    def of(cutout: Cutout) -> Silhouette:
        height, width = cutout.cover.shape
        scale = COARSE / cutout.side
        cover = resized(cutout.cover, round(width * scale), round(height * scale))
        edge = np.ones(cover.shape, bool)
        edge[1:-1, 1:-1] = False
        solid = cover > SOLID
        zoom = np.array([cover.shape[1] / width, cover.shape[0] / height])
        return Silhouette(solid, edge & solid, cover, cutout.face * np.tile(zoom, 2))


def draw(people: int, random: np.random.Generator) -> Arrangement:
    """People in one row or in two, the rear one higher, in any order."""
    line = random.permutation(people)
    two = people >= TWO_ROWS and random.integers(2)
    rear, front = (line[:people // 2], line[people // 2:]) if two else (line[:0], line)
    apart = random.uniform(1.45, 2.0)
    centres = np.zeros((people, 2))
    for row, height in ((rear, REAR), (front, 0.0)):
        shift = apart / 4 * (1 if height else -1) if len(rear) == len(front) else 0  # the rear row looks through the gaps
        centres[row, 0] = (np.arange(len(row)) - (len(row) - 1) / 2) * apart + shift
        centres[row, 1] = height
    centres += random.uniform(-1, 1, (people, 2)) * (0.12, LEVEL)
    left, top = centres.min(axis=0) - 0.5 - random.uniform((0.45, 0.65), (1.3, 1.3))
    right = centres[:, 0].max() + 0.5 + random.uniform(0.45, 1.3)
    bottom = centres[front, 1].max() + 0.5 + random.uniform(0.7, 1.8)
    order = (*random.permutation(rear).tolist(), *random.permutation(front).tolist())
    return Arrangement((left, top, right, bottom), centres, order)


def changed(one: Arrangement, random: np.random.Generator) -> Arrangement:
    """Two people in each other's place, one in front of the next, or everybody and the picture's edges a little elsewhere."""
    frame, centres, order = np.array(one.frame), one.centres.copy(), list(one.order)
    first, second = random.choice(len(order), 2, replace=False).tolist()
    match random.integers(3):
        case 0:
            centres[[first, second]] = centres[[second, first]]
            order[order.index(first)], order[order.index(second)] = -1, first
            order[order.index(-1)] = second
        case 1:
            place = int(random.integers(len(order) - 1))
            behind, before = order[place:place + 2]
            if abs(centres[behind, 1] - centres[before, 1]) < 0.5:  # of one row
                order[place:place + 2] = before, behind
        case _:
            centres += random.normal(0, 0.06, centres.shape)
            row = np.where(centres[:, 1] < REAR / 2, REAR, 0.0)
            centres[:, 1] = centres[:, 1].clip(row - LEVEL, row + LEVEL)
            frame += random.normal(0, 0.15, 4)
            frame[:2] = frame[:2].clip(centres.min(axis=0) - (1.8, 1.8), centres.min(axis=0) - (0.95, 1.15))
            frame[2:] = frame[2:].clip(centres.max(axis=0) + (0.95, 1.2), centres.max(axis=0) + (1.8, 2.3))
    return Arrangement(tuple(frame.tolist()), centres, tuple(order))


def overlap(shape: tuple[int, ...], x: int, y: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns that a picture of that shape and one of that size, put at (x, y), share: in the one and in the other."""
    y0, y1, x0, x1 = max(0, y), max(0, min(shape[0], y + height)), max(0, x), max(0, min(shape[1], x + width))
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def seams(arrangement: Arrangement, people: Sequence[Silhouette]) -> np.ndarray | None:
    """float [P]: length of seams that each shows; None where a face is covered or the picture is too long or too high."""
    left, top, right, bottom = arrangement.frame
    shape = round((bottom - top) * COARSE), round((right - left) * COARSE)
    if not ASPECTS[0] <= shape[1] / shape[0] <= ASPECTS[1]:
        return None
    shown, faces = np.zeros((len(people), *shape), bool), np.zeros((len(people), *shape), bool)
    for place, number in enumerate(arrangement.order):
        one = people[number]
        x, y = np.round((arrangement.centres[number] - (left, top)) * COARSE - (one.face[:2] + one.face[2:]) / 2).astype(int)
        there, here = overlap(shape, x, y, *one.solid.shape)
        behind = list(arrangement.order[:place])
        if any((one.cover[here] * faces[(other, *there)]).max(initial=0) > ALONE for other in behind):
            return None
        shown[(behind, *there)] &= ~one.solid[here]
        shown[(number, *there)] = one.seam[here]
        x0, y0, x1, y1 = np.round(one.face + np.tile((x, y), 2) + HEAD * COARSE).astype(int).clip(0)
        faces[number, y0:y1, x0:x1] = True
    shown[:, [0, -1]] = shown[:, :, [0, -1]] = False  # where the composite ends, so may the photo
    return shown.sum(axis=(1, 2)) / COARSE


def arrange(people: Sequence[Silhouette], random: np.random.Generator) -> tuple[list[int], Arrangement]:
    """Who can be shown, and how: of arrangements drawn by chance the one with the least seams.

    Where seams remain, whoever shows the most is left out, and the others are arranged anew. Raises NoPlace."""
    kept = list(range(len(people)))
    while len(kept) > 1:
        least, best, whose = np.inf, None, None
        for attempt in range(DRAWS + CHANGES):
            arrangement = draw(len(kept), random) if best is None or attempt < DRAWS else changed(best, random)
            found = seams(arrangement, [people[one] for one in kept])
            if found is not None and found.sum() <= least:
                least, best, whose = found.sum(), arrangement, found
                if not least:
                    break
        if best is not None and least <= SEAMS:
            return kept, best
        kept.pop(len(kept) - 1 if whose is None else int(whose.argmax()))
    raise NoPlace


def wall(width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """float32 [height, width, 3] in [0, 255]: a plain wall, lit from a place, faintly mottled as painted canvas is."""
    color = from_lab(np.array([[[random.uniform(35, 80), random.uniform(-6, 8), random.uniform(-14, 14)]]]))[0, 0]
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    away = ((x - random.uniform(-0.4, 0.4)) ** 2 + (y - random.uniform(-0.5, 0.1)) ** 2) / 1.5
    light = 1.1 - random.uniform(0.2, 0.45) * np.minimum(1.5, away)
    for cells, strength in ((7, 0.03), (25, 0.015)):
        mottles = random.standard_normal((cells, round(1.4 * cells))).astype(np.float32)
        light += strength * cv2.resize(mottles, (width, height), interpolation=cv2.INTER_CUBIC)
    return (color * light[..., None]).clip(0, 255).astype(np.float32)


def behind(photo: np.ndarray, width: int, height: int, side: float, random: np.random.Generator) -> np.ndarray:
    """float32 [height, width, 3] in [0, 255]: a part of a photo (uint8 [H, W, 3]), out of focus, for faces of `side` pixels."""
    scale = max(width / photo.shape[1], height / photo.shape[0]) * random.uniform(1, 1.3)
    wide, high = (min(length, round(size / scale)) for length, size in zip(photo.shape[1::-1], (width, height), strict=True))
    x, y = (int(random.integers(0, length - size + 1)) for length, size in zip(photo.shape[1::-1], (wide, high), strict=True))
    part = resized(photo[y:y + high, x:x + wide], width, height).astype(np.float32)
    return cv2.GaussianBlur(part, (0, 0), side * random.uniform(0.06, 0.16))


def matched(cutout: Cutout, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """float32 [h, w, 3] in [0, 255]: a cut-out in the light of a scene of that mean and standard deviation (L*a*b*).

    Reinhard, Ashikhmin, Gooch, Shirley, "Color transfer between images", 2001: from the statistics of the photo that the person
    was seen in, not of the person, so that a pale person stays pale."""
    lab = to_lab(cutout.pixels)
    ratio = (deviation / np.maximum(cutout.deviation, 1e-3)).clip(0.75, 1.25)
    shift = (lab - cutout.mean) * ratio + mean - lab
    return from_lab(lab + MATCH * shift.clip(-MOST_SHIFT, MOST_SHIFT))


def compose(cutouts: Sequence[Cutout], arrangement: Arrangement, photo: np.ndarray | None,
            random: np.random.Generator) -> tuple[PIL.Image.Image, np.ndarray]:
    """The picture, and where each face is put: float [P, 4], its pixels.

    photo: uint8 [H, W, 3], the background; None for a wall. Nobody is enlarged but by the jitter."""
    left, top, right, bottom = arrangement.frame
    side = min(*(cutout.side for cutout in cutouts), MOST_SIDE, LONGEST / max(right - left, bottom - top))
    width, height = round((right - left) * side), round((bottom - top) * side)
    sizes, boxes, corners = np.zeros((len(cutouts), 2), int), np.zeros((len(cutouts), 4)), np.zeros((len(cutouts), 2), int)
    for number in arrangement.order:
        cutout = cutouts[number]
        scale = side / cutout.side * (1 + random.uniform(-JITTER, JITTER))
        sizes[number] = round(cutout.cover.shape[1] * scale), round(cutout.cover.shape[0] * scale)
        face = cutout.face * np.tile(np.divide(sizes[number], cutout.cover.shape[::-1]), 2)
        corners[number] = np.round((arrangement.centres[number] - (left, top)) * side - (face[:2] + face[2:]) / 2)
        boxes[number] = face + np.tile(corners[number], 2)
    ends = (corners + sizes)[:, 1]
    low = [end for end, cutout in zip(ends.tolist(), cutouts, strict=True)
           if height - SHORT * side < end < height and (cutout.cover[-1] > SOLID).any()]
    height = min([height, *low])  # no body ends above the picture's edge for being made a little smaller
    scene = wall(width, height, random) if photo is None else behind(photo, width, height, side, random)
    lab = to_lab(scene)
    mean, deviation = (np.mean([getattr(cutout, name) for cutout in cutouts], axis=0) for name in ("mean", "deviation"))
    mean, deviation = (lab.mean(axis=(0, 1)) + mean) / 2, (3 * lab.std(axis=(0, 1)) + 7 * deviation) / 10
    people = np.zeros((height, width), np.float32)
    for number in arrangement.order:
        cutout, size, (x, y) = cutouts[number], sizes[number].tolist(), corners[number].tolist()
        person, alpha = resized(matched(cutout, mean, deviation), *size), resized(cutout.cover, *size).clip(0, 1)
        there, here = overlap(scene.shape, x, y, *alpha.shape)
        cover = np.zeros(scene.shape[:2], np.float32)
        cover[there] = alpha[here]
        scene *= 1 - ((0.08 + 0.2 * people) * shadow(cover, side))[..., None]  # darker on people, who are nearer
        people = np.maximum(people, cover)
        scene[there] += (person[here] - scene[there]) * alpha[here][..., None]
    if any(cutout.plain for cutout in cutouts):  # somebody in black and white makes the whole scene so
        scene = np.repeat(to_gray(scene)[..., None], 3, axis=2)
    scene += random.normal(0, GRAIN, scene.shape[:2])[..., None]
    return PIL.Image.fromarray(scene.round().clip(0, 255).astype(np.uint8)), boxes


def shadow(cover: np.ndarray, side: float) -> np.ndarray:
    """float32 [h, w] in [0, 1]: what somebody keeps from the light, a little below."""
    margin, down = round(0.2 * side), round(0.06 * side)
    padded = np.pad(cover, ((margin + down, margin), (margin, margin)), mode="edge")
    blurred = cv2.GaussianBlur(padded, (0, 0), 0.12 * side)
    return blurred[margin:margin + cover.shape[0], margin:margin + cover.shape[1]]


def to_gray(scene: np.ndarray) -> np.ndarray:
    """float32 [h, w], luma (ITU-R BT.601) of float32 RGB."""
    return cv2.cvtColor(scene.astype(np.float32), cv2.COLOR_RGB2GRAY)
