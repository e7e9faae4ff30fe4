"""Every fault that `verify` must find, made in a copy of one finished dataset whose sums all fit."""
from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import stages, verify
from pipeline.build import finish
from pipeline.stages import RunOptions
from schemas.face import Detection
from tests.builders import EMBEDDER, make_workdir, party
from transforms import matching
from transforms.cluster import ClusterOptions
from transforms.failure import Failure
from transforms.pair import PairOptions
from transforms.shards import npz, write_members
from transforms.write import WriteOptions

SHARD = "refs-2/train-000000"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("party")
    workdir, run = make_workdir(folder, party()), RunOptions()
    stages.cluster(workdir, ClusterOptions(), run)
    stages.pair(workdir, PairOptions(val_fraction=0.0), run)
    stages.write(workdir, str(folder / "out"), WriteOptions(), run)
    finish(workdir, str(folder / "out"), None)
    return folder / "out"


@pytest.fixture
def out(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def change(out: Path, name: str, edit: Callable) -> None:
    value = json.loads((out / name).read_text())
    edit(value)
    (out / name).write_text(json.dumps(value))


def put_tar(out: Path, data: bytes) -> None:
    """Put a tar in the shard's place, and its digest and size into dataset.json."""
    (out / f"{SHARD}.tar").write_bytes(data)
    change(out, "dataset.json", lambda about: next(shard for shard in about["shards"] if shard["path"] == SHARD).update(
        sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)))


def members_of(out: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(out / f"{SHARD}.tar") as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]


def packed(members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT, **info: object) -> bytes:
    buffer = io.BytesIO()
    if not info and form == tarfile.USTAR_FORMAT:
        write_members(buffer, members)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            for key, value in info.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def change_member(out: Path, end: str, edit: Callable[[bytes], bytes]) -> None:
    """Rewrite the first member whose name ends so."""
    members = members_of(out)
    place = next(place for place, (name, _) in enumerate(members) if name.endswith(end))
    members[place] = members[place][0], edit(members[place][1])
    put_tar(out, packed(members))


def found(out: Path, model: object = None) -> list[str]:
    return list(verify.faults(str(out), json.loads((out / "dataset.json").read_text()), model))


def test_a_whole_dataset_has_no_fault(finished):
    assert found(finished) == []


def put(*path: object) -> Callable[[dict], None]:
    """Sets the value at path[:-1] to path[-1]."""
    def edit(value: dict) -> None:
        for step in path[:-2]:
            value = value[step]
        value[path[-2]] = path[-1]
    return edit


def remove(*path: object) -> Callable[[dict], None]:
    def edit(value: dict) -> None:
        for step in path[:-1]:
            value = value[step]
        del value[path[-1]]
    return edit


def low_similarity(row: dict) -> None:
    face = row["assignment"][0]
    row["similarity_matrix"][0][face] = row["references"][0]["similarity"] = 0.4


def near_copy(row: dict) -> None:
    low_similarity(row)
    row["similarity_matrix"][0][row["assignment"][0]] = row["references"][0]["similarity"] = 0.99


def low_margin(row: dict) -> None:
    face = row["assignment"][0]
    row["similarity_matrix"][0][1 - face] = row["similarity_matrix"][0][face] - 0.01


