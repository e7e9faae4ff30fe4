"""Compose pictures of people who are cut out of photos.

Takes NamedScenes · Gives names of finished parts of `synthetic`, each with a tar of pictures beside it · Rejects, as rows that
have a reason and no picture, scenes whose photos are gone or whose people cannot be placed"""
from __future__ import annotations

import importlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import apache_beam as beam
import numpy as np

from schemas.person import decode_mask
from schemas.scene import PROPOSALS, Foreground, Proposal, Scene, Shown, Source
from schemas.table import to_table
from transforms import digests, pictures, progress
from transforms.face_models import MissingModel
from transforms.parts import Parts, filesystem, is_local, join, put
from transforms.shards import write_members
from transforms.write import LostPicture, read_picture

FOLDER = "synthetic"
"""Of the work directory: what was proposed, the pictures in tars, and in folders of its own what `extract` makes of these."""
VERSION = 1
"""Raised when the same scenes give other pictures."""
SCENES_A_PART = 16
"""About 5 MB of pictures: composed in seconds, so that little is lost where a worker dies."""


@dataclass(frozen=True)
class SynthesizeOptions:
    synthesize: str = field(default="none", metadata={
        "choices": ("none", "composite"),
        "help": "pictures of several people beside the photos: none, or composite, people cut out of photos before other "
                "backgrounds; default: %(default)s"})
    synthetic_fraction: float = field(default=0.5, metadata={
        "least": 0, "most": 0.95,
        "help": "synthesised pictures that are proposed, as a share of them and of the photos that show somebody known; "
                "default: %(default)s, as many as photos"})
    seed: int = field(default=0, metadata={"help": "of everything drawn by chance; default: %(default)s"})


@dataclass(frozen=True)
class NamedScenes:
    """Scenes that are composed together, and the name of what is made of them."""

    part: str
    scenes: tuple[Scene, ...]

    @property
    def tar(self) -> str:
        """The name of the tar beside the part."""
        return tar_of(self.part)


def proposals(photos: int, fraction: float) -> int:
    """How many pictures are proposed beside so many photos of known people, to be `fraction` of them all."""
    return round(photos * fraction / (1 - fraction))


def root_of(workdir: str) -> str:
    """The URL of the folder of tars, as `root` of the images in them: a bare local path is absolute."""
    fs, path = filesystem(join(workdir, FOLDER))
    return path if is_local(fs) else str(fs.unstrip_protocol(path))


def tar_of(part: str) -> str:
    return part.removesuffix(".parquet") + ".tar"


def name_scenes(scenes: Sequence[Scene], matters: list[object]) -> list[NamedScenes]:
    """Scenes of neighbouring numbers together; a part's name is a digest of them and of what matters beside them."""
    runs = (tuple(run) for _, run in groupby(scenes, lambda scene: scene.number // SCENES_A_PART))
    return [NamedScenes(f"{digests.of([scene.identity() for scene in run], matters, VERSION)}.parquet", run) for run in runs]


def opencv_modules() -> tuple[Any, Any]:
    """`transforms.cutouts` and `transforms.composites`. Raises MissingModel where OpenCV is not installed."""
    try:
        return importlib.import_module("transforms.cutouts"), importlib.import_module("transforms.composites")
    except ImportError as error:
        raise MissingModel(f"--synthesize composite needs {error.name}: pip install 'umo-dataset[generate]'") from error


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

    def __call__(self, scene: Scene, tar: str) -> tuple[bytes | None, Proposal]:
        """The picture as JPEG, None where there is none, and its row; `tar`: the name of that which it goes into."""
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
            key, f"{tar}#{key}", digests.of_bytes(picture) if picture else "", f"composite/{VERSION}", "", scene.seed,
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
        members, rows = [], []
        for scene in named.scenes:
            picture, row = self.compose(scene, named.tar)
            if picture is not None:
                members.append((f"{row.key}.jpg", picture))
            rows.append(row)
            progress.advance("compose")
        stream = io.BytesIO()
        write_members(stream, members)
        put(join(self.workdir, FOLDER, named.tar), stream.getvalue())
        at = places_of(stream.getvalue())
        rows = [Proposal(**{**row.__dict__, "uri": f"{named.tar}#{at[row.key]}"}) if row.key in at else row for row in rows]
        Parts(self.workdir, FOLDER).write(named.part, to_table(sorted(rows, key=lambda row: row.key), PROPOSALS))
        yield named.part


def places_of(tar: bytes) -> dict[str, str]:
    """Key -> `offset,size` of each member of a tar, as a member's uri has it."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        return {member.name.partition(".")[0]: f"{member.offset_data},{member.size}" for member in members}


@dataclass
class ComposeScenes(beam.PTransform):
    """Scenes become parts of `synthetic` and tars beside them."""

    workdir: str

    def expand(self, scenes: beam.PCollection[NamedScenes]) -> beam.PCollection[str]:
        return (scenes
                | "Spread" >> beam.Reshuffle()  # scenes, on any worker
                | "Compose" >> beam.ParDo(ComposePart(self.workdir)))
