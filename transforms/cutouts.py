"""People cut out of photos: where a person is, softly, and what colours the edge has without what was behind it.

Where no person model gave an outline, a head and shoulders is drawn around the face from its five keypoints, and the photo's
own colours correct it (GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004). Edges follow the photo's (guided filter: He, Sun,
Tang, ECCV 2010). Needs OpenCV. Numbers below that name no origin were chosen by eye on cut-outs of faces/dev."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

BESIDE, ABOVE, BELOW = 2.3, 1.2, 3.2
"""What is looked at around a face, at either side, above and below its box, in sides of the face: arms and a torso."""
MOST_SIDE = 220
"""Side of a face, pixels, above which the photo is shrunk, so that four people fit a picture of about a thousand pixels."""
GRABCUT_SIDE = 56
"""Side of a face, pixels, at which GrabCut looks: what it decides is soft enough for four times that."""
GRABCUT_ROUNDS = 6
SOLID = 0.3
"""Cover from which on a person is taken to be there."""
PLAIN = 3.5
"""Mean chroma of a photo below which it is black and white: of those that people of faces/dev are cut out of, two have 0.0 and
2.8, the others 5.9 and more."""
CROWN = 0.23
"""Least height of a head above the face's box, in sides of the face: where there is less, the photo or the outline ends in the
hair. Of 35 people cut out of faces/dev, 7 of the 8 below are so, and none of the 27 above."""


@dataclass(frozen=True)
class Cutout:
    """A person, cut out."""

    pixels: np.ndarray
    """uint8 [h, w, 3], RGB; at the edge and outside, colours of the person alone."""
    cover: np.ndarray
    """float32 [h, w] in [0, 1]: how much of each pixel is the person."""
    face: np.ndarray
    """float32 [4], box of the face, pixels of the cut-out."""
    mean: np.ndarray
    """float32 [3], of the whole photo in CIE L*a*b*."""
    deviation: np.ndarray
    """float32 [3], standard deviation of the same."""
    plain: bool
    """The photo is black and white."""

    @property
    def side(self) -> float:
        """Of the face, pixels: the longer one of its box."""
        return side_of(self.face)

    def has_crown(self) -> bool:
        """Whether the head is there up to its top."""
        middle, reach = (self.face[0] + self.face[2]) / 2, 0.2 * self.side
        columns = self.cover[:, max(0, int(middle - reach)):int(middle + reach)] > 0.5
        top = np.where(columns.any(axis=0), columns.argmax(axis=0), len(columns))
        return bool(self.face[1] - np.median(top) >= CROWN * self.side)


def side_of(box: np.ndarray) -> float:
    return float(max(box[2] - box[0], box[3] - box[1]))


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """float32 [H, W, 3], CIE L*a*b* (L in [0, 100]), of uint8 or float [0, 255] RGB."""
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def is_plain(lab: np.ndarray) -> bool:
    """Whether a photo (float32 [H, W, 3], L*a*b*) is black and white."""
    return float(np.hypot(lab[..., 1], lab[..., 2]).mean()) < PLAIN


def from_lab(lab: np.ndarray) -> np.ndarray:
    """float32 [H, W, 3] in [0, 255], RGB, of float32 L*a*b*."""
    return (cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255).clip(0, 255)


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """[height, width, …] of the same type: averaged where it shrinks, cubic where it grows."""
    shrinks = width * height < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, (max(1, width), max(1, height)), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def cut_out(picture: np.ndarray, face: np.ndarray, keypoints: np.ndarray, others: list[np.ndarray],
            outline: np.ndarray | None = None) -> Cutout:
    """The person of a face.

    picture: uint8 [H, W, 3], RGB, upright; face: float [4], keypoints: float [10], others (the picture's other faces): float
    [4] each, pixels of the picture; outline: bool [H, W], which pixels show the person, where that is known."""
    side = side_of(face)
    height, width = picture.shape[:2]
    x0, y0 = (max(0, int(value)) for value in (face[0] - BESIDE * side, face[1] - ABOVE * side))
    x1, y1 = min(width, int(face[2] + BESIDE * side) + 1), min(height, int(face[3] + BELOW * side) + 1)
    scale = min(1.0, MOST_SIDE / side)
    view = resized(picture[y0:y1, x0:x1], round((x1 - x0) * scale), round((y1 - y0) * scale))
    zoom = np.array([view.shape[1] / (x1 - x0), view.shape[0] / (y1 - y0)])

    def placed(points: np.ndarray) -> np.ndarray:
        return ((np.asarray(points, np.float64).reshape(-1, 2) - (x0, y0)) * zoom).ravel()

    box = placed(face)
    if outline is None:
        rough = grab(view, box, placed(keypoints), [placed(other) for other in others])
    else:
        rough = resized(outline[y0:y1, x0:x1].astype(np.float32), view.shape[1], view.shape[0])
    cover = refine(view, rough, side_of(box))
    lab = to_lab(picture)
    return Cutout(without_surroundings(view, cover, side_of(box)), cover, box.astype(np.float32), lab.mean(axis=(0, 1)),
                  lab.std(axis=(0, 1)), is_plain(lab))


def drawn_outline(height: int, width: int, face: np.ndarray, keypoints: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """uint8 [height, width]: GrabCut's labels of a head and shoulders: surely and maybe the person, maybe and surely not.

    Boxes float [4], keypoints float [10], pixels. The head is tilted as the line between the eyes; the body is upright."""
    side, middle, eyes = side_of(face), (face[:2] + face[2:]) / 2, keypoints[2:4] - keypoints[:2]
    tilt = np.clip(np.arctan2(eyes[1], eyes[0]), -0.6, 0.6)
    across, down = np.meshgrid(*(np.arange(length) + 0.5 for length in (width, height)))
    u, v = (across - middle[0]) / side, (down - middle[1]) / side
    along, below = u * np.cos(tilt) + v * np.sin(tilt), v * np.cos(tilt) - u * np.sin(tilt)

    def ellipse(half_width: float, half_height: float, rise: float) -> np.ndarray:
        return (along / half_width) ** 2 + ((below + rise) / half_height) ** 2 < 1

    def body(start: float, half_width: float, spread: float, most: float) -> np.ndarray:
        return (v > start) & (np.abs(u) < np.minimum(half_width + np.maximum(v - start - 0.2, 0) * spread, most))

    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[ellipse(1.05, 1.25, 0.1) | body(0.1, 0.95, 1.6, BESIDE)] = cv2.GC_PR_BGD
    labels[ellipse(0.68, 0.9, 0.12) | body(0.55, 0.45, 1.2, 1.35)] = cv2.GC_PR_FGD
    labels[ellipse(0.42, 0.52, 0) | body(0.3, 0.22, 0, 1) & (v < 1) | body(0.8, 0.3, 0.5, 0.75)] = cv2.GC_FGD
    for other in others:
        x, y = (other[:2] + other[2:]) / 2
        labels[((across - x) / 0.6) ** 2 + ((down - y) / 0.85 + 0.1) ** 2 < side_of(other) ** 2] = cv2.GC_BGD
    return labels


def grab(view: np.ndarray, face: np.ndarray, keypoints: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """float32 [h, w] in [0, 1]: the person of a face as GrabCut sees them, what hangs together with the face."""
    scale = GRABCUT_SIDE / side_of(face)
    small = cv2.bilateralFilter(resized(view, round(view.shape[1] * scale), round(view.shape[0] * scale)), 5, 25, 3)
    zoom = np.array([small.shape[1] / view.shape[1], small.shape[0] / view.shape[0]])
    box = face * np.tile(zoom, 2)
    height, width = small.shape[:2]
    labels = drawn_outline(height, width, box, keypoints * np.tile(zoom, 5), [other * np.tile(zoom, 2) for other in others])
    cv2.setRNGSeed(0)  # of this thread: its mixtures of colours start from drawn ones
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)),
                GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = ndimage.binary_opening((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
    regions, _ = ndimage.label(person)
    x, y = ((box[:2] + box[2:]) / 2).astype(int).clip(0, (width - 1, height - 1))
    whole = ndimage.binary_fill_holes(regions == regions[y, x] if regions[y, x] else person)
    soft = cv2.GaussianBlur(whole.astype(np.float32), (0, 0), 1.6)
    return resized(((soft - 0.35) / 0.4).clip(0, 1), view.shape[1], view.shape[0]).clip(0, 1)


def refine(view: np.ndarray, rough: np.ndarray, side: float) -> np.ndarray:
    """float32 [h, w] in [0, 1]: a rough cover whose edges follow those of the picture; `side`: of the face, pixels.

    What the filter finds is worked out at half the size and applied at the full one (fast guided filter: He, Sun, 2015)."""
    height, width = rough.shape
    guide = view.astype(np.float32) / 255
    small, target = (resized(picture, width // 2, height // 2) for picture in (guide, rough))
    window = (2 * max(1, round(0.025 * side)) + 1,) * 2

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, window)

    around = mean(small)
    spread = np.stack([np.stack([mean(small[..., i] * small[..., j]) - around[..., i] * around[..., j] for j in range(3)], -1)
                       for i in range(3)], -2)
    together = np.stack([mean(small[..., i] * target) - around[..., i] * mean(target) for i in range(3)], -1)
    slope = np.linalg.solve(spread + 1e-3 * np.eye(3, dtype=np.float32), together[..., None])[..., 0]
    offset = mean(target) - (slope * around).sum(-1)
    followed = (resized(mean(slope), width, height) * guide).sum(-1) + resized(mean(offset), width, height)
    return ((followed - 0.12) / 0.76).clip(0, 1).astype(np.float32)  # what the filter smears far out is nobody


def without_surroundings(view: np.ndarray, cover: np.ndarray, side: float) -> np.ndarray:
    """uint8 [h, w, 3]: the picture with colours of the nearest pixel that is all person, where a pixel is not."""
    solid = cover > 0.92
    if not solid.any():
        return view
    rows, columns = ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
    nearest = cv2.GaussianBlur(view[rows, columns].astype(np.float32), (0, 0), max(1.0, 0.012 * side))
    return (view * cover[..., None] + nearest * (1 - cover[..., None])).clip(0, 255).astype(np.uint8)
