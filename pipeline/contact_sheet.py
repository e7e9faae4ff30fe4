"""The contact sheet of the report: samples and people with their pictures, from the shards' tars."""
from __future__ import annotations

import base64
import contextlib
import io
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image

from transforms import pictures
from transforms.failure import Failure, in_a_line
from transforms.parts import filesystem, join

MAX_SAMPLES = 24
"""Samples with pictures in a report."""
TARGET_SIDE, REFERENCE_SIDE, PERSON_SIDE = 480, 176, 96
"""Longest side of a thumbnail, pixels."""
QUALITY = 80
"""Of a thumbnail's JPEG: about 35 kB a target, so that a report stays below 6 MB with ten references a sample."""
TAG = 22
"""Side of a box's number tag, pixels of the thumbnail."""


@dataclass(frozen=True, order=True)
class Candidate:
    """A sample that may be shown; the least sure one sorts first."""

    margin: float
    """The least of its references'."""
    key: str
    shard: str
    """Path of the shard, relative to the dataset, without extension."""

    @property
    def config(self) -> str:
        return self.shard.partition("/")[0]


@dataclass(frozen=True)
class Box:
    """A face in a thumbnail, pixels of the thumbnail."""

    number: int
    """Of the reference, from 1."""
    x: float
    y: float
    width: float
    height: float
    tag_x: float
    tag_y: float
    """Upper left corner of the number's tag."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail with the faces that references stand for."""

    data_uri: str
    width: int
    height: int
    boxes: list[Box]


@dataclass(frozen=True)
class ReferenceShown:
    number: int
    picture: Picture
    identity: str
    uri: str
    similarity: float
    margin: float
    least: bool
    """Its margin is the sample's smallest."""


@dataclass(frozen=True)
class Cell:
    """An entry of the similarity matrix."""

    value: float
    assigned: bool


@dataclass(frozen=True)
class SampleShown:
    """A sample as the report shows it."""

    about: Mapping[str, Any]
    """`KEY.json` (contract, section 4)."""
    target: Picture
    references: list[ReferenceShown]
    rows: list[list[Cell]]
    owners: list[int]
    """Number of the reference of each face of the target by ascending x0, 0 for none."""


@dataclass(frozen=True)
class Group:
    """The samples shown of one config."""

    config: str
    samples: int
    shown: list[SampleShown]


@dataclass(frozen=True)
class Place:
    """Where a reference of somebody lies."""

    shard: str
    """Path of the shard, relative to the dataset, without extension."""
    key: str
    number: int
    """Of the reference, from 0."""


@dataclass(frozen=True)
class PersonShown:
    """Somebody, with who is most like them."""

    about: Mapping[str, Any]
    """A row of `least_sure` in `dataset.json`."""
    picture: Picture | None
    nearest_picture: Picture | None
    """None where the dataset has no reference of them."""


def read_people(output: str, least_sure: Iterable[Mapping[str, Any]], places: Mapping[str, Place]) -> list[PersonShown]:
    """The least sure people as they are shown. `places`: identity -> a reference. Raises Failure."""
    rows = list(least_sure)
    shown = [places[name] for row in rows for name in (row["identity"], row["nearest"]) if name in places]
    members = dict(_read_samples(output, {(place.shard, place.key) for place in shown}))

    def picture(name: str) -> Picture | None:
        if name not in places:
            return None
        place = places[name]
        its = members[place.shard, place.key]
        with _damage_in(output, place.shard, place.key):
            whole = pictures.decode(its[json.loads(its["json"])["references"][place.number]["member"]], pictures.UNLIMITED)
            return thumbnail(whole, PERSON_SIDE, {})

    return [PersonShown(row, picture(row["identity"]), picture(row["nearest"])) for row in rows]


def read_groups(output: str, candidates: Iterable[Candidate], samples: Mapping[str, int]) -> list[Group]:
    """Which of the candidates are shown, by config, least sure first. `samples`: config -> how many it has. Raises Failure."""
    picked = pick(candidates, MAX_SAMPLES)
    shown = {}
    wanted = {(chosen.shard, chosen.key) for queue in picked.values() for chosen in queue}
    for (shard, key), members in _read_samples(output, wanted):
        with _damage_in(output, shard, key):
            shown[shard, key] = show(members)
    return [Group(config, samples[config], [shown[chosen.shard, chosen.key] for chosen in queue])
            for config, queue in picked.items()]


