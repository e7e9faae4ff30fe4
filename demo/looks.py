"""One person, many looks: a head turned, lit, its expression changed; and a whole picture developed."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from demo.heads import CHIN, LEFT_EYE, NOSE_TIP, RIGHT_EYE, Head, Picture

REACH = 3.6
"""Units around a head beyond which nothing moves any more."""
LATTICE = 4
"""Pixels between the points at which a head's motion is worked out."""


@dataclass(frozen=True)
class Look:
    """How a head is re-rendered. Everything at zero leaves it as it is."""

    yaw: float = 0.0
    """Degrees, to the right of the picture."""
    pitch: float = 0.0
    """Degrees, downwards."""
    near: float = 0.0
    """Perspective: above zero the camera comes closer, the middle of the face grows; below, it goes away."""
    smile: float = 0.0
    jaw: float = 0.0
    brows: float = 0.0
    """Expression, about -1 to 1."""
    light: tuple[float, float] = (0.0, 0.0)
    """Where light comes from, to the right and down, in stops between the lit and the middle of the face."""
    shades: bool = False
    """Sunglasses are drawn."""

    def scaled(self, share: float) -> Look:
        """More or less of the same."""
        return replace(self, yaw=self.yaw * share, pitch=self.pitch * share, near=self.near * share,
                       smile=self.smile * share, jaw=self.jaw * share, brows=self.brows * share)


