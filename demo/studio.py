"""Makes what the recipe says: takes the photos, and the files beside them."""
from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from demo.cutouts import CUT_SIDE, cover_of
from demo.heads import Head, Picture, Window, landmarker, resized
from demo.looks import developed, rendered
from demo.recipe import BACKDROPS, BROKEN, CAPTIONS, EXACT_COPY, FACELESS, NEAR_COPY, PHOTOS, SIDEWAYS, STUDIO
from demo.shots import Call, Group, Photo, Scene, Single, Subject

SOURCE_SIDE = 1280
"""Longest side, pixels, to which a source picture is reduced: more would only slow the detector down."""
TILE_UNITS = 4.8
"""Height of a call's tile, in units: a head and its shoulders."""


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
