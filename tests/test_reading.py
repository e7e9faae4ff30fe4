"""A dataset as the project writes it, read by the libraries that others read it with."""
from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline import card, croissant
from pipeline.funnel import Step
from schemas.sample import SCHEMA, Reference, Sample, Target, to_json
from transforms import pictures
from transforms.shards import npz, write_members
from transforms.write import _parquet

FACES, DIMENSIONS = 3, 8
LICENSED = 10
"""The first sample with a licence: further in than any reader looks for types."""
SIZES = ((64, 96), (96, 64), (64, 64))
"""(height, width) of targets, by turns."""


def sample(number: int, references: int, split: str) -> Sample:
    """A sample whose numbers all follow from `number`; a person's box is known from LICENSED on, like the licence."""
    key = f"{number:02x}" * 16
    height, width = SIZES[number % len(SIZES)]
    license = "CC-BY-4.0" if number >= LICENSED else ""
    vectors = np.random.default_rng(number).normal(size=(FACES + references, DIMENSIONS)).astype(np.float16)
    people = [Reference(
        identity=f"id{at}", face_id=f"{key}:{at}", image_key=f"{at:032x}", uri=f"album/{at}.jpg", root="/never/written",
        license=license, crop=[0.0, 0.0, 40.0, 50.0], face_box=[8.0, 8.0, 32.0, 40.0],
        target_face_box=[at * 20.0, 4.0, at * 20.0 + 16, 20.0], target_keypoints=[float(at * 20 + n) for n in range(10)],
        target_person_box=[0.0, 0.0, 30.0, 60.0] if number >= LICENSED else [], similarity=0.6, margin=0.5)
        for at in range(references)]
    return Sample(
        key=key, split=split, prompt=f"Prompt {number}, with \u00fc.", source="photo",
        target=Target(key, f"album/{number}.jpg", "/never/written", "", "", license, width * 2, height * 2),
        references=people, similarity_matrix=[[0.6, 0.1, 0.0]] * references, assignment=list(range(references)), id_sim=0.6,
        id_conf=0.5, mimr=0.2, bystanders=0, identities=[one.identity for one in people],
        target_embeddings=vectors[:FACES].ravel().tolist(), reference_embeddings=vectors[FACES:].ravel().tolist())


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [height, width, 3]: a gradient with black and white in it."""
    across = np.linspace(0, 255, width)[None, :, None]
    down = np.linspace(0, 255, height)[:, None, None]
    return np.clip((across + down * (seed % 3)) / (1 + seed % 3) * np.ones(3), 0, 255).astype(np.uint8)


def members_of(one: Sample) -> tuple[list[tuple[str, bytes]], dict[str, Any]]:
    """Members and JSON, in the contract's order."""
    width, height = one.target.width // 2, one.target.height // 2
    about = to_json(one, (0.5, 0.5), (width, height), "dlib/test")
    arrays = npz(target=np.asarray(one.target_embeddings, np.float16).reshape(FACES, DIMENSIONS),
                 refs=np.asarray(one.reference_embeddings, np.float16).reshape(-1, DIMENSIONS))
    number = int(one.key[:2], 16)
    jpegs = [(f"{one.key}.ref_{at}.jpg", pictures.encode(picture(50, 40, number + at)))
             for at in range(1, len(one.references) + 1)]
    return [(f"{one.key}.json", json.dumps(about, ensure_ascii=False).encode()), (f"{one.key}.npz", arrays), *jpegs,
            (f"{one.key}.target.jpg", pictures.encode(picture(height, width, number))),
            (f"{one.key}.txt", one.prompt.encode())], about


SHARDS = (("refs-2/train-000000", 2, "train", range(0, 12)), ("refs-2/val-000000", 2, "val", range(12, 13)),
          ("refs-3/train-000000", 3, "train", range(13, 16)), ("refs-3/train-000001", 3, "train", range(16, 18)))
"""(path, references, split, numbers of its samples)."""
TRAINING = sorted(f"{number:02x}" * 16 for _, _, split, numbers in SHARDS if split == "train" for number in numbers)


def make_dataset(folder: Path) -> dict[str, Any]:
    """Write a finished dataset with the project's own writers; its `dataset.json`."""
    shards = []
    for path, references, split, numbers in SHARDS:
        made = [members_of(sample(number, references, split)) for number in numbers]
        tar = io.BytesIO()
        write_members(tar, [member for members, _ in made for member in members])
        table = _parquet([about for _, about in made])
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{path}.tar").write_bytes(tar.getvalue())
        (folder / f"{path}.parquet").write_bytes(table)
        shards.append({"path": path, "references": references, "split": split, "samples": len(made),
                       "bytes": len(tar.getvalue()), "sha256": hashlib.sha256(tar.getvalue()).hexdigest(),
                       "parquet_sha256": hashlib.sha256(table).hexdigest()})
    about = about_of(shards)
    (folder / "dataset.json").write_text(json.dumps(about))
    (folder / "README.md").write_text(card.card(about, [Step("shards", "write", "samples", 19, 18, {"gone": 1})]))
    (folder / "croissant.json").write_text(json.dumps(croissant.croissant(about)))
    return about


def about_of(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """A `dataset.json` around shards."""
    counts: Counter[str] = Counter()
    for shard in shards:
        counts[f"refs-{shard['references']}/{shard['split']}"] += shard["samples"]
    bounds = {"same_person": 0.45, "near_copy": 0.95, "margin": 0.2, "origin": "a test"}
    return {
        "schema": SCHEMA,
        "options": {"extract": {"faces": "dlib", "ref_crop": "head", "ref_size": 640}, "cluster": {},
                    "pair": {"max_bystanders": 0, "min_margin": None}, "write": {"target_size": 1024}},
        "models": {"faces": {"backend": "dlib", "name": "test", "sha256": "0" * 64, "license": "CC0-1.0",
                             "dimensions": DIMENSIONS, "bounds": bounds}},
        "libraries": {"numpy": "2"},
        "counts": {"samples": sum(counts.values()), "by_config_and_split": dict(counts), "by_source": {"photo": 18},
                   "identities": 3},
        "shards": shards}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    make_dataset(folder)
    return folder