def dome(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth of a rough head without a nose, in units. An exponential, since its slope stays below 1: turned by up to
    20 degrees the warp never folds over."""
    return 1.25 * np.exp(-1.1 * ((u / 1.35) ** 2 + ((v - 0.35) / 1.75) ** 2))


def relief(u: np.ndarray, v: np.ndarray, nose: np.ndarray) -> np.ndarray:
    """Depth of a rough head towards the camera, in units: the dome and a nose whose tip is at `nose` (u, v)."""
    along = np.clip(v / nose[1], 0, 1)
    height = np.where(v <= nose[1], along, np.exp(-(((v - nose[1]) / 0.16) ** 2)))
    return dome(u, v) + 0.42 * height * np.exp(-(((u - nose[0] * along) / 0.2) ** 2))


def closeness(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """1 on the head, fading to 0 around it: what moves with the head."""
    radius = np.hypot(u / 1.5, (v - 0.3) / 2.0)
    return np.exp(-((np.maximum(radius - 0.8, 0) / 0.55) ** 2))


def motion(u: np.ndarray, v: np.ndarray, landmarks: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Where a look moves the point (u, v) of a head: (du, dv) in units."""
    depth, near = relief(u, v, landmarks[NOSE_TIP]), closeness(u, v)
    yaw, pitch = np.radians(look.yaw), np.radians(look.pitch)
    grow = look.near * (depth - 0.7)  # 0.7: the depth that keeps its size
    du = near * u * (np.cos(yaw) - 1 + grow) + depth * np.sin(yaw)
    dv = near * (v - 0.4) * (np.cos(pitch) - 1 + grow) + depth * np.sin(pitch)
    for place, by, reach in muscles(landmarks, look):
        weight = np.exp(-((u - place[0]) ** 2 + (v - place[1]) ** 2) / (2 * reach**2))
        du, dv = du + by[0] * weight, dv + by[1] * weight
    return du, dv


def muscles(landmarks: np.ndarray, look: Look) -> Iterator[tuple[np.ndarray, tuple[float, float], float]]:
    """What an expression pulls: (place, by, reach), in units."""
    for corner, cheek, side in ((48, 1, -1), (54, 15, 1)):  # mouth corners, and the cheeks that they lift
        yield landmarks[corner], (0.10 * side * look.smile, -0.09 * look.smile), 0.22
        yield (landmarks[corner] + landmarks[cheek]) / 2, (0.03 * side * look.smile, -0.05 * look.smile), 0.25
    yield landmarks[CHIN], (0.0, 0.2 * look.jaw), 0.55
    for brow in (19, 24):
        yield landmarks[brow], (0.0, -0.09 * look.brows), 0.26


def turned(picture: Picture, head: Head, look: Look) -> np.ndarray:
    """The picture's pixels with one head as `look` has it."""
    x0, y0 = np.maximum(np.floor(head.origin - REACH * head.unit), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(head.origin + REACH * head.unit), picture.size).astype(int)
    columns, rows = -(-(x1 - x0) // LATTICE), -(-(y1 - y0) // LATTICE)
    y, x = (np.mgrid[:rows, :columns] + 0.5) * LATTICE - 0.5
    goal_u, goal_v = head.at(x + x0, y + y0)
    u, v = goal_u, goal_v
    for _ in range(6):  # the motion is a contraction, so walking back along it converges on where each pixel came from
        du, dv = motion(u, v, head.landmarks, look)
        u, v = goal_u - du, goal_v - dv
    moved = np.stack([u - goal_u, v - goal_v], axis=-1) @ head.axes * head.unit
    moved_x, moved_y, stops = (finer(plane)[:y1 - y0, :x1 - x0] for plane in
                               (moved[..., 0], moved[..., 1], shade(goal_u, goal_v, look)))
    y, x = np.mgrid[y0:y1, x0:x1]
    pixels = picture.pixels.copy()
    for channel in range(pixels.shape[2]):
        pixels[y0:y1, x0:x1, channel] = ndimage.map_coordinates(
            picture.pixels[..., channel], [y + moved_y, x + moved_x], order=3, mode="nearest")
    np.clip(pixels, 0, 1, out=pixels)
    pixels[y0:y1, x0:x1, :3] = exposed(pixels[y0:y1, x0:x1, :3], stops)
    return pixels


def finer(plane: np.ndarray) -> np.ndarray:
    """A smooth plane from the lattice to pixels, rounded to 1/256: the last bits of exp, which differ between
    processors, shall decide nothing."""
    rounded = (np.round(plane * 256) / 256).astype(np.float32)
    size = (plane.shape[1] * LATTICE, plane.shape[0] * LATTICE)
    return np.asarray(Image.fromarray(rounded).resize(size, Image.Resampling.BICUBIC))


def shade(u: np.ndarray, v: np.ndarray, look: Look) -> np.ndarray:
    """Stops of light that fall on each point of the head: the slope of its dome towards the light. The nose is left
    out: where it does not fit to the pixel its shadow would be a smear."""
    step = 0.02
    slope_u = (dome(u + step, v) - dome(u - step, v)) / (2 * step)
    slope_v = (dome(u, v + step) - dome(u, v - step)) / (2 * step)
    facing = -(slope_u * look.light[0] + slope_v * look.light[1]) / np.sqrt(slope_u**2 + slope_v**2 + 1)
    return facing * closeness(u, v)


def exposed(rgb: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """RGB with more or less light. Light keeps the hue and rolls off, so that nothing burns out; shadow deepens it."""
    brightest = np.maximum(rgb.max(axis=2, keepdims=True), 1e-3)
    power = np.exp2(np.abs(stops))[..., None]
    return np.where(stops[..., None] > 0, rgb / brightest * (1 - (1 - brightest) ** power), rgb ** power)


def with_shades(picture: Picture, head: Head) -> np.ndarray:
    """The picture's pixels with sunglasses drawn on a head."""
    finer = 4  # drawn at four times the size, for smooth edges
    cover = Image.new("L", (picture.size[0] * finer, picture.size[1] * finer))
    draw = ImageDraw.Draw(cover)

    def pixel(place: np.ndarray) -> tuple[float, float]:
        x, y = (place * head.unit) @ head.axes + head.origin
        return x * finer, y * finer

    turn = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    rim = np.stack([np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.75 * 0.38,
                    np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.8 * 0.27], axis=1)
    stroke = max(2, round(0.07 * head.unit * finer))
    for eye, side, ear in ((LEFT_EYE, -1, 0), (RIGHT_EYE, 1, 16)):
        lens = head.landmarks[eye].mean(0) + np.array([0.04 * side, 0.05])
        draw.polygon([pixel(lens + place) for place in rim], fill=235)
        draw.line([pixel(lens + np.array([0.36 * side, -0.1])), pixel(head.landmarks[ear])], fill=235, width=stroke)
    bridge = [head.landmarks[LEFT_EYE].mean(0) + np.array([0.3, -0.03]),
              head.landmarks[RIGHT_EYE].mean(0) + np.array([-0.3, -0.03])]
    draw.line([pixel(place) for place in bridge], fill=235, width=stroke)
    alpha = np.asarray(cover.resize(picture.size, Image.Resampling.BOX), np.float32)[..., None] / 255
    pixels = picture.pixels.copy()
    pixels[..., :3] = pixels[..., :3] * (1 - alpha) + alpha * np.array([0.05, 0.05, 0.07], np.float32)
    return pixels


def rendered(picture: Picture, looks: Sequence[Look]) -> Picture:
    """Every head as its look has it."""
    if len(looks) != len(picture.heads):
        raise ValueError(f"{len(looks)} looks for {len(picture.heads)} heads")
    for head, look in zip(picture.heads, looks, strict=True):
        if look.shades:
            picture = replace(picture, pixels=with_shades(picture, head))
        if look != Look():
            picture = replace(picture, pixels=turned(picture, head, look))
    return picture


@dataclass(frozen=True)
class Film:
    """How a whole picture is developed."""

    warmth: float = 0.0
    """Red up and blue down by this share."""
    gamma: float = 1.0
    """Above 1 darker."""
    contrast: float = 1.0
    saturation: float = 1.0
    blur: float = 0.0
    """Pixels."""
    grain: float = 0.0
    """Standard deviation, share of full range."""


def developed(rgb: np.ndarray, film: Film, seed: str) -> Image.Image:
    """The finished picture; grain is drawn from the digest of `seed`."""
    gray = rgb.mean(axis=2, keepdims=True)
    rgb = np.clip(gray + (rgb - gray) * film.saturation, 0, 1)
    rgb = np.clip(rgb * np.array((1 + film.warmth, 1, 1 - film.warmth), np.float32), 0, 1) ** film.gamma
    rgb = 0.5 + (rgb - 0.5) * film.contrast
    if film.blur:
        rgb = ndimage.gaussian_filter(rgb, (film.blur, film.blur, 0))
    if film.grain:
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
        grain = random.normal(0, film.grain * 1.8, rgb.shape).astype(np.float32)  # 1.8: what smoothing takes away
        rgb = rgb + ndimage.gaussian_filter(grain, (0.6, 0.6, 0))
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
