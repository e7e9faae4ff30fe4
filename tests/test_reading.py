"""A dataset as the project writes it, read by the libraries that others read it with."""
from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import card, croissant
from pipeline.funnel import Step
from pipeline.loader import Batch, dataset
from schemas.sample import JSON_SCHEMA, SCHEMA, Reference, Sample, Target, to_json
from tests.builders import drawn_photo
from transforms import pictures
from transforms.shards import npz, write_members
from transforms.write import BATCH, Abouts

FACES, DIMENSIONS = 3, 8
LICENSED = 10
"""The first sample with a licence: further in than any reader looks for types."""
SIZES = ((64, 96), (96, 64), (64, 64))
"""(height, width) of targets, by turns."""


def key_of(number: int) -> str:
    return f"{number:02x}" * 16


def sample(number: int, references: int, split: str) -> Sample:
    """A sample made up from `number`; a person's box is known from LICENSED on, like the licence."""
    key = key_of(number)
    height, width = SIZES[number % len(SIZES)]
    license = "CC-BY-4.0" if number >= LICENSED else ""
    vectors = np.random.default_rng(number).normal(size=(FACES + references, DIMENSIONS)).astype(np.float16)
    people = [Reference(
        identity=f"id{at}", face_id=f"{key}:{at}", image_key=f"{at:032x}", uri=f"album/{at}.jpg", root="/never/written",
        license=license, crop=[0.0, 0.0, 40.0, 50.0], face_box=[8.0, 8.0, 32.0, 40.0],
        target_face_box=[at * 20.0, 4.0, at * 20.0 + 16, 20.0],
        target_keypoints=[float(at * 20 + n) for n in range(10)],
        target_person_box=[0.0, 0.0, 30.0, 60.0] if number >= LICENSED else [], similarity=0.6, margin=0.5)
        for at in range(references)]
    return Sample(
        key=key, split=split, prompt=f"Prompt {number}, with \u00fc.", source="photo",
        target=Target(key, f"album/{number}.jpg", "/never/written", "", "", license, width * 2, height * 2),
        references=people, similarity_matrix=[[0.6, 0.1, 0.0]] * references, assignment=list(range(references)),
        id_sim=0.6, id_conf=0.5, mimr=0.2, bystanders=0, identities=[one.identity for one in people],
        target_embeddings=vectors[:FACES].ravel().tolist(), reference_embeddings=vectors[FACES:].ravel().tolist())


def members_of(one: Sample) -> tuple[list[tuple[str, bytes]], dict[str, Any]]:
    """Members and JSON, in the contract's order."""
    width, height = one.target.width // 2, one.target.height // 2
    about = to_json(one, (0.5, 0.5), (width, height), "dlib/test")
    arrays = npz(target=np.asarray(one.target_embeddings, np.float16).reshape(FACES, DIMENSIONS),
                 refs=np.asarray(one.reference_embeddings, np.float16).reshape(-1, DIMENSIONS))
    jpegs = [(f"{one.key}.ref_{at}.jpg", pictures.encode(drawn_photo(one.key, at, width=40, height=50)))
             for at in range(1, len(one.references) + 1)]
    target = pictures.encode(drawn_photo(one.key, width=width, height=height))
    return [(f"{one.key}.json", json.dumps(about, ensure_ascii=False).encode()), (f"{one.key}.npz", arrays), *jpegs,
            (f"{one.key}.target.jpg", target), (f"{one.key}.txt", one.prompt.encode())], about


SHARDS = (("refs-2/train-000000", 2, "train", range(0, 12)), ("refs-2/val-000000", 2, "val", range(12, 13)),
          ("refs-3/train-000000", 3, "train", range(13, 16)), ("refs-3/train-000001", 3, "train", range(16, 18)))
"""(path, references, split, numbers of its samples)."""
TRAINING = sorted(key_of(number) for _, _, split, numbers in SHARDS if split == "train" for number in numbers)


def make_dataset(folder: Path) -> dict[str, Any]:
    """Write a finished dataset with the project's own writers; its `dataset.json`."""
    shards = []
    for path, references, split, numbers in SHARDS:
        made = [members_of(sample(number, references, split)) for number in numbers]
        tar = io.BytesIO()
        write_members(tar, [member for members, _ in made for member in members])
        abouts = Abouts()
        for _, about in made:
            abouts.add(about)
        table = abouts.parquet()
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