def _read_samples(output: str, wanted: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], dict[str, bytes]]]:
    """Shard and key -> members, a shard at a time. Raises Failure."""
    keys: dict[str, set[str]] = {}
    for shard, key in sorted(wanted):
        keys.setdefault(shard, set()).add(key)
    for shard, its in keys.items():
        for key, members in read_members(output, shard, its).items():
            yield (shard, key), members


@contextlib.contextmanager
def _damage_in(output: str, shard: str, key: str) -> Iterator[None]:
    """Raises Failure where the block finds a sample damaged."""
    try:
        yield
    except (KeyError, ValueError, IndexError, pictures.BadPicture) as error:
        raise Failure(f"sample {key} in {shard}.tar of {output} is damaged ({in_a_line(error)}): `verify` tells "
                      "what else is") from None


def pick(candidates: Iterable[Candidate], limit: int) -> dict[str, list[Candidate]]:
    """Config -> the samples to show: configs take turns until `limit`, each with its least sure sample first."""
    waiting: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates):
        waiting.setdefault(candidate.config, []).append(candidate)
    turns = sorted((turn, config_order(config), candidate) for config, queue in waiting.items()
                   for turn, candidate in enumerate(queue))
    picked: dict[str, list[Candidate]] = {config: [] for config in sorted(waiting, key=config_order)}
    for _, _, candidate in turns[:limit]:
        picked[candidate.config].append(candidate)
    return {config: queue for config, queue in picked.items() if queue}


def config_order(config: str) -> int:
    """refs-10 comes after refs-2."""
    return int(config.removeprefix("refs-"))


def show(members: Mapping[str, bytes]) -> SampleShown:
    """One sample with thumbnails. Raises KeyError, ValueError or BadPicture for a damaged one."""
    about = json.loads(members["json"])
    whole = {name: pictures.decode(members[name], pictures.UNLIMITED)
             for name in ("target.jpg", *(one["member"] for one in about["references"]))}
    references = about["references"]
    least = min(one["margin"] for one in references)
    shown = [ReferenceShown(number, thumbnail(whole[one["member"]], REFERENCE_SIDE, {number: one["face_box"]}),
                            one["identity"], one["uri"], one["similarity"], one["margin"], one["margin"] == least)
             for number, one in enumerate(references, 1)]
    target = thumbnail(whole["target.jpg"], TARGET_SIDE,
                       {number: one["target_face_box"] for number, one in enumerate(references, 1)})
    matrix, assignment = about["similarity_matrix"], about["assignment"]
    rows = [[Cell(value, face == own) for face, value in enumerate(row)]
            for row, own in zip(matrix, assignment, strict=True)]
    number_of = {face: number for number, face in enumerate(assignment, 1)}
    return SampleShown(about, target, shown, rows, [number_of.get(face, 0) for face in range(len(matrix[0]))])


def read_members(output: str, shard: str, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
    """Key -> extension -> bytes of the named samples' members, in one pass that ends behind the last.

    Raises Failure."""
    fs, path = filesystem(join(output, f"{shard}.tar"))
    found: dict[str, dict[str, bytes]] = {}
    try:
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if key in keys and (data := tar.extractfile(member)):
                    found.setdefault(key, {})[extension] = data.read()
                elif len(found) == len(keys):
                    break
    except FileNotFoundError:
        raise Failure(f"{output} lacks {shard}.tar: `verify` tells what else is missing") from None
    except tarfile.TarError as error:
        raise Failure(f"{shard}.tar of {output} cannot be read ({in_a_line(error)}): copy it again") from None
    missing = sorted(set(keys) - found.keys())
    if missing:
        raise Failure(f"{shard}.tar of {output} lacks the sample {missing[0]} of its Parquet file: write it again")
    return found


def thumbnail(picture: PIL.Image.Image, longest: int, boxes: Mapping[int, Sequence[float]]) -> Picture:
    """A small copy, and what of the boxes (number -> x0 y0 x1 y1, the picture's pixels) lies inside it."""
    small = pictures.resize(picture, longest)
    width, height = small.size
    across, down = width / picture.width, height / picture.height
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    placed = []
    for number, (x0, y0, x1, y1) in boxes.items():
        left, right = (round(min(max(value * across, 1.5), width - 1.5), 1) for value in (x0, x1))
        upper, lower = (round(min(max(value * down, 1.5), height - 1.5), 1) for value in (y0, y1))
        placed.append(Box(number, left, upper, round(right - left, 1), round(lower - upper, 1),
                          round(max(0, min(left - 1.5, width - TAG)), 1),
                          round(upper - TAG if upper >= TAG else max(0, min(upper - 1.5, height - TAG)), 1)))
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height, placed)
