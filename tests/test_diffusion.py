"""Real diffusers pipelines with random weights: found, told from others, loaded and asked for pictures."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("diffusers", reason="needs pip install 'umo-dataset[generate]'")
import torch

from schemas.picture import Picture
from tests import diffusers_weights
from transforms.diffusion import DiffusionOptions, find_for_pictures, find_for_words
from transforms.face_models import MissingModel
from transforms.failure import Failure, WrongUsage
from transforms.painter import Painter, batches, side_by_side
from transforms.sittings import asked

OPTIONS = DiffusionOptions(generate_steps=2, generate_batch=3)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with diffusers_weights.one_thread():
        yield


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> str:
    return diffusers_weights.pipeline(tmp_path_factory.mktemp("models") / "words")


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> str:
    return diffusers_weights.pipeline(tmp_path_factory.mktemp("models") / "shown", shown=True, seed=1)


@pytest.fixture(scope="module")
def painter(words) -> Painter:
    return Painter(words, OPTIONS, "cpu", given=False)


def wanted(prompt: str = "a b", size: tuple[int, int] = (64, 64), given: tuple[str, ...] = (), seed: object = 0) -> Picture:
    return asked(prompt, (prompt,), "", 2, size, given, seed)


def paint(painter: Painter, some: list[Picture], given: list[PIL.Image.Image] | None = None) -> dict[str, np.ndarray]:
    return {one.key: np.asarray(picture).astype(int) for one, picture in painter.paint(some, [given or []] * len(some))}


def photos(count: int) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(diffusers_weights.noise(seed)) for seed in range(count)]


def test_a_batch_is_of_one_size_and_no_longer_than_it_may_be():
    sizes = [(64, 64), (64, 64), (96, 64), (64, 64), (64, 64), (96, 64)]
    some = [wanted(size=size) for size in sizes]
    assert batches([], 3) == [] and batches(some, 3) == [[0, 1, 3], [2, 5], [4]]
    assert batches([wanted(given=("key",)), *some[:2]], 3) == [[0], [1, 2]]  # alone where it is given something


def test_a_picture_is_the_same_again_and_its_neighbours_change_a_last_bit_at_most(painter, words):
    some = [wanted(f"a b {chr(97 + n)}", (96, 64) if n == 2 else (64, 64), seed=n) for n in range(5)]
    together = paint(painter, some)
    again = paint(Painter(words, OPTIONS, "cpu", given=False), some)
    assert [together[one.key].shape for one in some] == [(64, 96, 3) if n == 2 else (64, 64, 3) for n in range(5)]
    assert all((together[one.key] == again[one.key]).all() for one in some)
    for one in some:
        assert np.abs(paint(painter, [one])[one.key] - together[one.key]).max() <= 1


def test_seed_prompt_steps_and_guidance_make_the_picture(painter, words):
    one = wanted()
    picture = paint(painter, [one])[one.key]
    for other in (replace(one, seed=one.seed + 1), replace(one, prompt="q")):
        assert (paint(painter, [other])[one.key] != picture).mean() > 0.1
    for how in (replace(OPTIONS, generate_steps=3), replace(OPTIONS, generate_guidance=1.5)):
        assert (paint(Painter(words, how, "cpu", given=False), [one])[one.key] != picture).mean() > 0.1


def test_device_and_type_are_those_that_were_asked_for(painter, words):
    assert painter.device == "cpu" and painter.pipe.unet.dtype == torch.float32
    half = Painter(words, replace(OPTIONS, generate_dtype="bfloat16"), "auto", given=False)
    assert half.pipe.unet.dtype == half.pipe.vae.dtype == torch.bfloat16
    if not torch.cuda.is_available():
        with pytest.raises(Failure, match="say --device cpu"):
            Painter(words, OPTIONS, "cuda", given=False)


def test_a_pipeline_that_takes_one_picture_is_given_all_in_one(shown):
    painter = Painter("not used", replace(OPTIONS, image_model=shown), "cpu", given=True)
    one = wanted(given=("a", "b", "c"))
    picture = paint(painter, [one], photos(3))[one.key]
    assert picture.shape == (64, 64, 3) and (picture == paint(painter, [one], photos(3))[one.key]).all()
    assert (picture != paint(painter, [one], photos(2))[one.key]).mean() > 0.1


def test_the_default_models_kind_takes_a_list_of_pictures_and_few_steps(tmp_path):
    folder = diffusers_weights.klein(tmp_path / "klein")
    from_words = Painter(folder, DiffusionOptions(), "cpu", given=False)
    assert len(paint(from_words, [wanted(seed=0), wanted(seed=1)])) == 2 and from_words.pipe.num_timesteps == 4
    one, painter = wanted(given=("a", "b")), Painter(folder, DiffusionOptions(generate_steps=2), "cpu", given=True)
    picture = paint(painter, [one], photos(2))[one.key]
    assert picture.shape == (64, 64, 3) and painter.pipe.num_timesteps == 2
    assert (paint(painter, [one], photos(1))[one.key] != picture).any() and painter.weights == from_words.weights


def test_pictures_side_by_side_are_whole():
    colours = ["red", "green", "blue", "black", "yellow"]
    canvas = side_by_side([PIL.Image.new("RGB", (30, 30), colour) for colour in colours], 96, 64)
    assert canvas.size == (96, 64)
    seen = {colour: canvas.getpixel((16 + 32 * (n % 3), 16 + 32 * (n // 3))) for n, colour in enumerate(colours)}
    assert seen == {colour: PIL.ImageColor.getrgb(colour) for colour in colours}
    assert side_by_side([PIL.Image.new("RGB", (64, 64), "red")], 64, 64).getcolors() == [(64 * 64, (255, 0, 0))]


def test_an_adapter_gives_pictures_to_a_pipeline_from_words(words, tmp_path):
    adapter = diffusers_weights.ip_adapter(tmp_path, words)
    how = replace(OPTIONS, ip_adapter=adapter)
    painter, one = Painter(words, how, "cpu", given=True), wanted(given=("a", "b"))
    assert (paint(painter, [one], photos(2))[one.key] != paint(painter, [one], photos(1))[one.key]).mean() > 0.1
    assert painter.weights.name.startswith("words@") and "+adapter@" in painter.weights.name
    with pytest.raises(WrongUsage, match="pickled"):
        find_for_pictures(words, replace(how, ip_adapter=str(tmp_path / "adapter.bin")))
    with pytest.raises(MissingModel, match="there is no .*other.safetensors"):
        find_for_pictures(words, replace(how, ip_adapter=str(tmp_path / "other.safetensors")))
    (tmp_path / "image_encoder" / "model.safetensors").unlink()
    with pytest.raises(MissingModel, match="there is no .*image_encoder"):
        find_for_pictures(words, how)


def test_what_a_folder_holds_is_recorded(words, shown, tmp_path):
    first, other = find_for_words(words).weights, find_for_pictures("", DiffusionOptions(image_model=shown)).weights
    assert first.backend == "diffusers" and first.license == "made-up-licence" and len(first.sha256) == 64
    assert first.name == f"words@{first.sha256[:12]}" and first.named == f"diffusers:{first.name}"
    assert other.sha256 != first.sha256
    shutil.copytree(words, tmp_path / "words")
    assert find_for_words(str(tmp_path / "words")).weights == first  # wherever it lies
    (tmp_path / "words" / "README.md").unlink()
    assert find_for_words(str(tmp_path / "words")).weights.license == ""
    data = bytearray((tmp_path / "words/unet/diffusion_pytorch_model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "words/unet/diffusion_pytorch_model.safetensors").write_bytes(data)
    assert find_for_words(str(tmp_path / "words")).weights.sha256 != first.sha256


def test_what_the_hub_had_fetched_is_found_with_its_commit(words, tmp_path, monkeypatch):
    """As the hub's own package lays out its cache."""
    repository, commit = tmp_path / "models--someone--words", "3f" * 20
    shutil.copytree(words, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = find_for_words("someone/words")
    assert found.weights.name == f"someone/words@{commit}" and found.weights.license == "made-up-licence"
    assert paint(Painter("someone/words", OPTIONS, "cpu", given=False), [wanted()])
    (repository / "snapshots" / commit / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingModel, match=r"lacks .safetensors of its unet .*P.download\('someone/words'"):
        find_for_words("someone/words")


def test_what_is_missing_is_said_with_what_mends_it(words, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("someone/nothing", "/no/such/folder"):
        with pytest.raises(MissingModel, match=rf"no folder {name}.*python -c .*P.download\('{name}', use_safetensors=True\)"):
            find_for_words(name)
    with pytest.raises(MissingModel, match="black-forest-labs/FLUX.2-klein-4B"):
        find_for_words("")
    with pytest.raises(MissingModel, match="no model_index.json"):
        find_for_words(str(tmp_path))
    shutil.copytree(words, tmp_path / "words")
    shutil.rmtree(tmp_path / "words" / "scheduler")
    with pytest.raises(MissingModel, match="lacks its scheduler"):
        find_for_words(str(tmp_path / "words"))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingModel, match=r"needs diffusers: pip install 'umo-dataset\[generate\]'"):
        find_for_words(words)


def test_pickled_weights_are_not_read(words, tmp_path):
    shutil.copytree(words, tmp_path / "words")
    unet = tmp_path / "words" / "unet"
    torch.save({}, unet / "diffusion_pytorch_model.bin")
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingModel, match="pickled weights are not read"):
        find_for_words(str(tmp_path / "words"))


