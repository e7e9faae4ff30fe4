"""How fast `write` is beside a bare loop that makes the same calls.

    python -m benchmarks.write [--people 60] [--targets 960]

Baseline: the decode, resize, JPEG and tarfile calls of the same samples, in as many threads as there are cores, with nothing of
ours between them: no Beam, no ledger, no checks, no Parquet. Ratio: samples a second of `write` over the loop's, each the
best of four runs, taken in turn. The photos are drawn, 1600 x 1000 pixels."""
from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image

from pipeline import stages
from pipeline.stages import RunOptions
from schemas.sample import Sample, from_row
from tests.builders import make_workdir, party
from transforms.cluster import ClusterOptions
from transforms.crops import MAX_UPSCALE, CropOptions
from transforms.pair import PairOptions
from transforms.parts import Parts
from transforms.write import WriteOptions

OPTIONS, CROPS, RUN = WriteOptions(), CropOptions(), RunOptions()
SCALE = 5


def load(root: str, uri: str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(Path(root, uri).read_bytes())).convert("RGB")


def save(picture: PIL.Image.Image, longest: int, most: float) -> bytes:
    scale = min(longest / max(picture.size), most)
    size = (max(1, round(picture.size[0] * scale)), max(1, round(picture.size[1] * scale)))
    buffer = io.BytesIO()
    picture.resize(size, PIL.Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def pictures_of(sample: Sample) -> list[bytes]:
    """One sample's JPEGs by Pillow alone."""
    made = [save(load(sample.target.root, sample.target.uri), OPTIONS.target_size, 1.0)]
    for one in sample.references:
        x0, y0, x1, y1 = (int(value) for value in one.crop)
        made.append(save(load(one.root, one.uri).crop((x0, y0, x1, y1)), CROPS.ref_size, MAX_UPSCALE))
    return made


def loop(samples: list[Sample], path: Path) -> None:
    """The baseline."""
    with ThreadPoolExecutor(os.cpu_count()) as threads, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, made in zip(samples, threads.map(pictures_of, samples), strict=True):
            for number, data in enumerate(made):
                info = tarfile.TarInfo(f"{sample.key}.{number}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=60, help="default: %(default)s")
    parser.add_argument("--targets", type=int, default=960, help="default: %(default)s")
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workdir = make_workdir(Path(folder), party(values.people, values.targets), photos_a_part=64, scale=SCALE)
        stages.cluster(workdir, ClusterOptions(), RUN)
        stages.pair(workdir, PairOptions(), RUN)
        samples = [from_row(row) for part in Parts(workdir, "samples").parts()
                   for row in Parts(workdir, "samples").read(part).to_pylist()]
        took: dict[str, list[float]] = {"loop": [], "write": []}
        for turn in range(4):
            took["loop"].append(seconds(lambda: loop(samples, Path(folder, f"{turn}.tar"))))  # noqa: B023
            took["write"].append(seconds(lambda: stages.write(workdir, f"{folder}/out-{turn}", OPTIONS, RUN)))  # noqa: B023
    rate = {way: len(samples) / min(runs) for way, runs in took.items()}
    print(f"{len(samples)} samples, {os.cpu_count()} cores\n"
          f"bare loop   {rate['loop']:.1f} samples/s\n"
          f"write       {rate['write']:.1f} samples/s\n"
          f"ratio       {rate['write'] / rate['loop']:.2f}")


if __name__ == "__main__":
    main()
