"""People by ultralytics' YOLO, as boxes, or as boxes and outlines where the weights segment.

`ultralytics[:WEIGHTS]`: a path to a `.pt` file, or a file's name (`yolo11n-seg.pt` where none is given) that lies in the
working directory or where ultralytics keeps its weights. Nothing is fetched, installed or sent, nothing written but
ultralytics' own settings in the user's configuration folder, and weights that would run code when they are loaded are
refused. Every picture is fitted into the same square, whatever else is in its batch.

YOLO: Redmon et al., "You Only Look Once", CVPR 2016; YOLO11: Jocher and Qiu, 2024, github.com/ultralytics/ultralytics."""
from __future__ import annotations

import importlib.util
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from schemas.person import Person
from schemas.weights import Weights
from transforms import digests
from transforms.face_models import MissingModel
from transforms.failure import Failure, WrongUsage

WEIGHTS = "yolo11n-seg.pt"
"""The smallest of YOLO11's segmenting weights: 2.9 million parameters (the comment in ultralytics' yolo11-seg.yaml)."""
LICENSE = "AGPL-3.0 (https://ultralytics.com/license)"
"""Of weights that do not say (https://ultralytics.com/license: all of ultralytics' models, and what is trained by its code)."""
CONFIDENCE = 0.25
"""Least score of a person: the default of ultralytics' predictor."""
SIDE = 640
"""Of the square that pictures are fitted into, where the weights do not say what they were trained on: ultralytics' default."""
QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
"""Environment that keeps an import of ultralytics from looking for a network, and all of it from installing and printing."""


def weights(argument: str) -> Weights:
    """Who finds the people, from the weights' file alone. Raises MissingModel where it is not there, Failure where it is no
    checkpoint, and ImportError where ultralytics is missing."""
    path = _find(argument)
    return Weights("ultralytics", path.name, digests.of_files(path), _license(path))


def load(argument: str, device: str) -> Ultralytics:
    """The backend. Raises as `weights` does, and Failure where weights or device cannot be used."""
    return Ultralytics(_find(argument), weights(argument), device)


class Ultralytics:
    """A `PersonModel` on ultralytics. Threads may share it, and take turns."""

    def __init__(self, path: Path, about: Weights, device: str) -> None:
        self.device = place = _device(device)
        checkpoint = _checkpoint(path)
        network: Any = checkpoint.get("ema") or checkpoint.get("model")
        from ultralytics.models.yolo.detect import DetectionPredictor
        from ultralytics.models.yolo.segment import SegmentationPredictor
        from ultralytics.nn.tasks import DetectionModel, SegmentationModel

        predictors: dict[type, Any] = {DetectionModel: DetectionPredictor, SegmentationModel: SegmentationPredictor}
        if type(network) not in predictors:
            raise Failure(f"{path} holds a {type(network).__name__}, which gives no boxes or outlines of people: use weights "
                          f"like {WEIGHTS}")
        self.weights = about
        self._predictor = predictors[type(network)](overrides={
            "classes": [_person(path, network.names)], "conf": CONFIDENCE, "device": place, "rect": False, "save": False,
            "verbose": False, "imgsz": checkpoint.get("train_args", {}).get("imgsz", SIDE)})
        self._predictor.callbacks.clear()  # they tell ultralytics of each use (its privacy page), whoever imported it
        self._predictor.setup_model(network.float().eval(), verbose=False)

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Person]]:
        """People of each picture (uint8 [H, W, 3], RGB, upright), by ascending x0, then y0."""
        if not pictures:
            return []
        colors = [np.ascontiguousarray(picture[:, :, ::-1]) for picture in pictures]  # ultralytics reads BGR, as OpenCV does
        return [sorted(_people(result), key=lambda person: tuple(person.box[:2])) for result in self._predictor(colors)]


def _people(result: Any) -> Iterator[Person]:
    """Of one picture's `ultralytics.engine.results.Results`."""
    height, width = result.orig_shape
    fitted = None if result.masks is None else result.masks.data.cpu().numpy() > 0
    for n, (box, score) in enumerate(zip(result.boxes.xyxy.cpu().numpy(), result.boxes.conf.tolist(), strict=True)):
        if (box[:2] < box[2:]).all():  # one that is all outside the picture is cut to nothing
            person = Person(box, score)
            yield person if fitted is None else Person(box, score, _unfit(fitted[n], person.area, width, height))