def test_a_pipeline_that_takes_words_alone_is_told_before_it_is_loaded(words):
    with pytest.raises(WrongUsage, match="takes words alone.*--image-model"):
        find_for_pictures(words, OPTIONS)


def test_a_pipeline_whose_code_is_not_diffusers_own_is_not_run(words, tmp_path):
    shutil.copytree(words, tmp_path / "words")
    index = tmp_path / "words" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "OmniGen2Pipeline"}))
    (tmp_path / "words" / "pipeline.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(Failure, match="OmniGen2Pipeline, which the installed diffusers does not have"):
        find_for_pictures(str(tmp_path / "words"), OPTIONS)
    with pytest.raises(Failure, match="cannot be loaded"):
        Painter(str(tmp_path / "words"), OPTIONS, "cpu", given=False)


def test_what_a_pipeline_raises_is_one_line(painter):
    with pytest.raises(Failure, match="^words@.* fails at 12 x 12: ValueError"):
        paint(painter, [wanted(size=(12, 12))])


def test_broken_weights_are_one_line(words, tmp_path):
    shutil.copytree(words, tmp_path / "words")
    (tmp_path / "words/vae/diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(Failure, match="cannot be loaded: "):
        Painter(str(tmp_path / "words"), OPTIONS, "cpu", given=False)


def test_the_command_needs_none_of_it_until_it_is_wanted(tmp_path):
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "diffusers", "transformers", "huggingface_hub", "cv2")))
from pipeline.cli import main
print(main(["build", "{tmp_path}", "--output", "{tmp_path}/a"]),
      main(["build", "x", "--output", "{tmp_path}/b", "--synthesize", "diffusers"]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "1 1\n", done.stderr
    assert "no pictures in" in done.stderr and "needs torch: pip install 'umo-dataset[generate]'" in done.stderr
