"""How much of ONNX Runtime's speed the insightface backend keeps, and how far it is ahead of `FaceAnalysis.get` in a loop.

    python -m benchmarks.faces_gpu [--device cuda] [--batches 1 4 16 64 256] [--seconds 10]

Weights are random, of the published shapes (`benchmarks.random_weights`); photos are drawn, with four faces each. Embedding
and detection: the backend's call, insightface's for one input at a time, and the bare session, arrays in and out. Whole: what
`extract` does to photos in this process, from JPEG to checked crops, beside a plain loop that looks at one photo at a time: the
same calls for JPEGs and crops, and `FaceAnalysis.get` for the photo and for each crop. Goals, which are meant for a GPU:
embedding >= 0.9 of the bare session's best, whole >= 5 x the loop. A batch of 256 pictures takes 19 GiB in the bare detector
(75 MiB a picture, measured on a CPU)."""
from __future__ import annotations

import argparse
import io
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import PIL.Image
from insightface.app import FaceAnalysis

from benchmarks.random_weights import DETECTOR, EMBEDDER, write_pack
from tests import insightface_weights
from transforms import face_models, pictures
from transforms.crops import rectangle, render
from transforms.examination import BATCH, Examined, ExamineOptions, InProcess
from transforms.face_models import insightface, onnx_runtime

PHOTOS = 32
"""Different ones, in turn; only their JPEGs are kept."""
WIDTH, HEIGHT, SIDE = 1600, 1066, 150
FACES = ((325, 191), (1125, 191), (325, 725), (1125, 725))
"""Upper left corners on a photo, far enough apart for the marker detector."""
GRAIN = 20
"""Levels of noise, with which a photo takes 0.5 MB."""
CHIP, INPUT = 112, 640
"""Pixels of the bare sessions' inputs. insightface shows each picture to the detector twice, in 640 and in 128."""


@dataclass(frozen=True)
class Plan:
    """The command's options."""

    device: str
    batches: Sequence[int]
    seconds: float


