"""Buckets, shares and batches, against what UNO's trainer makes of the same pictures."""
from __future__ import annotations

import io
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import loader
from pipeline.loader import Stored, Stretch, buckets, deal, nearest_bucket, placement, read_stretch, shuffled
from tests.builders import drawn_photo
from tests.test_reading import TRAINING, keys, make_dataset
from transforms import digests, pictures
from transforms.failure import Failure
from transforms.shards import npz, write_members


def test_buckets_are_unos() -> None:
    assert buckets(512) == list(loader.BUCKETS)
    assert buckets(320) == [(160, 480), (192, 480), (192, 432), (240, 400), (272, 352), (320, 320),
                            (352, 272), (400, 240), (432, 192), (480, 192), (480, 160)]
    assert all(side % 16 == 0 for resolution in (320, 384, 512, 768) for size in buckets(resolution) for side in size)


@pytest.mark.parametrize(("height", "width", "bucket"), [
    (512, 512, (512, 512)), (683, 1024, (384, 640)), (1024, 683, (640, 384)), (768, 1024, (448, 576)),
    (100, 1000, (256, 768)), (1000, 100, (768, 256)), (1, 1, (512, 512))])
def test_nearest_bucket(height: int, width: int, bucket: tuple[int, int]) -> None:
    assert nearest_bucket(height / width, 512) == bucket


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(buckets(320)))
def test_a_fitted_picture_is_whole_and_in_proportion(width: int, height: int, size: tuple[int, int]) -> None:
    left, top, fitted_width, fitted_height = placement(width, height, size)
    assert left >= 0 and top >= 0 and left + fitted_width <= size[1] and top + fitted_height <= size[0]
    assert fitted_width == size[1] or fitted_height == size[0]
    scale = min(size[1] / width, size[0] / height)
    assert abs(fitted_width - max(1, width * scale)) <= 0.5 and abs(fitted_height - max(1, height * scale)) <= 0.5


def test_padding_is_white_and_cuts_nothing() -> None:
    picture = PIL.Image.new("RGB", (40, 20), "blue")
    padded = loader.pixels(picture, (64, 64), "pad")
    left, top, width, height = placement(40, 20, (64, 64))
    inside = np.zeros((64, 64), bool)
    inside[top:top + height, left:left + width] = True
    assert (padded[inside] == (0, 0, 255)).all() and (padded[~inside] == 255).all() and (~inside).any()
    assert (loader.pixels(picture, (64, 64), "stretch") == (0, 0, 255)).all()


@given(st.lists(st.integers(1, 9), min_size=0, max_size=8), st.integers(1, 12))
def test_every_sample_has_one_consumer_and_shares_are_equal(sizes: list[int], consumers: int) -> None:
    shards = [(f"refs-2/train-{number:06d}", size) for number, size in enumerate(sizes)]
    shares = [[(one.path, at) for one in deal(shards, consumer, consumers) for at in range(one.start, one.stop)]
              for consumer in range(consumers)]
    assert [one for share in shares for one in share] == [(path, at) for path, size in shards for at in range(size)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_as_many_equal_shards_as_consumers_are_read_whole() -> None:
    shards = [(f"refs-2/train-{number:06d}", 5) for number in range(4)]
    assert [deal(shards, consumer, 4) for consumer in range(4)] == [[Stretch(path, 0, 5)] for path, _ in shards]


def stored(key: str, target: tuple[int, int], references: Sequence[tuple[int, int]], prompt: str = "") -> Stored:
    """A sample of drawn pictures; sizes are (height, width)."""
    def jpeg(name: str, size: tuple[int, int]) -> bytes:
        return pictures.encode(drawn_photo(key, name, height=size[0], width=size[1]))

    about = {"key": key, "target": {"height": target[0], "width": target[1]}, "references": [{} for _ in references]}
    faces = np.ones((len(references), 4), np.float16)
    members = {"json": json.dumps(about).encode(), "npz": npz(target=faces * 0, refs=faces),
               **{f"ref_{number}.jpg": jpeg(f"ref_{number}", size) for number, size in enumerate(references, 1)},
               "target.jpg": jpeg("target", target), "txt": prompt.encode()}
    return Stored(members, about)


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 5))
def test_shuffling_keeps_every_sample(count: int, size: int, seed: int) -> None:
    samples = [Stored({}, {"key": number}) for number in range(count)]
    orders = [[one.about["key"] for one in shuffled(samples, size, digests.generator(seed))] for _ in range(2)]
    assert orders[0] == orders[1] and sorted(orders[0]) == list(range(count))


def shard_of(samples: Sequence[Stored]) -> bytes:
    file = io.BytesIO()
    write_members(file, [(f"{one.about['key']}.{name}", data) for one in samples for name, data in one.members.items()])
    return file.getvalue()


def test_a_stretch_is_read_without_what_stands_around_it(tmp_path: Path) -> None:
    samples = [stored(f"{number:032x}", (20, 30), [(10, 8)] * 2) for number in range(5)]
    (tmp_path / "shard.tar").write_bytes(shard_of(samples))
    for start, stop in ((0, 5), (0, 1), (2, 4), (4, 5)):
        assert list(read_stretch(str(tmp_path), Stretch("shard", start, stop))) == samples[start:stop]


