"""A finished dataset as ready batches for `torch.utils.data.DataLoader`, with the keys of UNO's and UMO's trainers.

    batches = dataset("OUT", batch_size=4, repeat=True)
    for batch in torch.utils.data.DataLoader(batches, batch_size=None, num_workers=4):
        batch["img"], batch["txt"], batch["ref_imgs"]

"UNO" below is `uno/dataset/uno.py` of bytedance/UNO (d305981), read and written anew. A batch holds one reference
count and one aspect bucket of the target. Targets are resized to their bucket without cropping, as in UNO: stretched by
as much as their aspect is off, 1.16 times at most from 1:3 to 3:1. References share a bucket per slot, as in UNO, but
are fitted into it whole and padded with white: a head keeps its proportions and no face is cut.
`reference_fit="stretch"` is UNO's own way."""
from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import PIL.Image

from transforms import digests
from transforms.failure import Failure
from transforms.parts import filesystem, get, join

if TYPE_CHECKING:
    import torch
    from torch.utils.data import IterableDataset

    class Base(IterableDataset["Batch"]):
        """What DataLoader knows a stream by."""
else:
    try:
        import torch
        from torch.utils.data import IterableDataset as Base
    except ImportError:  # an installation without the extra: `dataset` says so
        torch, Base = None, object

BUCKETS = ((256, 768), (320, 768), (320, 704), (384, 640), (448, 576), (512, 512),
           (576, 448), (640, 384), (704, 320), (768, 320), (768, 256))
"""(height, width) at resolution 512: UNO's, height / width from 1/3 to 3."""
STEP = 16
"""Sides are multiples of it: FLUX's autoencoder halves three times, its transformer takes latents two by two (UNO)."""
RESOLUTION = 512
"""Of the target (UNO's `resolution`)."""
RESOLUTION_OF_REFERENCES = {1: 512}
"""References -> their resolution in UNO; any other count has RESOLUTION_OF_SEVERAL."""
RESOLUTION_OF_SEVERAL = 320
SHUFFLE_BUFFER = 256
"""Samples, still encoded, that a worker draws from: about 100 MB at 0.4 MB a sample (two references, default sizes)."""
WHITE = (255, 255, 255)

Fit = Literal["pad", "stretch"]
Size = tuple[int, int]
"""(height, width) in pixels."""


class Batch(TypedDict):
    """What the iterable gives. B samples of N references each."""

    img: torch.Tensor
    """float32 [B, 3, H, W] in [-1, 1], RGB: the targets."""
    txt: list[str]
    """B prompts."""
    ref_imgs: list[torch.Tensor]
    """N tensors float32 [B, 3, h, w] in [-1, 1], in the order of the JSON's references; slots may differ in h, w."""
    meta: list[dict[str, Any]]
    """B times the sample's JSON (contract, section 4). Its boxes are in pixels of the members as they are stored."""
    target_faces: list[torch.Tensor]
    """B tensors float16 [K, D]: embeddings of all faces of the target by ascending x0. K is the face count."""
    ref_faces: list[torch.Tensor]
    """B tensors float16 [N, D]."""


@dataclass(frozen=True)
class Stored:
    """A sample as it lies in its shard."""

    members: dict[str, bytes]
    """Name without the key -> content: `json`, `npz`, `ref_1.jpg` …, `target.jpg`, `txt`."""
    about: dict[str, Any] = field(repr=False)
    """The JSON, read."""

    @property
    def references(self) -> int:
        return len(self.about["references"])


@dataclass(frozen=True)
class Stretch:
    """Consecutive samples of a shard."""

    path: str
    """Relative to the dataset, without extension."""
    start: int
    stop: int


