"""Compose pictures of people who are cut out of photos.

Takes NamedScenes · Gives names of finished parts of `synthetic`, each with a tar of pictures beside it · Rejects, as rows that
have a reason and no picture, scenes whose photos are gone or whose people cannot be placed"""
from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import apache_beam as beam
import numpy as np

from schemas.person import decode_mask
from schemas.scene import Foreground, Proposal, Scene, Shown, Source
from transforms import digests, pictures, progress
from transforms.face_models import MissingModel
from transforms.parts import Parts
from transforms.synthetic import write_part
from transforms.write import LostPicture, read_picture

VERSION = 2
"""Raised when the same scenes give other pictures."""
SCENES_A_PART = 16
"""About 5 MB of pictures: composed in seconds, so that little is lost where a worker dies."""


@dataclass(frozen=True)
class NamedScenes:
    """Scenes that are composed together, and the name of what is made of them."""

    part: str
    scenes: tuple[Scene, ...]


def name_scenes(scenes: Sequence[Scene], matters: list[object]) -> list[NamedScenes]:
    """Scenes of neighbouring numbers together; a part's name is a digest of them and of what matters beside them."""
    runs = (tuple(run) for _, run in groupby(scenes, lambda scene: scene.number // SCENES_A_PART))
    return [NamedScenes(f"{digests.of([scene.identity() for scene in run], matters, VERSION)}.parquet", run) for run in runs]


def opencv_modules() -> tuple[Any, Any]:
    """`transforms.cutouts` and `transforms.composites`. Raises MissingModel where OpenCV is not installed."""
    try:
        return importlib.import_module("transforms.cutouts"), importlib.import_module("transforms.composites")
    except ImportError as error:
        raise MissingModel(f"--synthesize composite needs {error.name}: pip install opencv-python") from error


def license_of(sources: Sequence[Source]) -> str:
    """All licences that a picture of these photos is under; '' where one is unknown."""
    found = {source.license or "" for source in sources}
    return "" if "" in found else "; ".join(sorted(found))


class ComposeScene:
    """Composes one scene at a time."""

    def __init__(self, workdir: str) -> None:
        """Raises MissingModel."""
        self.faces = Parts(workdir, "faces")
        self.cutouts, self.composites = opencv_modules()

    def __call__(self, scene: Scene) -> tuple[bytes | None, Proposal]:
        """The picture as JPEG, None where there is none, and its row, without a uri."""
        key, random = digests.of("composite", scene.seed, scene.identity()), digests.generator("composite", scene.seed)
        cast, behind, photo = list(scene.foregrounds[:scene.people]), scene.background, None
        picture, boxes, reason, detail = None, np.zeros((len(cast), 4)), "", ""
        try:
            shown, arrangement = self._placed(scene, random)
            cast, cutouts = [one for one, _ in shown], [cutout for _, cutout in shown]
            if behind is not None:
                photo = np.asarray(_read(behind))
                if self.cutouts.is_plain(self.cutouts.to_lab(photo)):  # a page, or nobody's world
                    photo, behind = None, None
            composed, boxes = self.composites.compose(cutouts, arrangement, photo, random)
            picture = pictures.encode(composed)
        except LostPicture as lost:
            reason, detail = lost.reason, lost.detail
        except self.composites.NoPlace:
            reason, detail = "covered", f"{len(cast)} people"
        sources = [one.source for one in cast] + ([behind] if behind else [])
        return picture, Proposal(
            key, "", digests.of_bytes(picture) if picture else "", f"composite/{VERSION}", "", scene.seed,
            [Shown(one.identity, one.face_id, one.source.image_key, box.tolist())
             for one, box in zip(cast, boxes, strict=True)],
            behind.image_key if behind else "", license_of(sources), reason, detail)

    def _placed(self, scene: Scene, random: np.random.Generator) -> tuple[list[tuple[Foreground, Any]], Any]:
        """Who is shown, each with their Cutout, and their Arrangement; as many as the scene is to have, where that can be.

        Raises LostPicture, and NoPlace where it is fewer than two."""
        waiting = list(scene.foregrounds)
        shown: list[tuple[Foreground, Any]] = []
        arrangement = None
        while waiting and len(shown) < scene.people:
            some = list(shown)
            while waiting and len(some) < scene.people:
                one = waiting.pop(0)
                cutout = self._cut(one)
                if cutout.has_crown():
                    some.append((one, cutout))
            try:
                kept, found = self.composites.arrange([self.composites.Silhouette.of(cutout) for _, cutout in some], random)
            except self.composites.NoPlace:
                kept, found = [0] if some else [], None  # the first has a chance with those who stand in
            if len(kept) > len(shown):
                shown, arrangement = [some[place] for place in kept], found
        if arrangement is None:
            raise self.composites.NoPlace
        return shown, arrangement

    def _cut(self, one: Foreground) -> Any:
        """The person's Cutout. Raises LostPicture."""
        photo = np.asarray(_read(one.source))
        outline = self._outline(one, photo.shape[0], photo.shape[1])
        return self.cutouts.cut_out(photo, np.array(one.box), np.array(one.keypoints), [np.array(box) for box in one.others],
                                    outline)

    def _outline(self, one: Foreground, height: int, width: int) -> np.ndarray | None:
        """bool [height, width]: the person as the person model saw them; None where it did not."""
        table = self.faces.read(one.part, ["face_id", "person_box", "person_mask"])
        row = table.slice(table["face_id"].to_pylist().index(one.face_id), 1).to_pylist()[0]
        if row["person_mask"] is None:
            return None
        mask, outline = decode_mask(row["person_mask"]), np.zeros((height, width), bool)
        x0, y0 = (int(value) for value in row["person_box"][:2])
        outline[y0:y0 + mask.shape[0], x0:x0 + mask.shape[1]] = mask
        return outline


def _read(source: Source) -> Any:
    return read_picture(source.root, source.uri, source.image_key)


class ComposePart(beam.DoFn):
    """Some scenes to a tar and, when that is there, its part."""

    def __init__(self, workdir: str) -> None:
        self.workdir = workdir

    def setup(self) -> None:
        self.compose = ComposeScene(self.workdir)

    def process(self, named: NamedScenes) -> Iterator[str]:
        made = []
        for scene in named.scenes:
            made.append(self.compose(scene))
            progress.advance("compose")
        write_part(self.workdir, named.part, made)
        yield named.part


@dataclass
class ComposeScenes(beam.PTransform):
    """Scenes become parts of `synthetic` and tars beside them."""

    workdir: str

    def expand(self, scenes: beam.PCollection[NamedScenes]) -> beam.PCollection[str]:
        return (scenes
                | "Spread" >> beam.Reshuffle()  # scenes, on any worker
                | "Compose" >> beam.ParDo(ComposePart(self.workdir)))
