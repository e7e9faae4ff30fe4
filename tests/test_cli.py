"""The command line: strict, and what goes wrong says what to do."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.cli import main, parse
from tests.builders import Photo, drawn_photo, make_workdir, party
from transforms.failure import WrongUsage
from transforms.pair import PairOptions


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("umo-dataset: ")]
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


@pytest.mark.parametrize(("argv", "near"), [
    (["pair", "--workdir", "w", "--max-bystander", "1"], "--max-bystanders"),
    (["pair", "--workdir", "w", "--sed", "1"], "--seed"),
    (["build", "x", "--output", "o", "--runer", "FlinkRunner"], "--runner"),
    (["build", "x", "--output", "o", "--flink_mastr", "x"], "--flink_master"),
    (["extract", "x", "--workdir", "w", "--num_worker", "2"], "--num_workers"),
    (["build", "x", "--output", "o", "--runner", "FlinkRuner", "--shared-filesystem"], "FlinkRunner"),
    (["build", "x"], "--output"),
    (["report", "o", "--seed", "3"], "another command"),
    (["nothing"], "extract"),
    ([], "COMMAND"),
])
def test_wrong_usage_is_exit_2_with_the_nearest_name(argv, near, capsys):
    assert main(argv) == 2
    assert near in said(capsys)


def test_what_is_like_no_option_is_taken_for_none(capsys):
    assert main(["extract", "--input", "x", "--workdir", "w"]) == 2
    assert said(capsys).endswith("unknown option --input")


@pytest.mark.parametrize(("argv", "place"), [
    (["pair", "--workdir", "/w"], "--workdir /w "),
    (["build", "memory://photos", "--output", "/o"], "--output /o "),
    (["extract", "memory://m.csv", "photos", "--workdir", "memory://w"], "photos "),
    (["cluster", "--workdir", "memory://w", "--identities", "people"], "--identities people ")])
def test_a_local_place_needs_a_local_runner_or_a_word(argv, place):
    elsewhere = [*argv, "--runner", "FlinkRunner"]
    with pytest.raises(WrongUsage, match=f"^{place}.*--shared-filesystem"):
        parse(elsewhere)
    assert parse([*elsewhere, "--shared-filesystem"]).run.runner == "FlinkRunner"
    assert parse(argv).run.runner == "DirectRunner"


def test_workers_elsewhere_need_to_see_urls_alone():
    argv = ["extract", "memory://photos", "here.jsonl", "--workdir", "memory://w", "--runner", "FlinkRunner"]
    assert parse(argv).run.runner == "FlinkRunner"  # a manifest is read here


def test_beams_own_options_pass():
    command = parse(["pair", "--workdir", "memory://w", "--runner", "FlinkRunner", "--flink_master", "host:8081",
                     "--parallelism=4"])
    assert command.run.beam_args == ("--flink_master", "host:8081", "--parallelism=4")


def test_beams_options_may_stand_before_the_inputs():
    command = parse(["build", "--flink_master", "host:8081", "in", "--output", "out"])
    assert command.values.inputs == ["in"] and command.run.beam_args == ("--flink_master", "host:8081")
    assert parse(["build", "--output", "out", "--", "-dash-first.jpg"]).values.inputs == ["-dash-first.jpg"]


@pytest.mark.parametrize("option", [["--chunk-size", "0"], ["--extract-processes", "-1"], ["--val-fraction", "1"],
                                    ["--max-identities", "1"], ["--target-size", "0"], ["--min-margin", "2"],
                                    ["--seed", "x"], ["--ref-crop", "foot"]])
def test_a_value_that_makes_no_sense_is_wrong_usage(option, capsys):
    assert main(["build", "in", "--output", "out", *option]) == 2
    assert option[0] in said(capsys)


def test_defaults_live_in_the_options_alone():
    values = parse(["pair", "--workdir", "w"]).values
    options = PairOptions()
    assert {name: getattr(values, name) for name in vars(options)} == vars(options)


def test_the_workdir_lies_beside_the_output():
    assert parse(["build", "x", "--output", "out/"]).values.workdir == "out.work"


@pytest.mark.parametrize("command", ["build", "extract", "cluster", "synthesize", "pair", "write", "report", "verify",
                                     "doctor"])
def test_every_option_says_what_happens_if_it_is_left_alone(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    shown = text.split(" options: ")[1].split(" Every path ")[0]
    options = [part for part in shown.split(" --")[1:] if not part.startswith(("help", "workdir W work directory --",
                                                                               "output OUT"))]
    assert all("default" in part or "work directory" in part for part in options), options


def test_an_empty_folder_says_so(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert main(["build", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]) == 1
    assert "no pictures" in said(capsys)


def test_a_missing_folder_says_so(tmp_path, capsys):
    assert main(["extract", str(tmp_path / "nowhere"), "--workdir", str(tmp_path / "w")]) == 1
    assert "does not exist" in said(capsys)


COMMANDS = [["pair", "--workdir", "{}"], ["report", "{}"], ["verify", "{}"], ["build", "photos", "--output", "{}"],
            ["write", "--workdir", "w", "--output", "{}"]]


@pytest.mark.parametrize("argv", [*COMMANDS, ["pair", "--workdir", "{}", "--runner", "FlinkRunner"]])
def test_a_url_that_nothing_opens_is_one_line(tmp_path, monkeypatch, argv, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([word.format("foo://bucket/x") for word in argv]) == 1
    assert "foo" in said(capsys)


@pytest.mark.parametrize("argv", COMMANDS)
def test_what_a_store_says_is_one_line(tmp_path, monkeypatch, argv, capsys):
    class Refusing(MemoryFileSystem):
        protocol = "refusing"

        def info(self, path: str, **kwargs: object) -> dict[str, object]:
            raise RuntimeError("An error occurred (403)\nForbidden")  # like botocore's, which is no OSError

        exists = cat_file = info

    monkeypatch.chdir(tmp_path)
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    assert main([word.format("refusing://bucket/x") for word in argv]) == 1
    line = said(capsys)
    assert line.startswith("umo-dataset: refusing://bucket/x") and "403" in line


def test_an_output_that_holds_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    assert main(["build", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "thesis.tex" in said(capsys) and (tmp_path / "out" / "thesis.tex").read_text() == "precious"


def test_an_output_that_cannot_be_written_says_so(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["build", str(tmp_path), "--output", str(tmp_path / "file" / "out")]) == 1
    assert "cannot be written" in said(capsys)


def test_stages_out_of_order_say_what_to_run(tmp_path, capsys):
    assert main(["cluster", "--workdir", str(tmp_path / "w")]) == 1
    assert "umo-dataset extract" in said(capsys)


@pytest.mark.parametrize(("photos", "word"), [
    ([Photo("empty.jpg", ()), Photo("nobody.jpg", ())], "fewer people than a sample needs"),
    ([photo for photo in party() if len(photo.people) == 1], "fewer people than a sample needs"),
    ([photo for photo in party() if len(photo.people) > 1][:1], "seen in another photo")])
def test_photos_that_make_no_sample_say_why(tmp_path, photos, word, capsys):
    workdir = make_workdir(tmp_path, photos)
    for command in ("cluster", "pair"):
        assert main([command, "--workdir", workdir]) == 0
    assert main(["write", "--workdir", workdir, "--output", str(tmp_path / "out")]) == 1
    assert word in said(capsys)


def test_two_commands_do_not_share_a_work_directory(tmp_path, capsys):
    from pipeline.lock import locked

    workdir = make_workdir(tmp_path, party())
    with locked(workdir):
        assert main(["cluster", "--workdir", workdir]) == 1
    assert "in use" in said(capsys)
    assert main(["cluster", "--workdir", workdir]) == 0


def test_a_full_disk_is_one_plain_line(tmp_path):
    """A limit on the size of files stands for a disk without space: the kernel refuses the write."""
    workdir = make_workdir(tmp_path, party())
    for command in ("cluster", "pair"):
        assert main([command, "--workdir", workdir]) == 0

    # not by preexec_fn: a process that is forked where Beam has started gRPC may end before it is another one (grpc/grpc pull
    # 43157)
    limited = ("import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
               "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
    done = subprocess.run([sys.executable, "-c", limited, "-m", "pipeline", "write", "--workdir", workdir, "--output",
                           str(tmp_path / "out")], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1], env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    lines = [line for line in done.stderr.splitlines() if line.startswith("umo-dataset:")]
    assert done.returncode == 1 and len(lines) == 1 and "File too large" in lines[0]
    assert "Traceback" not in done.stderr
    assert main(["write", "--workdir", workdir, "--output", str(tmp_path / "out")]) == 0


def test_a_picture_without_a_face_is_no_failure_of_extract(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    drawn_photo("no face").save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "b.jpg").write_bytes(b"no picture")
    assert main(["extract", str(tmp_path / "photos"), "--workdir", str(tmp_path / "w"), "--extract-processes", "1"]) == 0
    assert "1 not_a_picture" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cpu:1", "CUDA"])
def test_a_device_that_cannot_be_is_wrong_usage(device, tmp_path, capsys):
    assert main(["extract", str(tmp_path), "--workdir", str(tmp_path / "w"), "--device", device]) == 2
    assert capsys.readouterr().err == f"umo-dataset: argument --device: {device!r} is not auto|cpu|cuda[:N]\n"


def test_no_command_imports_torch_before_a_model_is_run():
    """With torch installed that takes half a GB."""
    code = "import sys, pipeline.cli; print(sorted({'torch', 'apache_beam.ml.inference.base'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