def buckets(resolution: int) -> list[Size]:
    """UNO's eleven, scaled from 512 and rounded down to multiples of 16."""
    return [(int(height / 512 * resolution) // STEP * STEP, int(width / 512 * resolution) // STEP * STEP)
            for height, width in BUCKETS]


def nearest_bucket(aspect: float, resolution: int) -> Size:
    """The bucket whose height / width is nearest to `aspect`; the first of equals, as UNO takes it."""
    return min(buckets(resolution), key=lambda size: abs(size[0] / size[1] - aspect))


def placement(width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """(left, top, width, height) of a picture fitted whole into the middle of `size`, for whoever maps boxes."""
    scale = min(size[0] / height, size[1] / width)
    fitted = max(1, round(width * scale)), max(1, round(height * scale))
    return (size[1] - fitted[0]) // 2, (size[0] - fitted[1]) // 2, *fitted


def pixels(picture: PIL.Image.Image, size: Size, fit: Fit) -> np.ndarray:
    """uint8 [h, w, 3] of exactly `size`. Bilinear with antialiasing, UNO's choice too."""
    left, top, width, height = placement(*picture.size, size) if fit == "pad" else (0, 0, size[1], size[0])
    resized = picture.convert("RGB").resize((width, height), PIL.Image.Resampling.BILINEAR)
    if (height, width) == size:
        return np.asarray(resized)
    canvas = PIL.Image.new("RGB", (size[1], size[0]), WHITE)
    canvas.paste(resized, (left, top))
    return np.asarray(canvas)


def deal(shards: Sequence[tuple[str, int]], consumer: int, consumers: int) -> list[Stretch]:
    """The part of one consumer of `consumers`: an equal run of all samples, as if the shards stood in one row.

    `shards`: (path, samples). Each sample has one consumer, shares differ by one sample at most, all but a few shards
    are read by one consumer alone, and nobody goes without where there are fewer shards than consumers."""
    total = sum(samples for _, samples in shards)
    first, last = total * consumer // consumers, total * (consumer + 1) // consumers
    stretches, offset = [], 0
    for path, samples in shards:
        start, stop = max(first - offset, 0), min(last - offset, samples)
        if start < stop:
            stretches.append(Stretch(path, start, stop))
        offset += samples
    return stretches


def read_stretch(output: str, stretch: Stretch) -> Iterator[Stored]:
    """The samples of a stretch in the shard's order; what stands before is passed over, not read. Raises Failure."""
    url = join(output, f"{stretch.path}.tar")
    fs, path = filesystem(url)
    found = 0
    try:
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            by_key = itertools.groupby(tar, key=lambda member: member.name.partition(".")[0])  # keys hold no dots
            for _, members in itertools.islice(by_key, stretch.start, stretch.stop):
                contents = {member.name.partition(".")[2]: _content(tar, member) for member in members}
                if "txt" not in contents:  # the last member of a sample
                    break
                found += 1
                yield Stored(contents, json.loads(contents["json"]))
    except FileNotFoundError:
        raise Failure(f"{url} is not there, though dataset.json names it: copy the dataset again") from None
    except tarfile.ReadError as error:
        raise Failure(f"{url} is cut ({error}): copy the dataset again") from None
    if found != stretch.stop - stretch.start:
        raise Failure(f"{url} ends before the samples that dataset.json counts: copy the dataset again")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""  # None for what is no file


def shuffled(samples: Iterable[Stored], size: int, random: np.random.Generator) -> Iterator[Stored]:
    """The samples in an order drawn from a buffer of `size`."""
    buffer: list[Stored] = []
    for sample in samples:
        buffer.append(sample)
        if len(buffer) > size:
            at = int(random.integers(len(buffer)))
            buffer[at], buffer[-1] = buffer[-1], buffer[at]
            yield buffer.pop()
    for at in random.permutation(len(buffer)):
        yield buffer[at]


def target_bucket(sample: Stored, resolution: int) -> Size:
    """The bucket of a sample's target, from its JSON."""
    target = sample.about["target"]
    return nearest_bucket(target["height"] / target["width"], resolution)


def collate(samples: Sequence[Stored], resolution: int, ref_resolution: int | None, fit: Fit) -> Batch:
    """A batch of samples that have one reference count and one target bucket.

    A slot's references take the bucket nearest to their mean height / width, as in UNO."""
    count = samples[0].references
    if ref_resolution is None:
        ref_resolution = RESOLUTION_OF_REFERENCES.get(count, RESOLUTION_OF_SEVERAL)
    arrays = [np.load(io.BytesIO(sample.members["npz"]), allow_pickle=False) for sample in samples]
    slots = []
    for number in range(1, count + 1):
        pictures = [_picture(sample, f"ref_{number}.jpg") for sample in samples]
        mean = float(np.mean([picture.height / picture.width for picture in pictures]))
        slots.append(_stack(pictures, nearest_bucket(mean, ref_resolution), fit))
    targets = [_picture(sample, "target.jpg") for sample in samples]
    return {
        "img": _stack(targets, target_bucket(samples[0], resolution), "stretch"),
        "txt": [sample.members["txt"].decode() for sample in samples],
        "ref_imgs": slots,
        "meta": [sample.about for sample in samples],
        "target_faces": [torch.from_numpy(one["target"]) for one in arrays],
        "ref_faces": [torch.from_numpy(one["refs"]) for one in arrays],
    }


def _picture(sample: Stored, member: str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(sample.members[member]))


def _stack(pictures: Sequence[PIL.Image.Image], size: Size, fit: Fit) -> torch.Tensor:
    """float32 [B, 3, h, w] in [-1, 1]."""
    stacked = np.stack([pixels(picture, size, fit) for picture in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)


class Batches(Base):
    """An IterableDataset of ready batches: give it to a DataLoader with `batch_size=None`. Made by `dataset`."""

    def __init__(self, output: str, shards: Sequence[tuple[str, int]], *, batch_size: int, resolution: int,
                 ref_resolution: int | None, reference_fit: Fit, shuffle: bool, shuffle_buffer: int, seed: int,
                 drop_last: bool, repeat: bool, rank: int, world_size: int) -> None:
        super().__init__()
        self.output, self.shards = output, tuple(shards)
        self.batch_size, self.resolution, self.ref_resolution = batch_size, resolution, ref_resolution
        self.reference_fit, self.shuffle, self.shuffle_buffer, self.seed = reference_fit, shuffle, shuffle_buffer, seed
        self.drop_last, self.repeat, self.rank, self.world_size = drop_last, repeat, rank, world_size
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that persist see what set_epoch says

    @property
    def samples(self) -> int:
        """How many samples an epoch holds, of all ranks together."""
        return sum(samples for _, samples in self.shards)

    def set_epoch(self, epoch: int) -> None:
        """Which order the next pass takes (or, with `repeat`, begins with). Without, every pass has the same order."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        workers = worker.num_workers if worker else 1
        consumer, consumers = self.rank * workers + (worker.id if worker else 0), self.world_size * workers
        waiting: dict[tuple[int, Size], list[Stored]] = {}
        for sample in self._samples(consumer, consumers):
            kind = sample.references, target_bucket(sample, self.resolution)
            together = waiting.setdefault(kind, [])
            together.append(sample)
            if len(together) == self.batch_size:
                yield self._collate(waiting.pop(kind))
        if not self.drop_last:
            for kind in sorted(waiting):
                yield self._collate(waiting[kind])

    def _collate(self, samples: list[Stored]) -> Batch:
        return collate(samples, self.resolution, self.ref_resolution, self.reference_fit)

    def _samples(self, consumer: int, consumers: int) -> Iterator[Stored]:
        """What one consumer sees: an epoch, or with `repeat` one after the other without an end."""
        if not deal(self.shards, consumer, consumers):
            return  # fewer samples than consumers: with `repeat` it would look for ever
        for epoch in itertools.count(int(self._epoch)):
            yield from self._one_epoch(epoch, consumer, consumers)
            if not self.repeat:
                return

    def _one_epoch(self, epoch: int, consumer: int, consumers: int) -> Iterator[Stored]:
        if not self.shuffle:
            yield from self._read(deal(self.shards, consumer, consumers))
            return
        # all consumers draw the same order of shards, each its own of samples
        order = digests.generator("shards", self.seed, epoch).permutation(len(self.shards))
        stretches = deal([self.shards[at] for at in order], consumer, consumers)
        random = digests.generator("samples", self.seed, epoch, consumer, consumers)
        yield from shuffled(self._read(stretches), self.shuffle_buffer, random)

    def _read(self, stretches: Iterable[Stretch]) -> Iterator[Stored]:
        for stretch in stretches:
            yield from read_stretch(self.output, stretch)


def dataset(output: str, *, split: str = "train", configs: Sequence[int] | None = None, batch_size: int = 1,
            resolution: int = RESOLUTION, ref_resolution: int | None = None, reference_fit: Fit = "pad",
            shuffle: bool = True, shuffle_buffer: int = SHUFFLE_BUFFER, seed: int = 0, drop_last: bool = False,
            repeat: bool = False, rank: int | None = None, world_size: int | None = None) -> Batches:
    """The samples of a finished dataset as batches. `output`: URL or path of OUT.

    `configs`: reference counts to take; default: all. `resolution`, `ref_resolution`: of targets and of references;
    default: UNO's, 512, and for references 512 for one, 320 for several. `reference_fit`: "pad" with white, or
    "stretch" as UNO does. `drop_last`: leave out what fills no batch at the end of a pass; default: it comes as smaller
    batches. `repeat`: epoch after epoch without an end; what fills no batch waits for the next epoch. Ranks may have
    different numbers of batches in an epoch, since a batch holds one bucket, and ranks in step wait for ever for one
    that has ended: with several, use `repeat` and count steps. `rank`, `world_size`: default: torch.distributed's where
    it is initialised, else torchrun's environment, else alone.
    The same arguments, epoch and number of workers give the same batches. Raises Failure where nothing fits."""
    if torch is None:
        raise Failure("the loader needs torch: pip install umo-dataset[train]")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: at least 1")
    if reference_fit not in ("pad", "stretch"):
        raise ValueError(f"reference_fit is {reference_fit!r}: 'pad' or 'stretch'")
    rank, world_size = _place(rank, world_size)
    return Batches(output, _shards(output, split, configs, world_size), batch_size=batch_size, resolution=resolution,
                   ref_resolution=ref_resolution, reference_fit=reference_fit, shuffle=shuffle,
                   shuffle_buffer=shuffle_buffer, seed=seed, drop_last=drop_last, repeat=repeat, rank=rank,
                   world_size=world_size)


def _shards(output: str, split: str, configs: Sequence[int] | None, world_size: int) -> list[tuple[str, int]]:
    """(path, samples) of the shards asked for. Raises Failure where they do not go round."""
    try:
        about = json.loads(get(join(output, "dataset.json")))  # `pipeline.dataset` imports Beam: no trainer needs it
    except FileNotFoundError:
        raise Failure(f"{output} holds no dataset.json: it is no finished dataset") from None
    shards = [(shard["path"], shard["samples"]) for shard in about["shards"]
              if shard["split"] == split and (configs is None or shard["references"] in configs)]
    samples = sum(samples for _, samples in shards)
    if samples < world_size:
        there = ", ".join(f"{count} of {name}" for name, count in about["counts"]["by_config_and_split"].items())
        wanted = "all configs" if configs is None else ", ".join(f"refs-{count}" for count in sorted(configs))
        raise Failure(f"{output} holds {samples} samples of {wanted}, split {split}, for {world_size} processes: "
                      f"there are {there or 'none at all'}")
    return shards


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world size) of this process: as given, torch.distributed's, torchrun's, or alone."""
    if (rank is None) != (world_size is None):
        raise ValueError(f"rank is {rank} and world_size {world_size}: give both or neither")
    if rank is None or world_size is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        else:
            rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank} of world_size {world_size}: 0 to {world_size - 1}")
    return rank, world_size