def test_the_parquet_of_many_samples_is_that_of_all_at_once():
    many, abouts = [members_of(sample(number, 2, "train"))[1] for number in range(2 * BATCH + 1)], Abouts()
    for about in many:
        abouts.add(about)
    read = pq.read_table(io.BytesIO(abouts.parquet()))
    assert len(abouts) == len(many) and read.equals(pa.Table.from_pylist(many, JSON_SCHEMA))


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
        "generators": [], "libraries": {"numpy": "2"},
        "counts": {"samples": sum(counts.values()), "by_config_and_split": dict(counts), "by_source": {"photo": 18},
                   "identities": 3},
        "shards": shards}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    make_dataset(folder)
    return folder


def expected(key: str) -> Sample:
    number = int(key[:2], 16)
    _, references, split, _ = next(shard for shard in SHARDS if number in shard[3])
    return sample(number, references, split)


def test_tar_lists_members_in_the_contracts_order(made: Path) -> None:
    listed = subprocess.run(["tar", "-tf", made / "refs-2/train-000000.tar"], check=True, capture_output=True,
                            text=True)
    ends = ("json", "npz", "ref_1.jpg", "ref_2.jpg", "target.jpg", "txt")
    assert listed.stdout.split() == [f"{key_of(number)}.{end}" for number in range(12) for end in ends]
    assert not listed.stderr


def test_webdataset_decodes_every_member(made: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted((made / "refs-3").glob("train-*.tar"))]
    read = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil"))
    assert [one["__key__"] for one in read] == [key_of(number) for number in range(13, 18)]
    for one in read:
        wanted, (members, about) = expected(one["__key__"]), members_of(expected(one["__key__"]))
        assert [name for name in one if not name.startswith("__")] == [name.partition(".")[2] for name, _ in members]
        assert one["json"] == about and one["txt"] == wanted.prompt
        assert one["target.jpg"].size == (about["target"]["width"], about["target"]["height"])
        assert one["ref_3.jpg"].size == (40, 50)
        assert one["npz"]["target"].dtype == np.float16 and one["npz"]["refs"].shape == (3, DIMENSIONS)
        assert one["npz"]["target"].ravel().tolist() == wanted.target_embeddings


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_a_config_by_the_card(made: Path, tmp_path: Path, streaming: bool) -> None:
    datasets = pytest.importorskip("datasets")
    for config, split, numbers in (("refs-2", "train", range(12)), ("refs-2", "val", range(12, 13)),
                                   ("refs-3", "train", range(13, 18))):
        rows = list(datasets.load_dataset(str(made), config, split=split, cache_dir=str(tmp_path), streaming=streaming))
        assert [row["__key__"] for row in rows] == [key_of(number) for number in numbers]
        for row in rows:
            check_row(row)


