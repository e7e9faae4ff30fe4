"""Bundles of this process lose nothing; stages on workers of another: the same bytes, and what a user is told, wherever it was
found out."""
from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.builders import make_workdir, party
from tests.job_server import free_port, job_server


@pytest.fixture(scope="module")
def elsewhere():
    with job_server() as options:
        yield options


def in_a_process(module: str) -> subprocess.CompletedProcess[str]:
    """Ended by force after two minutes: what waits for ever would say nothing."""
    return subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, timeout=120,
                          cwd=Path(__file__).parents[1])


def test_whatever_long_bundles_give_on_arrives():
    done = in_a_process("tests.long_bundles")
    assert done.returncode == 0, done.stderr


def test_a_failure_ends_the_run_though_another_worker_is_late():
    done = in_a_process("tests.late_worker")
    assert done.returncode == 0, done.stderr


def make(folder: Path, *options: str) -> dict[str, str]:
    """Identities to shards; digests of the shards."""
    workdir, out = str(folder / "work"), folder / "out"
    for command in (["cluster"], ["pair"], ["write", "--output", str(out)]):
        assert main([*command, "--workdir", workdir, *options]) == 0
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture
def workdirs(tmp_path):
    for name in ("here", "there"):
        make_workdir(tmp_path / name, party())
    return tmp_path


def news(lines: list[str]) -> dict[str, str]:
    """How far each stage has come in the end, and who was found."""
    reached = {found[1]: found[2] for line in lines if (found := re.match(r"(\w+) +(\d+/\d+ \w+)", line))}
    people, = (line for line in lines if " identities, " in line)
    return reached | {"people": people}


def test_workers_elsewhere_write_the_same_bytes_and_say_the_same(workdirs, elsewhere, capsys):
    here = make(workdirs / "here")
    said = news(capsys.readouterr().err.splitlines())
    assert make(workdirs / "there", *elsewhere) == here
    told = news(capsys.readouterr().err.splitlines())
    assert told == said
    assert said["pair"] == "18/18 images" and said["people"].startswith("6 identities, ") and "refs-2/train-000000.tar" in here


def test_what_a_worker_elsewhere_cannot_do_is_one_line_here(workdirs, elsewhere, capsys):
    workdir = workdirs / "here" / "work"
    (workdir / "corrections.jsonl").write_text("7\n")
    assert main(["cluster", "--workdir", str(workdir), *elsewhere]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"umo-dataset: {workdir}/corrections.jsonl:1 is none of")


def test_a_job_server_that_is_not_there_is_named(workdirs, capsys):
    where = f"localhost:{free_port()}"
    assert main(["cluster", "--workdir", str(workdirs / "here" / "work"), "--runner", "PortableRunner", "--job_endpoint", where,
                 "--environment_type", "LOOPBACK", "--job_server_timeout", "1", "--shared-filesystem"]) == 1
    assert f"umo-dataset: no job server answers at {where}" in capsys.readouterr().err
