"""Whole runs on real pictures: the command as a user gives it, killed and started again, with one process and with two."""
from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from pipeline.cli import main
from tests.job_server import job_server
from transforms.parts import Parts

FACES = Path(__file__).parents[2] / "shared" / "faces"
pytestmark = pytest.mark.skipif(not FACES.exists(), reason="needs ../shared/faces")
FAMILY = [f"azure_{n:03d}.jpg" for n in (1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)]
"""Three families: small pictures, so that a run takes seconds."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("family") / "photos"
    folder.mkdir()
    for name in FAMILY:
        shutil.copy2(FACES / "dev" / "images" / name, folder / name)
    shutil.copy2(FACES / "dev" / "images" / FAMILY[0], folder / "zz_the_same_bytes.jpg")
    for name in ("truncated.jpg", "broken_exif.jpg"):
        shutil.copy2(FACES / "bad" / "files" / name, folder / name)
    return folder


def build(photos: Path, out: Path, *options: str) -> int:
    return main(["build", str(photos), "--output", str(out), "--chunk-size", "4", *options])


def bytes_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def built(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    assert build(photos, out) == 0
    return out


def test_photos_become_a_dataset_that_verifies(built):
    about = json.loads((built / "dataset.json").read_text())
    assert about["counts"]["samples"] >= 2
    assert main(["verify", str(built), "--deep"]) == 0
    funnel = {step["step"]: step for step in json.loads((built / "funnel.json").read_text())}
    assert funnel["images"]["in"] == len(FAMILY) + 3
    assert funnel["images"]["dropped"] == {"broken_picture": 1, "duplicate": 1}


def test_one_process_and_two_give_the_same_bytes(built, photos, tmp_path):
    assert build(photos, tmp_path / "out", "--extract-processes", "1") == 0
    assert bytes_of(tmp_path / "out") == bytes_of(built)


def test_workers_of_a_job_server_give_the_same_bytes(built, photos, tmp_path):
    with job_server() as options:
        assert build(photos, tmp_path / "out", *options) == 0
    assert bytes_of(tmp_path / "out") == bytes_of(built)


def test_killed_at_any_moment_and_started_again_it_gives_the_same_bytes(built, photos, tmp_path):
    command = [sys.executable, "-m", "pipeline", "build", str(photos), "--output", str(tmp_path / "out"), "--chunk-size", "4"]
    moments = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL,
                                   cwd=Path(__file__).parents[1])
        time.sleep(moments.uniform(3, 9))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1]).returncode == 0
    assert bytes_of(tmp_path / "out") == bytes_of(built)
    assert not list(tmp_path.rglob("*.parquet.*"))


def parts_of(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(f"{out}.work", "images").glob("*.parquet")}


def test_a_photo_added_is_one_chunk_a_photo_removed_leaves_nothing(photos, tmp_path):
    mine = tmp_path / "photos"
    shutil.copytree(photos, mine)
    out = tmp_path / "out"
    assert build(mine, out) == 0
    before, first = parts_of(out), bytes_of(out)
    shutil.copy2(FACES / "dev" / "images" / "azure_018.jpg", mine / "azure_018.jpg")
    assert build(mine, out) == 0
    after = parts_of(out)
    assert 1 <= len(after.keys() - before.keys()) <= 2
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    (mine / "azure_018.jpg").unlink()
    (mine / "azure_002.jpg").unlink()
    assert build(mine, out) == 0
    uris = Parts(f"{out}.work", "images").read_all(["uri"])["uri"].to_pylist()
    assert "azure_002.jpg" not in uris and "azure_018.jpg" not in uris
    samples = Parts(f"{out}.work", "samples").read_all().to_pylist()
    assert all(sample["target"]["uri"] != "azure_002.jpg" for sample in samples)
    assert main(["verify", str(out)]) == 0
    assert bytes_of(out) != first


def test_a_changed_option_leaves_nothing_stale(built, photos, tmp_path):
    out = tmp_path / "out"
    assert build(photos, out, "--ref-size", "200") == 0
    assert build(photos, out) == 0
    assert bytes_of(out) == bytes_of(built)
    stale = {path.name for folder in ("images", "faces", "crops") for path in Path(f"{out}.work", folder).glob("*.parquet")}
    assert stale == set(Parts(f"{out}.work", "images").parts())


class Flaky(LocalFileSystem):
    """A store that fails for some files, until it is mended."""

    protocol = "flaky"
    failing: set[str] = set()
    reads: list[str] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"flaky://{name}"

    def cat_file(self, path: str, **options: object) -> bytes:
        self.reads.append(path)
        if os.path.basename(path) in self.failing:
            raise TimeoutError("the store does not answer")
        return super().cat_file(path, **options)


def test_rejects_that_may_pass_are_tried_again_and_nothing_else(photos, tmp_path):
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.failing = {FAMILY[2]}
    workdir = str(tmp_path / "work")
    argv = ["extract", f"flaky://{photos}", "--workdir", workdir, "--extract-processes", "1"]
    assert main(argv) == 0
    rejects = Parts(workdir, "rejects")
    transient = [row["uri"] for row in rejects.read_all().to_pylist() if row["transient"]]
    assert transient == [FAMILY[2]]
    before = Parts(workdir, "images").read_all().to_pylist()
    assert main(["cluster", "--workdir", workdir]) == 0
    Flaky.failing, Flaky.reads = set(), []
    assert main(argv) == 0
    assert Flaky.reads == []  # without being asked, rejects stay rejects
    assert main([*argv, "--retry-rejects"]) == 0
    assert [os.path.basename(path) for path in Flaky.reads] == [FAMILY[2]]
    after = Parts(workdir, "images").read_all().to_pylist()
    assert len(after) == len(before) + 1 and [row for row in after if row["uri"] != FAMILY[2]] == before
    assert main(["cluster", "--workdir", workdir]) == 0  # what changed under its name is noticed
    faces = set(Parts(workdir, "faces").read_all()["face_id"].to_pylist())
    assert set(Parts(workdir, "identities").read_all()["face_id"].to_pylist()) == faces
    whole = str(tmp_path / "whole")
    assert main(["extract", f"flaky://{photos}", "--workdir", whole, "--extract-processes", "1"]) == 0
    for name in ("images", "faces", "crops", "rejects"):
        assert Parts(workdir, name).read_all().equals(Parts(whole, name).read_all())