def test_datasets_reads_shards_alone_with_the_cards_features(made: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features._from_yaml_list(card.features(2))
    rows = datasets.load_dataset("webdataset", data_files={"train": str(made / "refs-2/train-*.tar")}, split="train",
                                 features=features, cache_dir=str(tmp_path))
    assert [row["json"]["target"]["license"] for row in rows] == [""] * LICENSED + ["CC-BY-4.0"] * 2
    for row in rows:
        check_row(row)


def test_what_datasets_infers_is_what_the_card_says(made: Path, tmp_path: Path) -> None:
    """From samples that know every box, so that no list is empty (an empty one is inferred as a list of nulls)."""
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("webdataset", data_files={"val": str(made / "refs-2/val-*.tar")}, split="val",
                                 cache_dir=str(tmp_path))
    assert rows.features == datasets.Features._from_yaml_list(card.features(2))


def check_row(row: dict[str, Any]) -> None:
    """A row of `datasets` holds what was written, all values of it."""
    wanted = expected(row["__key__"])
    members, about = members_of(wanted)
    assert row["json"] == about and row["txt"] == wanted.prompt
    assert np.asarray(row["npz"]["target"], np.float16).ravel().tolist() == wanted.target_embeddings
    assert np.asarray(row["npz"]["refs"], np.float16).ravel().tolist() == wanted.reference_embeddings
    assert row["target.jpg"].size == (about["target"]["width"], about["target"]["height"])
    contents = dict(members)
    written = pictures.decode(contents[f"{wanted.key}.ref_1.jpg"], pictures.UNLIMITED)
    assert np.array_equal(np.asarray(row["ref_1.jpg"]), written)


def test_mlcroissant_reads_the_records(made: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    read = mlcroissant.Dataset(jsonld=str(made / "croissant.json"))
    assert not read.metadata.ctx.issues.errors
    records = {record["samples/key"].decode(): record for record in read.records("samples")}
    assert sorted(records) == sorted([*TRAINING, key_of(12)])
    for key, record in records.items():
        _, about = members_of(expected(key))
        assert record["samples/similarity_matrix"] == about["similarity_matrix"]
        assert record["samples/target"]["samples/target/width"] == about["target"]["width"]
        assert [one["samples/references/identity"].decode() for one in record["samples/references"]] == [
            one["identity"] for one in about["references"]]


def batches(made: Path, workers: int, epoch: int = 0, **arguments: Any) -> list[Batch]:
    """A pass of a DataLoader over the training split."""
    torch = pytest.importorskip("torch")
    stream = dataset(str(made), resolution=96, ref_resolution=64, **arguments)
    stream.set_epoch(epoch)
    return list(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers))


def keys(read: Iterable[Batch]) -> list[str]:
    return [about["key"] for batch in read for about in batch["meta"]]


def test_two_workers_see_every_sample_once_and_a_batch_is_of_one_kind(made: Path) -> None:
    torch = pytest.importorskip("torch")
    read = batches(made, workers=2, batch_size=2)
    assert sorted(keys(read)) == TRAINING
    for batch in read:
        size = len(batch["txt"])
        assert size <= 2 and batch["img"].shape[:2] == (size, 3) and batch["img"].dtype == torch.float32
        assert {len(about["references"]) for about in batch["meta"]} == {len(batch["ref_imgs"])}
        assert len({(about["target"]["height"], about["target"]["width"]) for about in batch["meta"]}) == 1
        for pixels in (batch["img"], *batch["ref_imgs"]):
            assert pixels.shape[0] == size and -1 <= pixels.min() < 0 < pixels.max() <= 1
        for at, about in enumerate(batch["meta"]):
            wanted = expected(about["key"])
            assert batch["txt"][at] == wanted.prompt and about == members_of(wanted)[1]
            assert batch["target_faces"][at].shape == (FACES, DIMENSIONS)
            assert batch["ref_faces"][at].ravel().tolist() == wanted.reference_embeddings


def test_two_ranks_with_two_workers_share_the_samples(made: Path) -> None:
    shares = [keys(batches(made, workers=2, batch_size=2, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == TRAINING
    assert abs(len(shares[0]) - len(shares[1])) <= 1


def test_the_same_epoch_gives_the_same_batches_and_another_others(made: Path) -> None:
    torch = pytest.importorskip("torch")
    first, again, other = (batches(made, workers=2, epoch=epoch, batch_size=2) for epoch in (3, 3, 4))
    assert keys(first) == keys(again) != keys(other) and sorted(keys(other)) == TRAINING
    assert all(torch.equal(one["img"], two["img"]) for one, two in zip(first, again, strict=True))


def test_configs_splits_and_order_of_the_shards(made: Path) -> None:
    assert keys(batches(made, workers=0, configs=[3], shuffle=False)) == [key_of(number) for number in range(13, 18)]
    assert keys(batches(made, workers=0, split="val")) == [key_of(12)]


def test_drop_last_leaves_whole_batches(made: Path) -> None:
    read = batches(made, workers=0, batch_size=3, drop_last=True, configs=[2])
    assert [len(batch["txt"]) for batch in read] == [3] * 3  # 12 samples, 4 of each of three buckets


def test_repeat_goes_on_and_loses_nothing(made: Path) -> None:
    torch = pytest.importorskip("torch")
    stream = dataset(str(made), batch_size=3, configs=[2], repeat=True, resolution=96, ref_resolution=64)
    read = iter(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2))
    seen = Counter(keys(next(read) for _ in range(24)))
    assert set(seen) == set(map(key_of, range(12))) and sum(seen.values()) == 72
    assert max(seen.values()) - min(seen.values()) <= 2  # what waits for a batch, in either worker


def test_workers_that_persist_take_the_new_epoch(made: Path) -> None:
    torch = pytest.importorskip("torch")
    stream = dataset(str(made), batch_size=1, resolution=96, ref_resolution=64)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    first = keys(loader)
    stream.set_epoch(1)
    assert keys(loader) != first and keys(loader) == keys(batches(made, workers=2, epoch=1, batch_size=1))


def test_more_workers_than_samples_end(made: Path) -> None:
    torch = pytest.importorskip("torch")
    stream = dataset(str(made), split="val", repeat=True, resolution=96, ref_resolution=64)
    read = iter(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2))
    assert keys(next(read) for _ in range(3)) == [key_of(12)] * 3