FIRST = ("references", 0)
JSON_FAULTS = {
    "missing key": (remove("bystanders"), "bystanders is missing"),
    "missing inner key": (remove(*FIRST, "license"), "references[0].license is missing"),
    "extra key": (put("more", 1), "more is unknown"),
    "extra inner key": (put("target", "root", "x"), "target.root is unknown"),
    "int for float": (put(*FIRST, "margin", 1), "float is due"),
    "float for int": (put("bystanders", 0.0), "int is due"),
    "bool for int": (put("bystanders", False), "int is due"),
    "null": (put("target", "license", None), "target.license is null"),
    "NaN": (put("id_sim", float("nan")), "NaN"),
    "infinite": (put("mimr", float("inf")), "mimr is inf"),
    "list for object": (put("target", []), "target is a list"),
    "no list": (put("references", "x"), "references is a str"),
    "empty box": (put(*FIRST, "face_box", []), "face_box has a length of 0"),
    "short box": (put(*FIRST, "crop", [1.0, 2.0, 3.0]), "crop has a length of 3"),
    "person box": (put(*FIRST, "target_person_box", [1.0]), "target_person_box has a length of 1"),
    "box inside out": (put(*FIRST, "crop", [9.0, 9.0, 1.0, 1.0]), "no box"),
    "four keypoints": (put(*FIRST, "target_keypoints", [[1.0, 2.0]] * 4), "target_keypoints has a length"),
    "keypoints of three": (put(*FIRST, "target_keypoints", [[1.0, 2.0, 3.0]] * 5), "target_keypoints has a length"),
    "ragged matrix": (put("similarity_matrix", 0, [0.5]), "similarity_matrix has rows"),
    "no matrix": (put("similarity_matrix", []), "similarity_matrix has a length"),
    "schema": (put("schema", "umo-dataset/0"), "schema"),
    "key": (put("key", "0" * 32), "key is"),
    "split": (put("split", "val"), "split is"),
    "absolute uri": (put(*FIRST, "uri", "/home/me/a.jpg"), "not relative"),
    "URL": (put("target", "uri", "file:///home/me/a.jpg"), "not relative"),
    "drive": (put("target", "uri", "C:\\me\\a.jpg"), "not relative"),
    "upwards": (put("target", "uri", "a/../../b.jpg"), "not relative"),
    "similarity": (put(*FIRST, "similarity", 0.6), "similarity is 0.6"),
    "margin": (put(*FIRST, "margin", 0.5), "margin is 0.5"),
    "below the bound": (low_similarity, "similarity is out of bounds"),
    "near copy": (near_copy, "similarity is out of bounds"),
    "low margin": (low_margin, "margin is out of bounds"),
    "matrix": (put("similarity_matrix", 0, 0, 0.25), "cosine of the npz"),
    "id_conf": (put("id_conf", 0.1), "id_conf"),
    "bystanders": (put("bystanders", 1), "bystanders"),
    "source": (put("source", "painting"), "source"),
    "generator": (put("generator", "composite/1"), "generator"),
    "prompt": (put("prompt", "other"), "prompt"),
    "member": (put(*FIRST, "member", "ref_2.jpg"), "member of reference 1"),
    "assignment out of range": (put("assignment", [0, 7]), "assignment is"),
    "assignment twice": (put("assignment", [0, 0]), "assignment is"),
    "negative assignment": (put("assignment", [0, -1]), "assignment is"),
    "assignment exchanged": (lambda row: row["assignment"].reverse(), "best face"),
    "identity twice": (lambda row: row["references"][1].update(identity=row["references"][0]["identity"]), "identity"),
    "picture twice": (lambda row: row["references"][1].update(image_key=row["target"]["image_key"]), "picture serves twice"),
    "model": (put("models", "faces", "other/model"), "models.faces"),
    "size": (put("target", "width", 9), "JSON says otherwise"),
    "box outside": (put(*FIRST, "face_box", [900.0, 900.0, 990.0, 990.0]), "outside"),
}


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_faults_of_the_json(out, fault):
    edit, word = JSON_FAULTS[fault]

    def edited(data: bytes) -> bytes:
        row = json.loads(data)
        edit(row)
        return json.dumps(row, ensure_ascii=False).encode()

    change_member(out, ".json", edited)
    faults = found(out)
    assert any(word in line for line in faults), faults
    assert not any("\n" in line or "sha256" in line for line in faults)


def arrays_edited(edit: Callable[[dict], dict]) -> Callable[[bytes], bytes]:
    return lambda data: npz(**edit(dict(np.load(io.BytesIO(data)))))


def encoded(mode: str = "RGB", **options: object) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.open(io.BytesIO(data)).convert(mode).save(buffer, "JPEG", **{"quality": 95, "subsampling": 0, **options})
        return buffer.getvalue()
    return edit


