"""The insightface backend against insightface itself, and against what was drawn."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from tests.insightface_weights import KEYPOINTS, picture, write_detector, write_embedder, write_pack
from transforms import face_models
from transforms.face_models import MissingModel, onnx_runtime
from transforms.failure import Failure, WrongUsage

app, onnx = pytest.importorskip("insightface.app"), pytest.importorskip("onnx")
PICTURES = [picture(640, 480, ("ann", 100, 100, 60), ("bob", 380, 200, 90)), picture(1600, 900, ("cat", 800, 300, 150)),
            picture(500, 500, ("dan", 60, 70, 70)), picture(300, 200), picture(700, 1400, ("ann", 300, 200, 200))]


@pytest.fixture(scope="module", params=[{}, {"batched": True}, {"batch": 1}, {"batch": 3}], ids=str)
def pack(request, tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("markers"), **request.param)


def test_it_gives_what_face_analysis_gives(pack):
    if onnx.load(str(pack / "w_markers.onnx")).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3:
        pytest.skip("FaceAnalysis itself embeds one face at a time")
    ours = face_models.load(f"insightface:{pack}", "cpu").analyze(PICTURES)
    theirs = app.FaceAnalysis(str(pack), allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"])
    theirs.prepare(ctx_id=-1)
    for pixels, faces in zip(PICTURES, ours, strict=True):
        wanted = sorted(theirs.get(np.ascontiguousarray(pixels[:, :, ::-1])), key=lambda face: tuple(face.bbox[:2]))
        assert len(faces) == len(wanted)
        for face, other in zip(faces, wanted, strict=True):
            assert np.abs(face.box - other.bbox).max() < 1
            assert np.abs(face.keypoints.reshape(5, 2) - other.kps).max() < 1
            assert face.detection_score == pytest.approx(other.det_score, abs=1e-4)
            assert face.embedding @ other.normed_embedding > 0.999


def test_boxes_and_keypoints_lie_where_the_markers_were_drawn(pack):
    (ann, bob), (cat,), (dan,), nobody, (again,) = face_models.load(f"insightface:{pack}", "cpu").analyze(PICTURES)
    assert nobody == []
    for face, (x, y, side) in ((ann, (100, 100, 60)), (bob, (380, 200, 90)), (cat, (800, 300, 150)), (dan, (60, 70, 70))):
        drawn = np.array([x, y, x + side, y + side])
        assert np.abs(face.box - drawn).max() < 0.06 * side
        points = drawn[:2] + side / 2 + KEYPOINTS * side
        assert np.abs(face.keypoints.reshape(5, 2) - points).max() < 0.06 * side
    assert ann.embedding @ again.embedding > 0.9 > 0.5 > max(ann.embedding @ other.embedding for other in (bob, cat, dan))


def test_missing_weights_are_one_line_that_says_what_brings_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingModel, match=r"insightface-cli model\.download buffalo_l$"):
        face_models.embedder("insightface")
    with pytest.raises(MissingModel, match="there is no such folder"):
        face_models.embedder("insightface:no/such")
    (tmp_path / "half").mkdir()
    write_detector(tmp_path / "half" / "det.onnx")
    with pytest.raises(MissingModel, match="no ONNX file for recognition"):
        face_models.embedder(f"insightface:{tmp_path / 'half'}")
    (tmp_path / "photos").mkdir()
    assert main(["build", str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--faces", "insightface"]) == 1
    assert "insightface-cli model.download buffalo_l" in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "half" / "w.onnx").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(MissingModel, match="cannot be read as ONNX"):
        face_models.embedder(f"insightface:{tmp_path / 'half'}")


def test_a_pack_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pack(tmp_path / ".insightface" / "models" / "buffalo_l")
    about = face_models.embedder("insightface")
    assert about.name == "buffalo_l" and "non-commercial" in about.license
    assert about == face_models.embedder("insightface:buffalo_l") == face_models.load("insightface").embedder


def test_the_digest_is_that_of_the_files_that_are_used(tmp_path):
    pack = write_pack(tmp_path / "pack")
    before = face_models.embedder(f"insightface:{pack}").sha256
    shutil.copy(pack / "det_markers.onnx", pack / "zzz_unused.onnx")
    assert face_models.embedder(f"insightface:{pack}").sha256 == before
    other = write_pack(tmp_path / "other")
    write_embedder(other / "w_markers.onnx", dimensions=32)
    assert face_models.embedder(f"insightface:{other}").sha256 != before


def test_devices():
    assert onnx_runtime.providers("cpu") == [("CPUExecutionProvider", {})]
    for wrong in ("gpu", "cuda:x", "cpu:1"):
        with pytest.raises(WrongUsage, match="auto, cpu, cuda or cuda:N"):
            onnx_runtime.providers(wrong)
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(Failure, match="onnxruntime-gpu"):
            onnx_runtime.providers("cuda")
        assert onnx_runtime.providers("auto") == onnx_runtime.providers("cpu")


def test_a_dataset_of_markers_from_pictures_to_a_clean_verify(tmp_path, capsys):
    pack = write_pack(tmp_path / "pack")
    people, photos = [f"person-{n}" for n in range(6)], tmp_path / "photos"
    photos.mkdir()
    for name in people:
        for take in ("one", "two"):
            PIL.Image.fromarray(picture(400, 400, (name, 120, 130, 120, take))).save(photos / f"{name}-{take}.png")
    for n in range(6):
        pair = [(people[(n + step) % 6], 60 + 300 * step, 100, 130, f"party-{n}") for step in range(2)]
        PIL.Image.fromarray(picture(640, 400, *pair)).save(photos / f"party-{n}.png")
    out = tmp_path / "out"
    build = ["build", str(photos), "--output", str(out), "--faces", f"insightface:{pack}", "--device", "cpu",
             "--val-fraction", "0"]
    assert main(build) == 0, capsys.readouterr().err
    about = json.loads((out / "dataset.json").read_text())
    assert about["models"]["faces"]["backend"] == "insightface" and "non-commercial" in about["models"]["faces"]["license"]
    assert "non-commercial" in (out / "README.md").read_text()
    assert not [path for path in out.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    samples = [row for shard in out.glob("refs-*/*.parquet") for row in pq.read_table(shard).to_pylist()]
    assert len(samples) == 6
    for sample in samples:
        number = int(sample["target"]["uri"].removesuffix(".png").split("-")[1])
        for one in sample["references"]:
            x = one["target_face_box"][0]
            assert one["uri"].startswith(people[(number + (x > 200)) % 6])
    assert main(["verify", str(out), "--deep", "--faces", f"insightface:{pack}"]) == 0, capsys.readouterr().out
    other = write_pack(tmp_path / "other")
    write_embedder(other / "w_markers.onnx", dimensions=32)
    assert main(["verify", str(out), "--deep", "--faces", f"insightface:{other}"]) == 1
    assert "not that of the model that is installed" in capsys.readouterr().out
    assert main(["verify", str(out), "--deep"]) == 1 and "say so by --faces" in capsys.readouterr().err