def test_a_cut_shard_is_named(tmp_path: Path) -> None:
    data = shard_of([stored(f"{number:032x}", (20, 30), [(10, 8)] * 2) for number in range(3)])
    with pytest.raises(Failure, match=r"shard\.tar is not there.*copy the dataset again"):
        list(read_stretch(str(tmp_path), Stretch("shard", 0, 3)))
    for length in (0, 100, 512, 2048, len(data) // 2, len(data) // 2 + 512):
        (tmp_path / "shard.tar").write_bytes(data[:length])
        with pytest.raises(Failure, match=r"shard\.tar (is cut|ends before).*copy the dataset again"):
            list(read_stretch(str(tmp_path), Stretch("shard", 0, 3)))


def unos_batch(samples: Sequence[Stored], resolution: int, ref_resolution: int) -> tuple[Any, list[Any]]:
    """(img, ref_imgs) as `FluxPairedDatasetV2` makes them: to [-1, 1], then the bucket nearest the mean aspect."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.functional")

    def together(member: str, size: int) -> Any:
        read = [PIL.Image.open(io.BytesIO(one.members[member])) for one in samples]
        tensors = [functional.normalize(functional.to_tensor(picture), [0.5], [0.5]) for picture in read]
        mean = np.mean([tensor.shape[1] / tensor.shape[2] for tensor in tensors])
        sizes = [(int(height / 512 * size) // 16 * 16, int(width / 512 * size) // 16 * 16)
                 for height, width in loader.BUCKETS]
        bucket = sizes[int(np.argmin([abs(height / width - mean) for height, width in sizes]))]
        return torch.stack([functional.resize(tensor, bucket) for tensor in tensors])

    return together("target.jpg", resolution), [together(f"ref_{number}.jpg", ref_resolution)
                                                for number in range(1, samples[0].references + 1)]


@pytest.mark.parametrize("references", [1, 2])
def test_stretched_batches_are_unos(references: int) -> None:
    torch = pytest.importorskip("torch")
    samples = [stored("a", (683, 1024), [(640, 500), (400, 640)][:references], "A"),
               stored("b", (700, 1024), [(600, 600), (300, 640)][:references], "B")]
    batch = loader.collate(samples, 512, None, "stretch")
    img, ref_imgs = unos_batch(samples, 512, 512 if references == 1 else 320)
    assert batch["txt"] == ["A", "B"] and len(batch["ref_imgs"]) == references
    for ours, unos in zip([batch["img"], *batch["ref_imgs"]], [img, *ref_imgs], strict=True):
        assert ours.shape == unos.shape and ours.dtype == torch.float32
        assert (ours - unos).abs().max() <= 2 / 127.5  # ours is resized in 8 bits, twice rounded; UNO's in floats
        assert (ours - unos).abs().mean() <= 0.5 / 127.5


def test_padded_references_have_unos_shapes_and_whole_faces() -> None:
    pytest.importorskip("torch")
    samples = [stored("a", (512, 512), [(640, 500)]), stored("b", (512, 512), [(320, 640)])]
    batch = loader.collate(samples, 512, None, "pad")
    _, (unos,) = unos_batch(samples, 512, 512)
    assert batch["ref_imgs"][0].shape == unos.shape
    for at, (height, width) in enumerate([(640, 500), (320, 640)]):
        left, top, fitted_width, fitted_height = placement(width, height, tuple(unos.shape[2:]))
        pixels = batch["ref_imgs"][0][at]
        around = pixels.clone()
        around[:, top:top + fitted_height, left:left + fitted_width] = 1
        assert (around == 1).all() and (pixels != 1).any()


def test_arrays_come_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    batch = loader.collate([stored("a", (20, 20), [(10, 10)] * 3)], 64, 32, "pad")
    assert batch["target_faces"][0].dtype == torch.float16 and batch["target_faces"][0].shape == (3, 4)
    assert batch["ref_faces"][0].tolist() == [[1.0] * 4] * 3


def test_a_url_is_read_like_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    make_dataset(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/loader", recursive=True)
    try:
        assert sorted(keys(loader.dataset("memory://loader", resolution=96, ref_resolution=64))) == TRAINING
    finally:
        memory.rm("/loader", recursive=True)


def test_spawned_workers_read_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    make_dataset(tmp_path)
    read = torch.utils.data.DataLoader(loader.dataset(str(tmp_path), resolution=96, ref_resolution=64), batch_size=None,
                                       num_workers=1, multiprocessing_context=multiprocessing.get_context("spawn"))
    assert sorted(keys(read)) == TRAINING


def test_the_rank_is_given_or_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    make_dataset(tmp_path)

    def place(**given: int) -> tuple[int, int]:
        made = loader.dataset(str(tmp_path), **given)  # type: ignore[arg-type]
        return made.rank, made.world_size

    assert place() == (0, 1) and place(rank=1, world_size=3) == (1, 3)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert place() == (2, 4) and place(rank=1, world_size=3) == (1, 3)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 5)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 6)
    assert place() == (5, 6)
    with pytest.raises(ValueError, match="rank is 1 and world_size None"):
        place(rank=1)
    with pytest.raises(ValueError, match="rank is 3 of world_size 3"):
        place(rank=3, world_size=3)


def test_what_cannot_be_given_says_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(Failure, match=r"holds no dataset\.json"):
        loader.dataset(str(tmp_path))
    make_dataset(tmp_path)
    with pytest.raises(Failure, match="0 samples of all configs, split test, for 1 .*: there are 12 of refs-2/train"):
        loader.dataset(str(tmp_path), split="test")
    with pytest.raises(Failure, match="0 samples of refs-4, refs-7, split train"):
        loader.dataset(str(tmp_path), configs=[7, 4])
    with pytest.raises(Failure, match="1 samples of all configs, split val, for 2 processes"):
        loader.dataset(str(tmp_path), split="val", rank=0, world_size=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        loader.dataset(str(tmp_path), batch_size=0)
    with pytest.raises(ValueError, match="reference_fit is 'crop'"):
        loader.dataset(str(tmp_path), reference_fit="crop")  # type: ignore[arg-type]


def test_without_torch_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "torch", None)
    with pytest.raises(Failure, match=r"needs torch: pip install umo-dataset\[train\]"):
        loader.dataset(str(tmp_path))