def photo(number: int) -> bytes:
    """A JPEG with four faces."""
    markers = [(f"{number}-{n}", x, y, SIDE) for n, (x, y) in enumerate(FACES)]
    pixels = insightface_weights.picture(WIDTH, HEIGHT, *markers)
    pixels[:, :, :2] += np.random.default_rng(number).integers(0, GRAIN, (HEIGHT, WIDTH, 2), np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def rate(work: Callable[[], object], units: int, seconds: float) -> float:
    """Units a second of work that does `units` a call, after one call that does not count."""
    work()
    start, done = time.monotonic(), 0
    while not done or time.monotonic() - start < seconds:
        work()
        done += units
    return done / (time.monotonic() - start)


def bare(path: Path, side: int, batches: Sequence[int], plan: Plan) -> dict[str, float]:
    """Inputs a second of the session alone."""
    session = onnxruntime.InferenceSession(str(path), providers=onnx_runtime.providers(plan.device))
    one = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    found = {}
    for batch in batches:
        feed = {session.get_inputs()[0].name: one.repeat(batch, axis=0)}
        found[f"bare session, batch {batch}"] = rate(lambda: session.run(None, feed), batch, plan.seconds)  # noqa: B023
    return found


def faces_of(examiner: InProcess) -> insightface.InsightFaces:
    assert isinstance(examiner.models.faces, insightface.InsightFaces)
    return examiner.models.faces


def embedding(pack: Path, ours: InProcess, theirs: FaceAnalysis, plan: Plan) -> None:
    """Print faces a second."""
    chips = list(np.random.default_rng(0).integers(0, 256, (insightface.EMBEDDING_BATCH, CHIP, CHIP, 3), np.uint8))
    rates = bare(pack / EMBEDDER, CHIP, plan.batches, plan)
    best = max(rates.values())
    rates["insightface, one at a time"] = rate(lambda: theirs.models["recognition"].get_feat(chips[0]), 1, plan.seconds)
    rates[f"ours, {len(chips)} at once"] = rate(lambda: list(faces_of(ours)._embed(chips)), len(chips), plan.seconds)
    show("embedding: faces/s, ratio to the bare session's best (goal: 0.9)", rates, best)


def detection(pack: Path, ours: InProcess, theirs: FaceAnalysis, batches: Sequence[int], plan: Plan) -> None:
    """Print pictures a second."""
    picture = np.ascontiguousarray(np.asarray(pictures.decode(photo(0), pictures.UNLIMITED))[:, :, ::-1])
    rates = bare(pack / DETECTOR, INPUT, batches, plan)
    best = max(rates.values())
    rates["insightface, one at a time"] = rate(lambda: theirs.det_model.detect(picture), 1, plan.seconds)
    rates[f"ours, {BATCH} at once"] = rate(lambda: faces_of(ours)._detect([picture] * BATCH), BATCH, plan.seconds)
    show(f"detection, {pack.name}: images/s, ratio to the bare session's best", rates, best)


def whole(ours: InProcess, photos: list[bytes], plan: Plan) -> float:
    """Photos a second of `InProcess.map`, its filling and draining included."""
    for one in ours.map(("warm", data) for data in photos[:BATCH]):
        assert isinstance(one, Examined) and len(one.faces) == len(one.crops) == len(FACES)
    start = time.monotonic()
    pieces = itertools.takewhile(lambda _: time.monotonic() - start < plan.seconds, zip(
        map(str, itertools.count()), itertools.cycle(photos), strict=False))
    done = sum(1 for _ in ours.map(pieces))
    return done / (time.monotonic() - start)


def examine_alone(theirs: FaceAnalysis, data: bytes, options: ExamineOptions) -> None:
    """The baseline: one photo, then its crops one by one."""
    picture = np.asarray(pictures.decode(data, options))
    faces = theirs.get(np.ascontiguousarray(picture[:, :, ::-1]))
    assert len(faces) == len(FACES)
    for face in faces:
        crop = rectangle(face.bbox, [other.bbox for other in faces if other is not face], WIDTH, HEIGHT, options)
        written = pictures.encode(render(picture, crop, options))
        seen = np.asarray(pictures.decode(written, pictures.UNLIMITED))
        assert len(theirs.get(np.ascontiguousarray(seen[:, :, ::-1]))) == 1


def show(title: str, rates: dict[str, float], baseline: float) -> None:
    print(title, *(f"  {name:<36}{value:10.2f}{value / baseline:8.2f}" for name, value in rates.items()), sep="\n", flush=True)


def where(session: onnxruntime.InferenceSession) -> str:
    """The provider that a session runs on, the GPU if that is one, and the cores."""
    provider = session.get_providers()[0]
    card = ""
    if provider == onnx_runtime.CUDA:
        number = session.get_provider_options()[provider]["device_id"]
        card = subprocess.run(["nvidia-smi", "-i", number, "--query-gpu=name", "--format=csv,noheader"],
                              capture_output=True, text=True, check=True).stdout.strip() + ", "
    return f"{provider}, {card}{os.cpu_count()} cores, ONNX Runtime {onnxruntime.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:N; default: a GPU if there is one")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256],
                        help="of the bare sessions; default: 1 4 16 64 256")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement, at least; default: %(default)s")
    plan = Plan(**vars(parser.parse_args()))
    photos = [photo(number) for number in range(PHOTOS)]
    with tempfile.TemporaryDirectory() as folder:
        published = write_pack(Path(folder, "detector of one picture"), batched=False)
        batched = write_pack(Path(folder, "detector of batches"), batched=True)
        options = ExamineOptions(faces=f"insightface:{published}", device=plan.device)
        ours, ours_batched = (InProcess(one, face_models.embedder(one.faces), None)
                              for one in (options, replace(options, faces=f"insightface:{batched}")))
        theirs = FaceAnalysis(str(published), providers=onnx_runtime.providers(plan.device))
        theirs.prepare(ctx_id=0)
        print(where(theirs.models["recognition"].session), flush=True)

        embedding(published, ours, theirs, plan)
        turns = itertools.cycle(photos)
        loop = rate(lambda: examine_alone(theirs, next(turns), options), 1, plan.seconds)
        rates = {"FaceAnalysis.get in a loop": loop, f"ours, {published.name}": whole(ours, photos, plan),
                 f"ours, {batched.name}": whole(ours_batched, photos, plan)}
        show("whole: images/s, ratio to the loop (goal: 5)", rates, loop)
        show("whole: faces/s", {name: value * len(FACES) for name, value in rates.items()}, loop * len(FACES))
        detection(published, ours, theirs, [1], plan)
        detection(batched, ours_batched, theirs, plan.batches, plan)


if __name__ == "__main__":
    main()