EXIF = PIL.Image.Exif()
EXIF[0x010E] = "somewhere"
MEMBER_FAULTS = {
    "float32": (".npz", arrays_edited(lambda all_: {**all_, "refs": all_["refs"].astype(np.float32)}), "npz holds"),
    "shape": (".npz", arrays_edited(lambda all_: {**all_, "target": all_["target"][:1]}), "npz holds"),
    "another array": (".npz", arrays_edited(lambda all_: {**all_, "more": all_["refs"]}), "npz holds"),
    "no refs": (".npz", arrays_edited(lambda all_: {"target": all_["target"]}), "npz holds"),
    "no unit": (".npz", arrays_edited(lambda all_: {**all_, "refs": all_["refs"] * np.float16(2)}), "unit"),
    "npz cut": (".npz", lambda data: data[:300], "npz cannot be read"),
    "npz empty": (".npz", lambda data: b"", "npz cannot be read"),
    "JSON cut": (".json", lambda data: data[:300], "JSON cannot be read"),
    "JSON a number": (".json", lambda data: b"1", "it is a int"),
    "JSON no UTF-8": (".json", lambda data: b"\xff\xfe\xfd", "JSON cannot be read"),
    "4:2:0": ("target.jpg", encoded(subsampling=2), "4:4:4"),
    "comment": ("ref_1.jpg", encoded(comment=b"me"), "metadata (COM)"),
    "EXIF": ("ref_2.jpg", encoded(exif=EXIF), "metadata (APP1)"),
    "XMP": ("target.jpg", encoded(xmp=b"<x/>"), "metadata (APP1)"),
    "ICC": ("target.jpg", encoded(icc_profile=b"x" * 200), "metadata (APP2)"),
    "gray": ("ref_1.jpg", encoded("L"), "not RGB"),
    "PNG": ("ref_1.jpg", lambda data: b"\x89PNG\r\n\x1a\n", "no JPEG"),
    "JPEG cut": ("ref_1.jpg", lambda data: data[:-100], "truncated"),
    "more behind": ("ref_1.jpg", lambda data: data + b"secret", "more behind"),
    "text": (".txt", lambda data: b"\xff", "prompt"),
}


@pytest.mark.parametrize("fault", MEMBER_FAULTS)
def test_faults_of_the_other_members(out, fault):
    end, edit, word = MEMBER_FAULTS[fault]
    change_member(out, end, edit)
    faults = found(out)
    assert any(word in line for line in faults), faults
    assert not any("\n" in line or "sha256" in line for line in faults)


def other_keys(out: Path) -> None:
    table = pq.read_table(out / f"{SHARD}.parquet")
    pq.write_table(table.take(pa.array([1, 0])), out / f"{SHARD}.parquet")
    digest = hashlib.sha256((out / f"{SHARD}.parquet").read_bytes()).hexdigest()
    change(out, "dataset.json", put("shards", 0, "parquet_sha256", digest))


