"""The doctor names what is missing, with the command that mends it, in the words of the command that would stop for it."""
from __future__ import annotations

import re
import sys

import pytest

from pipeline.cli import main


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.doctor.SECONDS", 0.0)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))  # of a process that has not imported the hub's package yet
    if "huggingface_hub" in sys.modules:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What was said of each flag and extra."""
    said = capsys.readouterr().out.splitlines()
    return dict(re.split(r": +", line, maxsplit=1) for line in said if line.startswith(("--", "extra ")))


def test_what_synthesis_lacks_is_said_and_fails_only_what_was_asked_for(monkeypatch, capsys):
    pytest.importorskip("cv2")
    pytest.importorskip("diffusers")
    assert main(["doctor", "--faces", "dlib"]) == 0
    found = lines(capsys)
    assert found["extra generate"] == "installed" and found["--synthesize composite"] == "needs no weights"
    mend = "P.download('black-forest-labs/FLUX.2-klein-4B', use_safetensors=True)"
    assert mend in found["--synthesize diffusers"]
    assert main(["doctor", "--faces", "dlib", "--synthesize", "diffusers"]) == 1
    assert mend in capsys.readouterr().err
    assert main(["doctor", "--faces", "dlib", "--image-model", "someone/editor"]) == 1
    assert "P.download('someone/editor'" in capsys.readouterr().err


def test_packages_that_are_missing_are_said_with_what_brings_them(monkeypatch, capsys):
    for name in ("cv2", "transforms.cutouts", "transforms.composites", "diffusers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["doctor", "--faces", "dlib", "--synthesize", "composite"]) == 1
    assert lines(capsys)["--synthesize composite"].endswith("pip install opencv-python")
    assert main(["doctor", "--faces", "dlib", "--synthesize", "diffusers:someone/model"]) == 1
    assert lines(capsys)["--synthesize diffusers:someone/model"].endswith("pip install 'umo-dataset[generate]'")


def test_a_model_that_lies_here_is_named_with_licence_and_digest(tmp_path, capsys):
    pytest.importorskip("diffusers")
    from tests import diffusers_weights

    folder = diffusers_weights.pipeline(tmp_path / "words")
    assert main(["doctor", "--faces", "dlib", "--synthesize", f"diffusers:{folder}"]) == 0
    assert "made-up-licence, sha256 " in capsys.readouterr().out
    assert main(["doctor", "--faces", "dlib", "--image-model", folder]) == 2  # it takes words alone
