"""Is a finished dataset whole, and does it mean what it says? One line for each fault."""
from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image

from pipeline import dataset
from schemas.sample import SCHEMA
from transforms import face_models, matching, pictures
from transforms.face_models import FaceModel
from transforms.failure import Failure
from transforms.parts import get, join

ROUNDING = 2e-3
"""Cosines of float16 rows against the JSON's: float16 keeps 11 bits, so that a unit vector's product is good to about 1e-3."""


def verify(output: str, deep: bool) -> None:
    """Print every fault. Raises Failure with their number."""
    about = dataset.read(output)
    model = face_models.load(about["models"]["faces"]["backend"]) if deep else None
    count = 0
    for fault in faults(output, about, model):
        print(fault)
        count += 1
    if count:
        raise Failure(f"{output} has {count} fault{'s' if count > 1 else ''}: build it again")
    print(f"{output}: {about['counts']['samples']} samples in {len(about['shards'])} shards are whole", file=sys.stderr)


def faults(output: str, about: dict[str, Any], model: FaceModel | None) -> Iterator[str]:
    """Every fault of a dataset, as a line. With a face model, every picture is decoded and looked at again."""
    if about["schema"] != SCHEMA:
        yield f"dataset.json: schema is {about['schema']}, not {SCHEMA}"
    split_of: dict[str, dict[str, str]] = defaultdict(dict)
    keys: dict[str, str] = {}
    for shard in about["shards"]:
        path = f"{shard['path']}.tar"
        try:
            data = get(join(output, path))
        except FileNotFoundError:
            yield f"{path}: missing"
            continue
        if hashlib.sha256(data).hexdigest() != shard["sha256"]:
            yield f"{path}: its sha256 is not the one in dataset.json"
        count = 0
        for key, members in _samples(data):
            count += 1
            if key in keys:
                yield f"{path}: sample {key} is in {keys[key]} too"
            keys[key] = path
            for fault in sample_faults(key, members, shard["references"], shard["split"], model):
                yield f"{path}: {key}: {fault}"
            for name in _people(members, key):
                split_of[name][shard["split"]] = key
        if count != shard["samples"]:
            yield f"{path}: {count} samples, dataset.json says {shard['samples']}"
        yield from _parquet_faults(output, shard)
    for name, splits in sorted(split_of.items()):
        if len(splits) > 1:
            yield f"identity {name} is in {' and '.join(sorted(splits))}"


def _samples(data: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members (extension -> bytes, in order) of each sample of a tar."""
    key = ""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for info in tar:
            its, _, extension = info.name.partition(".")
            if its != key and members:
                yield key, members
                members = {}
            key = its
            opened = tar.extractfile(info)
            members[extension] = opened.read() if opened else b""
    if members:
        yield key, members


def _people(members: dict[str, bytes], key: str) -> list[str]:
    try:
        return [reference["identity"] for reference in json.loads(members["json"])["references"]]
    except (KeyError, ValueError):
        return []


def _parquet_faults(output: str, shard: dict[str, Any]) -> Iterator[str]:
    path = f"{shard['path']}.parquet"
    try:
        if hashlib.sha256(get(join(output, path))).hexdigest() != shard["parquet_sha256"]:
            yield f"{path}: its sha256 is not the one in dataset.json"
    except FileNotFoundError:
        yield f"{path}: missing"


def sample_faults(key: str, members: dict[str, bytes], references: int, split: str,
                  model: FaceModel | None) -> Iterator[str]:
    """What is wrong with one sample (contract, sections 3 and 4)."""
    wanted = ["json", "npz", *(f"ref_{number}.jpg" for number in range(1, references + 1)), "target.jpg", "txt"]
    if list(members) != wanted:
        yield f"members are {', '.join(members)}, not {', '.join(wanted)}"
        return
    try:
        about = json.loads(members["json"])
        arrays = np.load(io.BytesIO(members["npz"]), allow_pickle=False)
        target, refs = arrays["target"], arrays["refs"]
        matrix = np.array(about["similarity_matrix"], np.float64)
        assignment = np.array(about["assignment"], np.int64)
    except (KeyError, ValueError, OSError) as error:
        yield f"cannot be read: {type(error).__name__}: {error}"
        return
    if about["key"] != key or about["split"] != split or len(about["references"]) != references:
        yield "key, split or number of references is not that of its place"
    if _has_null(about):
        yield "its JSON holds a null"
    if members["txt"].decode(errors="replace") != about["prompt"]:
        yield "the prompt in .txt is not the one in .json"
    if matrix.shape != (len(refs), len(target)) or refs.shape[0] != references:
        yield f"a matrix of {matrix.shape} for {len(refs)} references and {len(target)} faces"
        return
    if np.abs(matching.similarity_matrix(refs, target) - matrix).max() > ROUNDING:
        yield "similarity_matrix is not the cosine of the npz's rows"
    if not matching.holds_both_ways(matrix, assignment).all():
        yield "a reference's best face is not the assigned one, or the other way round"
    for name, value in (("id_sim", matching.id_sim(matrix)), ("id_conf", matching.id_conf(matrix)),
                        ("mimr", matching.mimr(matrix))):
        if abs(about[name] - value) > ROUNDING:
            yield f"{name} is {about[name]}, the matrix gives {value}"
    images = [reference["image_key"] for reference in about["references"]]
    if len({*images, about["target"]["image_key"]}) != references + 1:
        yield "one picture serves twice"
    yield from _picture_faults(about, members, model)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_null(inner) for inner in value.values())
    return any(_has_null(inner) for inner in value) if isinstance(value, list) else value is None


def _picture_faults(about: dict[str, Any], members: dict[str, bytes], model: FaceModel | None) -> Iterator[str]:
    """Sizes, boxes and metadata from the headers; with a model, the faces of every reference."""
    boxes = {"target.jpg": [reference["target_face_box"] for reference in about["references"]]}
    boxes.update({reference["member"]: [reference["face_box"]] for reference in about["references"]})
    for member, its in boxes.items():
        try:
            picture = PIL.Image.open(io.BytesIO(members[member]), formats=["JPEG"])
        except (OSError, ValueError):
            yield f"{member} is no JPEG"
            continue
        if picture.getexif() or "icc_profile" in picture.info:
            yield f"{member} carries metadata"
        if member == "target.jpg" and picture.size != (about["target"]["width"], about["target"]["height"]):
            yield f"{member} is {picture.size}, its JSON says otherwise"
        for box in its:
            centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            if not (0 <= centre[0] <= picture.size[0] and 0 <= centre[1] <= picture.size[1]):
                yield f"a face box of {member} lies outside of it"
        if model is None:
            continue
        try:
            found = model.analyze([pictures.decode(members[member], pictures.Limits(min_side=1))])[0]
        except pictures.BadPicture as bad:
            yield f"{member} cannot be decoded: {bad.detail}"
            continue
        if member != "target.jpg" and len(found) != 1:
            yield f"{member} shows {len(found)} faces"
        if member == "target.jpg" and len(found) < len(about["references"]):
            yield f"{member} shows {len(found)} faces, fewer than there are references"