def swapped(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return members[len(members) // 2:] + members[:len(members) // 2]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1:]


PLACE_FAULTS = {
    "GNU": (lambda out: put_tar(out, packed(members_of(out), tarfile.GNU_FORMAT)), "USTAR"),
    "pax": (lambda out: put_tar(out, packed(members_of(out), tarfile.PAX_FORMAT, mtime=0.5)), "USTAR"),
    "link": (lambda out: put_tar(out, packed(members_of(out), type=tarfile.SYMTYPE, size=0)), "USTAR"),
    "mode": (lambda out: put_tar(out, packed(members_of(out), mode=0o600)), "mode"),
    "owner": (lambda out: put_tar(out, packed(members_of(out), uname="me")), "owner"),
    "mtime": (lambda out: put_tar(out, packed(members_of(out), mtime=1)), "mtime"),
    "order of samples": (lambda out: put_tar(out, packed(swapped(members_of(out)))), "sorted"),
    "order of members": (lambda out: put_tar(out, packed(members_of(out)[::-1])), "members are"),
    "sample twice": (lambda out: put_tar(out, packed(members_of(out) * 2)), "too"),
    "sample fewer": (lambda out: put_tar(out, packed(members_of(out)[:6])), "1 samples"),
    "tar cut": (lambda out: put_tar(out, (out / f"{SHARD}.tar").read_bytes()[:9000]), "truncated"),
    "end cut": (lambda out: put_tar(out, (out / f"{SHARD}.tar").read_bytes().rstrip(b"\0")), "truncated"),
    "tar empty": (lambda out: put_tar(out, b""), "truncated"),
    "header damaged": (lambda out: put_tar(out, flipped((out / f"{SHARD}.tar").read_bytes(), 2048 + 10)), "damaged"),
    "no sha256": (lambda out: (out / f"{SHARD}.tar").write_bytes(packed(members_of(out)[:6])), "sha256"),
    "tar missing": (lambda out: (out / f"{SHARD}.tar").unlink(), "missing"),
    "Parquet missing": (lambda out: (out / f"{SHARD}.parquet").unlink(), "missing"),
    "Parquet damaged": (lambda out: (out / f"{SHARD}.parquet").write_bytes(b"PAR1"), "cannot be read"),
    "Parquet's order": (other_keys, "same order"),
    "unlisted": (lambda out: shutil.copy(out / f"{SHARD}.tar", out / "refs-2" / "val-000000.tar"), "does not list"),
    "funnel cut": (lambda out: (out / "funnel.json").write_text("[{"), "funnel.json: its JSON"),
    "funnel's sum": (lambda out: change(out, "funnel.json", put(0, "kept", 1)), "add up"),
    "funnel's end": (lambda out: change(out, "funnel.json", lambda steps: steps[-1].update({"kept": 5, "in": 5})), "were kept"),
    "croissant cut": (lambda out: (out / "croissant.json").write_text("{"), "croissant.json"),
    "counts": (lambda out: change(out, "dataset.json", put("counts", "samples", 7)), "counts.samples"),
    "splits": (lambda out: change(out, "dataset.json", put("counts", "by_config_and_split", {})), "by_config"),
    "sources": (lambda out: change(out, "dataset.json", put("counts", "by_source", {"frame": 6})), "by_source"),
    "identities": (lambda out: change(out, "dataset.json", put("counts", "identities", 99)), "identities"),
    "no shards": (lambda out: change(out, "dataset.json", remove("shards")), "shards is missing"),
    "a null in it": (lambda out: change(out, "dataset.json", put("shards", 0, "path", None)), "path is null"),
    "schema": (lambda out: change(out, "dataset.json", put("schema", "other")), "schema"),
    "name": (lambda out: change(out, "dataset.json", put("shards", 0, "references", 3)), "its name"),
    **{f"no {name}": (lambda out, name=name: (out / name).unlink(), f"{name}: missing")
       for name in ("README.md", "funnel.json", "croissant.json", "report.html")},
}


@pytest.mark.parametrize("fault", PLACE_FAULTS)
def test_faults_of_files(out, fault):
    edit, word = PLACE_FAULTS[fault]
    edit(out)
    faults = found(out)
    assert any(word in line for line in faults), faults
    assert not any("\n" in line for line in faults)


@pytest.mark.parametrize("text", ["", '{"schema": "umo', "[]", "null", "1"])
def test_a_dataset_json_that_is_cut_is_a_failure(out, text):
    (out / "dataset.json").write_text(text)
    for deep in (False, True):
        with pytest.raises(Failure, match=r"^[^\n]+$"):
            verify.verify(str(out), deep)


class Looker:
    """Sees in a picture the faces that it is told, and in a target all of them."""

    embedder = EMBEDDER

    def __init__(self, out: Path) -> None:
        self.faces: dict[bytes, np.ndarray] = {}
        for path in sorted(out.rglob("*.tar")):
            with tarfile.open(path) as tar:
                files = {info.name: tar.extractfile(info).read() for info in tar}
            for name, data in files.items():
                if name.endswith(".jpg"):
                    arrays = np.load(io.BytesIO(files[f"{name[:32]}.npz"]))
                    place = name[33:-4].removeprefix("ref_")
                    rows = arrays["target"] if place == "target" else arrays["refs"][int(place) - 1:int(place)]
                    self.faces[self.name(np.asarray(PIL.Image.open(io.BytesIO(data))))] = rows

    def name(self, pixels: np.ndarray) -> bytes:
        return hashlib.sha256(pixels.tobytes()).digest()

    def analyze(self, pictures: list[np.ndarray]) -> list[list[Detection]]:
        return [[Detection(np.zeros(4, np.float32), np.zeros(10, np.float32), 1.0, 1.0, row.astype(np.float32))
                 for row in self.faces[self.name(picture)]] for picture in pictures]


class Blind:
    """Sees nobody."""

    embedder = EMBEDDER

    def analyze(self, pictures: list[np.ndarray]) -> list[list[Detection]]:
        return [[] for _ in pictures]


@pytest.mark.parametrize("fault,word", [("none", ""), ("turned", "cosine"), ("two", "2 faces"), ("no", "0 faces"),
                                        ("other", "another face"), ("cut", "decoded"), ("weights", "sha256")])
def test_deep_looks_at_the_faces(out, fault, word):
    if fault == "cut":
        change_member(out, "ref_1.jpg", lambda data: data[:-100])
    looker = Looker(out) if fault != "cut" else Blind()
    if fault == "weights":
        change(out, "dataset.json", put("models", "faces", "sha256", "1" * 64))
    elif fault not in ("none", "cut"):
        picture = next(data for name, data in members_of(out) if name.endswith("ref_1.jpg"))
        name = looker.name(np.asarray(PIL.Image.open(io.BytesIO(picture))))
        target = np.load(io.BytesIO(members_of(out)[1][1]))["target"]
        rows = looker.faces[name]
        assigned = matching.similarity_matrix(rows, target).argmax()
        looker.faces[name] = {"turned": np.roll(rows, 1), "two": np.concatenate([rows, rows]), "no": rows[:0],
                              "other": target[1 - assigned][None]}[fault]
    faults = found(out, looker)
    assert not faults if not word else any(word in line for line in faults), faults