def _unfit(mask: np.ndarray, area: tuple[int, int, int, int], width: int, height: int) -> np.ndarray:
    """bool [h, w]: what a mask (bool [S, S]) of a picture that was fitted into a square says of the picture's `area`.

    Fitted as by ultralytics' LetterBox: in the middle, each side rounded by itself."""
    side = len(mask)
    inner = [max(1, round(length * min(side / width, side / height))) for length in (width, height)]
    start = [round((side - length) / 2 - 0.1) for length in inner]
    corners = [min(side, start[n % 2] + at * inner[n % 2] / (width, height)[n % 2]) for n, at in enumerate(area)]
    x0, y0, x1, y1 = area
    soft = Image.fromarray(mask.astype(np.uint8) * 255).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR,
                                                              box=(corners[0], corners[1], corners[2], corners[3]))
    return np.asarray(soft) >= 128


def _person(path: Path, names: dict[int, str]) -> int:
    """The class of people: the one called so, or the only one. Raises Failure where there is none."""
    for number, name in names.items():
        if name.lower() == "person" or len(names) == 1:
            return number
    raise Failure(f"{path} knows {len(names)} classes and none of them is called person: use weights like {WEIGHTS}")


def _find(argument: str) -> Path:
    """The weights' file. Raises WrongUsage, MissingModel and ImportError."""
    if importlib.util.find_spec("ultralytics") is None:
        raise ImportError("ultralytics is not installed", name="ultralytics")
    named = Path(argument or WEIGHTS).expanduser()
    if named.suffix != ".pt":
        raise WrongUsage(f"--persons ultralytics takes a .pt file, not {argument!r}")
    if named.is_file():
        return named.resolve()
    if named.name != str(named):
        raise MissingModel(f"--persons ultralytics:{argument}: no such file")
    _quietly()
    from ultralytics import settings

    kept = Path(settings["weights_dir"]).resolve()
    if (kept / named).is_file():
        return kept / named
    raise MissingModel(f"{named} is neither in {Path.cwd()} nor in {kept}: name another as --persons ultralytics:PATH, or "
                       "fetch it by: python -c \"from ultralytics.utils.downloads import attempt_download_asset as get; "
                       f"get('{named}')\"")


def _quietly() -> None:
    """Before ultralytics is imported: what it then reads from the environment."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _license(path: Path) -> str:
    """What a checkpoint says of its own licence, read from its pickle's text, which runs nothing. Raises Failure."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
        said = [value for code, value, _ in pickletools.genops(pickled) if not re.search("PUT|MEMOIZE", code.name)]
    except (zipfile.BadZipFile, StopIteration, ValueError) as error:
        raise Failure(f"{path} is no checkpoint that ultralytics saved: fetch it again, or use another") from error
    return next((value for key, value in pairwise(said) if key == "license" and value and isinstance(value, str)), LICENSE)


def _checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, rebuilt of the classes that ultralytics allows and nothing else. Raises Failure."""
    _quietly()
    import torch
    from ultralytics.nn import tasks

    # `safe_only` of older ones is another thing, that lets builtins through; on an older torch it is left out silently
    if not hasattr(tasks, "SAFE_LOAD") or not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        raise MissingModel("ultralytics or torch is too old to load weights without running what they hold: "
                           "pip install --upgrade ultralytics torch")
    with TemporaryDirectory() as folder:
        # ultralytics takes ' out of a path, makes yolov5su.pt of yolov5s.pt, and fetches what it then misses
        link = Path(folder, "weights.pt")
        link.symlink_to(path)
        try:
            return tasks.torch_safe_load(link, safe_only=True)[0]
        except (TypeError, RuntimeError, AttributeError, ImportError) as error:
            raise Failure(f"{path} is not loaded, for it holds something that is no part of ultralytics' models and could run "
                          "code: use weights that ultralytics saved") from error


def _device(name: str) -> str:
    """ultralytics' name of a device. Raises WrongUsage and Failure."""
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise WrongUsage(f"a device is auto, cpu, cuda or cuda:N, not {name!r}")
    found = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not found):
        return "cpu"
    number = int(name.partition(":")[2] or 0)
    if number >= found:
        raise Failure(f"--device {name}: torch finds {found} CUDA devices here: use --device cpu, or install torch for CUDA")
    return f"cuda:{number}"
