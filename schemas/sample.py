"""A sample: a target, a reference of each of its people, and the proof that they match."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

SCHEMA = "umo-dataset/1"
MAX_REFERENCES = 10
"""Default upper limit of `--max-identities` (contract, section 1)."""


@dataclass(frozen=True)
class Target:
    """The picture of several people. Boxes elsewhere are in its upright pixels, before it is resized."""

    image_key: str
    uri: str
    root: str
    group: str
    clip: str
    license: str
    width: int
    height: int


@dataclass(frozen=True)
class Reference:
    """One person's picture, and the face of the target that it stands for."""

    identity: str
    face_id: str
    image_key: str
    uri: str
    root: str
    license: str
    crop: list[float]
    """x0 y0 x1 y1, pixels of the upright image."""
    face_box: list[float]
    """Pixels of the reference as it is written."""
    target_face_box: list[float]
    """Pixels of the upright target."""
    target_keypoints: list[float]
    """x, y five times, pixels of the upright target."""
    target_person_box: list[float]
    """Pixels of the upright target; empty where unknown."""
    similarity: float
    margin: float


@dataclass(frozen=True)
class Sample:
    """A row of `samples` (and of `drafts`, where `split` is still empty)."""

    key: str
    """32 hex characters: digest of the target and its references."""
    split: str
    """`train`, `val` or `test`."""
    prompt: str
    source: str
    target: Target
    references: list[Reference]
    similarity_matrix: list[list[float]]
    assignment: list[int]
    id_sim: float
    id_conf: float
    mimr: float
    bystanders: int
    identities: list[str]
    """Everybody in the target whose name is known, bystanders included: what a split must not tear apart."""
    target_embeddings: list[float]
    """float16 [K * D]: all faces of the target by ascending x0."""
    reference_embeddings: list[float]
    """float16 [N * D]."""
    generator: str = ""
    """What made the target, with its version; empty for a photo or a frame."""
    seed: int = -1
    """Of all that the generator drew; -1 for a photo or a frame."""


_BOX = pa.list_(pa.float32())
_TARGET = pa.struct([("image_key", pa.string()), ("uri", pa.string()), ("root", pa.string()), ("group", pa.string()),
                     ("clip", pa.string()), ("license", pa.string()), ("width", pa.int32()), ("height", pa.int32())])
_REFERENCE = pa.struct([
    ("identity", pa.string()), ("face_id", pa.string()), ("image_key", pa.string()), ("uri", pa.string()),
    ("root", pa.string()), ("license", pa.string()), ("crop", _BOX), ("face_box", _BOX), ("target_face_box", _BOX),
    ("target_keypoints", _BOX), ("target_person_box", _BOX), ("similarity", pa.float64()), ("margin", pa.float64())])


def samples_schema(embedding_model: str) -> pa.Schema:
    """Columns of `samples`; the metadata names the embedding model, as in `faces`."""
    return pa.schema([
        ("key", pa.string()), ("split", pa.string()), ("prompt", pa.string()), ("source", pa.string()),
        ("generator", pa.string()), ("seed", pa.int64()), ("target", _TARGET), ("references", pa.list_(_REFERENCE)),
        ("similarity_matrix", pa.list_(pa.list_(pa.float64()))), ("assignment", pa.list_(pa.int32())),
        ("id_sim", pa.float64()), ("id_conf", pa.float64()), ("mimr", pa.float64()), ("bystanders", pa.int32()),
        ("identities", pa.list_(pa.string())), ("target_embeddings", pa.list_(pa.float16())),
        ("reference_embeddings", pa.list_(pa.float16())),
    ], metadata={"embedding_model": embedding_model})


def to_json(sample: Sample, target_scale: tuple[float, float], target_size: tuple[int, int],
            face_model: str) -> dict[str, Any]:
    """The sample as its `KEY.json` has it (contract, section 4).

    `target_scale` (x, y) leads from the upright image's pixels to the target member's, `target_size` is the latter's
    (width, height). No key is missing and nothing is null: readers infer types from the first samples."""
    across, down = target_scale

    def scaled(values: list[float]) -> list[float]:
        return [_round(value * (down if place % 2 else across)) for place, value in enumerate(values)]

    target = {name: getattr(sample.target, name) for name in ("image_key", "uri", "group", "clip", "license")}
    return {
        "schema": SCHEMA, "key": sample.key, "prompt": sample.prompt, "source": sample.source, "split": sample.split,
        "generator": sample.generator, "seed": sample.seed,
        "target": {**target, "width": target_size[0], "height": target_size[1]},
        "references": [{
            "member": f"ref_{number}.jpg", "identity": one.identity, "image_key": one.image_key, "uri": one.uri,
            "license": one.license, "crop": [_round(value) for value in one.crop],
            "face_box": [_round(value) for value in one.face_box], "target_face_box": scaled(one.target_face_box),
            "target_keypoints": [scaled(one.target_keypoints[at:at + 2]) for at in range(0, 10, 2)],
            "target_person_box": scaled(one.target_person_box), "similarity": one.similarity, "margin": one.margin,
        } for number, one in enumerate(sample.references, 1)],
        "similarity_matrix": sample.similarity_matrix, "assignment": sample.assignment, "id_sim": sample.id_sim,
        "id_conf": sample.id_conf, "mimr": sample.mimr, "bystanders": sample.bystanders,
        "models": {"faces": face_model},
    }


def _round(value: float) -> float:
    """Coordinates to a hundredth of a pixel."""
    return round(float(value), 2)


def from_row(row: dict[str, Any]) -> Sample:
    """A sample from its Parquet row as Python values."""
    return Sample(**{**row, "target": Target(**row["target"]),
                     "references": [Reference(**reference) for reference in row["references"]]})


Kind = Any
"""A type of the sample's JSON: an Arrow type's name, a dict (struct) or a list of one Kind."""
_BOX_KIND: Kind = ["float64"]
JSON: dict[str, Kind] = {
    "schema": "string", "key": "string", "prompt": "string", "source": "string", "split": "string",
    "generator": "string", "seed": "int64",
    "target": {"image_key": "string", "uri": "string", "group": "string", "clip": "string", "license": "string",
               "width": "int64", "height": "int64"},
    "references": [{
        "member": "string", "identity": "string", "image_key": "string", "uri": "string", "license": "string",
        "crop": _BOX_KIND, "face_box": _BOX_KIND, "target_face_box": _BOX_KIND, "target_keypoints": [_BOX_KIND],
        "target_person_box": _BOX_KIND, "similarity": "float64", "margin": "float64"}],
    "similarity_matrix": [["float64"]], "assignment": ["int64"], "id_sim": "float64", "id_conf": "float64",
    "mimr": "float64", "bystanders": "int64", "models": {"faces": "string"}}
"""Types of what `to_json` gives. Written down, for readers infer them from the first samples: a list that is empty in all
of those (`target_person_box` where people are unknown) becomes a list of nulls, and the first other one an error."""


def _arrow(kind: Kind) -> pa.DataType:
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow(inner)) for name, inner in kind.items()])
    return pa.list_(_arrow(kind[0])) if isinstance(kind, list) else getattr(pa, kind)()


JSON_SCHEMA = pa.schema([(name, _arrow(kind)) for name, kind in JSON.items()])
"""Columns of the Parquet beside a shard."""
