"""The production backend: SCRFD detection and ArcFace embedding by insightface, on ONNX Runtime.

`insightface[:PACK_OR_DIR]`: a pack that lies in ~/.insightface/models (`buffalo_l` where none is named), or a folder of ONNX
files. Results are those of insightface's own `FaceAnalysis.get`, which looks at one picture and then one face at a time; here
faces of all pictures of a batch are embedded together, and pictures are detected together where the graph takes a batch, on
threads where not.

SCRFD: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022; ArcFace: Deng et al.,
CVPR 2019."""
from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from schemas.embedder import Bounds, Embedder
from schemas.face import Detection
from transforms import digests, progress
from transforms.face_models.onnx_runtime import CUDA, providers
from transforms.face_models.quality import product, sharpness
from transforms.failure import Failure

BOUNDS = Bounds(
    same_person=0.35,  # of different people's pairs 0.02 % lie above, of one person's 90 %
    strict_same_person=0.55,  # of different people's pairs 1 in 100 thousand at most lies above
    near_copy=0.80,  # 97 % of one person's pairs in different pictures lie below, all of a burst above
    outlier=0.35,  # as same_person
    cohesion=0.35,  # as outlier: no more is asked of all
    margin=0.15,  # as dlib's: not measured
    quality=0.20,  # a sharp face of a third of the aligned size: a choice
    crowding_weight=1.0, edge=0.15, join=0.04,  # tuned on clusters, BCubed F 0.992 to 0.995
    crowding_growth=0.2,  # of 250 thousand, seed 3, F is 0.9918 with 0 and 0.9923 with 0.15 and 0.3, pairs' precision 0.997,
    # 0.9985 and 0.999; it acts from 20 thousand on
    normalized_edge=0.15,  # better than 0.13 on 100 thousand generated faces, than 0.20 on 20 thousand, seed 3
    adopt=0.10, small_join=0.30,
    spill=16,  # of 500 find 0.95 of the ten strongest edges of 250 thousand generated faces, where 12 find 0.94 and 8 0.92
    origin="measured on 20 thousand faces of shared/bench/make_embeddings.py, profile arcface, seeds 0 to 2, which imitates "
           "published figures; no photos were at hand: run `calibrate` with the weights that you use")

PACK = "buffalo_l"
PACKS = Path("~/.insightface/models")
"""Where insightface keeps its packs."""
LAYOUTS = {9: ((8, 16, 32), 2), 15: ((8, 16, 32, 64, 128), 1)}
"""Number of a detector's outputs -> strides, anchors a place: SCRFD's, with keypoints. Outputs are scores, boxes, keypoints of
each stride."""
DETECTION_THREADS = 4
"""Pictures detected at once where the graph takes one: enough to prepare the next while the device works on one."""
DETECTION_BATCH = 16
"""Pictures detected at once where the graph takes a batch: 1.2 GiB of an SCRFD of 10 GFLOP (75 MiB a picture, measured on a
CPU by `benchmarks.faces_gpu`), however many crops a group photo has."""
EMBEDDING_BATCH = 64
"""Faces embedded at once."""
NON_COMMERCIAL = "non-commercial research only (insightface model zoo)"


def embedder(argument: str) -> Embedder:
    """Who makes the embeddings, from the weights' files alone. Raises MissingModel where the pack is not there, and
    ImportError where a package is missing."""
    folder = _folder(argument)
    files = _files(folder)
    output = _graph(files["recognition"]).output[0]
    return Embedder("insightface", folder.name, digests.of_files(*files.values()), _license(folder),
                    output.type.tensor_type.shape.dim[-1].dim_value)


def load(argument: str, device: str) -> InsightFaces:
    """The backend. Raises as `embedder` does, and Failure where the device is not there."""
    return InsightFaces(_folder(argument), embedder(argument), device)


class InsightFaces:
    """A `FaceModel` on insightface. Threads may share it."""

    def __init__(self, folder: Path, about: Embedder, device: str) -> None:
        warnings.filterwarnings("ignore", category=FutureWarning, module="insightface")  # of scikit-image, at every face
        from insightface.app import FaceAnalysis
        from insightface.utils import face_align

        wanted = providers(device)
        try:
            analysis = FaceAnalysis(str(folder), allowed_modules=["detection", "recognition"], providers=wanted)
        except Exception as error:  # onnxruntime's errors have no public base
            raise Failure(f"{folder} cannot be loaded by ONNX Runtime: {str(error).splitlines()[0][:200]}") from error
        analysis.prepare(ctx_id=0)
        self.embedder = about
        self._detector, self._recognizer = analysis.models["detection"], analysis.models["recognition"]
        self._norm_crop = face_align.norm_crop
        on_gpu = self._recognizer.session.get_providers()[0] == CUDA
        self.device = "cpu" if not on_gpu else "cuda" if device == "auto" else device
        if wanted[0][0] == CUDA and not on_gpu:
            if device != "auto":
                raise Failure(f"--device {device}: CUDA cannot be used: see what ONNX Runtime printed, or --device cpu")
            progress.tell("insightface: CUDA cannot be used, the CPU is")
        self._layout = LAYOUTS.get(len(self._detector.output_names))
        if self._layout is None:
            raise Failure(f"{folder}: the detector gives no keypoints, which faces are aligned by: use another pack")
        self._threads = ThreadPoolExecutor(DETECTION_THREADS, thread_name_prefix="insightface")

    def analyze(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Faces of each picture (uint8 [H, W, 3], RGB, upright), by ascending x0, then y0."""
        colors = [np.ascontiguousarray(picture[:, :, ::-1]) for picture in pictures]  # insightface reads BGR, as OpenCV does
        found = self._detect(colors)
        faces = [(at, n) for at, (boxes, _) in enumerate(found) for n in range(len(boxes))]
        chips = list(self._threads.map(lambda face: self._norm_crop(
            colors[face[0]], found[face[0]][1][face[1]], self._recognizer.input_size[0]), faces))
        detections: list[list[Detection]] = [[] for _ in pictures]
        for (at, n), chip, embedding in zip(faces, chips, self._embed(chips), strict=True):
            box, keypoints = found[at][0][n], found[at][1][n]
            detections[at].append(Detection(
                box=box[:4].astype(np.float32), keypoints=keypoints.astype(np.float32).ravel(), detection_score=float(box[4]),
                quality=product(float(min(box[2:4] - box[:2])) / len(chip), sharpness(chip) / 0.25, float(box[4])),
                embedding=(embedding / np.linalg.norm(embedding)).astype(np.float32)))
        return [sorted(its, key=lambda face: tuple(face.box[:2])) for its in detections]

    def _embed(self, chips: list[np.ndarray]) -> Iterator[np.ndarray]:
        """float64 [D] of each aligned face, before it is scaled. One batch is prepared while the device works on another."""
        fixed = self._recognizer.session.get_inputs()[0].shape[0]
        step = fixed if isinstance(fixed, int) and fixed > 0 else EMBEDDING_BATCH

        def embed(start: int) -> np.ndarray:
            batch = chips[start:start + step]
            padding = [batch[-1]] * (step - len(batch)) if step == fixed else []
            return self._recognizer.get_feat(batch + padding)[:len(batch)].astype(np.float64)

        for embeddings in self._threads.map(embed, range(0, len(chips), step)):
            yield from embeddings

    def _detect(self, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes with scores (float [n, 5]) and keypoints (float [n, 5, 2]) of each picture (uint8 [H, W, 3], BGR).

        A strip that has less than a pixel where it is fitted into the detector's input shows no face."""
        least = min(min(size) for size in self._detector.input_sizes)
        seen = [at for at, picture in enumerate(pictures) if least * min(picture.shape[:2]) >= max(picture.shape[:2])]
        found = dict(zip(seen, self._detect_all([pictures[at] for at in seen]), strict=True))
        return [found.get(at, (np.zeros((0, 5)), np.zeros((0, 5, 2)))) for at in range(len(pictures))]

    def _detect_all(self, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        takes_batches = self._detector.batched and not isinstance(self._detector.input_shape[0], int)
        if not takes_batches or not pictures:
            return list(self._threads.map(self._detector.detect, pictures))
        if len(pictures) > DETECTION_BATCH:
            return [one for start in range(0, len(pictures), DETECTION_BATCH)
                    for one in self._detect_all(pictures[start:start + DETECTION_BATCH])]
        found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in pictures]
        for size in self._detector.input_sizes:
            for at, candidates in enumerate(self._candidates(pictures, size)):
                found[at].append(candidates)
        return [self._suppress(np.concatenate([boxes for boxes, _ in its]), np.concatenate([points for _, points in its]))
                for its in found]

    def _candidates(self, pictures: list[np.ndarray], size: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What the detector takes for faces where pictures are fitted into `size` (width, height), one run for all."""
        import cv2

        fitted = list(self._threads.map(lambda picture: _fit(picture, size), pictures))
        detector = self._detector
        blob = cv2.dnn.blobFromImages([canvas for canvas, _ in fitted], 1 / detector.input_std, size,
                                      (detector.input_mean,) * 3, swapRB=True)
        outputs = detector.session.run(detector.output_names, {detector.input_name: blob})
        assert self._layout is not None
        strides, anchors = self._layout
        for at, (_, scale) in enumerate(fitted):
            boxes, keypoints = [], []
            for level, stride in enumerate(strides):
                scores, edges, points = (outputs[level + kind * len(strides)][at] for kind in range(3))
                good = scores[:, 0] >= detector.det_thresh
                rows, columns = np.mgrid[:size[1] // stride, :size[0] // stride]
                place = np.stack([columns, rows], axis=-1).reshape(-1, 2).repeat(anchors, axis=0)[good] * np.float32(stride)
                edges, points = edges[good] * stride, points[good] * stride
                boxes.append(np.hstack([(place - edges[:, :2]) / scale, (place + edges[:, 2:]) / scale, scores[good]]))
                keypoints.append((place[:, None] + points.reshape(-1, 5, 2)) / scale)
            yield np.concatenate(boxes), np.concatenate(keypoints)

    def _suppress(self, boxes: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best of boxes (float [n, 5]) that overlap, by insightface's own rule."""
        order = np.argsort(-boxes[:, 4], kind="stable")
        boxes, keypoints = boxes[order].astype(np.float32), keypoints[order]
        keep = self._detector.nms(boxes)
        return boxes[keep], keypoints[keep]


def _fit(picture: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The picture shrunk or grown into the upper left of a black canvas of `size`, and the scale, as insightface has it."""
    import cv2

    height, width = picture.shape[:2]
    ratio = height / width
    fitted = (int(size[1] / ratio), size[1]) if ratio > size[1] / size[0] else (size[0], int(size[0] * ratio))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[:fitted[1], :fitted[0]] = cv2.resize(picture, fitted)
    return canvas, fitted[1] / height


def _folder(argument: str) -> Path:
    """Where the weights lie. Raises MissingModel."""
    from transforms.face_models import MissingModel

    name = argument or PACK
    if argument and (folder := Path(argument).expanduser()).is_dir():
        return folder.resolve()
    if (folder := PACKS.expanduser() / name).is_dir():
        return folder.resolve()
    if len(Path(name).parts) > 1:
        raise MissingModel(f"--faces insightface:{name}: there is no such folder")
    raise MissingModel(f"--faces insightface needs the pack {name} in {PACKS}: insightface-cli model.download {name}")


def _files(folder: Path) -> dict[str, Path]:
    """Task -> the file that `FaceAnalysis` takes for it. Raises MissingModel where one is missing."""
    from insightface.model_zoo.package_manifest import has_model_package_manifest, load_model_package

    from transforms.face_models import MissingModel

    if has_model_package_manifest(folder):
        package = load_model_package(folder)
        found = {task: Path(package.task(task).path) for task in package.tasks}
    else:
        found = {}
        for path in sorted(folder.glob("*.onnx")):
            graph = _graph(path)
            shape = [dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim]
            if len(graph.output) >= 5:
                found.setdefault("detection", path)
            elif (len(graph.input) == 1 and len(shape) == 4 and shape[2] == shape[3] >= 112 and shape[2] % 16 == 0
                  and shape[2] != 192):  # as insightface's ModelRouter has it: 192 is landmarks
                found.setdefault("recognition", path)
    missing = [task for task in ("detection", "recognition") if task not in found]
    if missing:
        raise MissingModel(f"{folder} holds no ONNX file for {' and '.join(missing)}: it needs a detector (SCRFD) and a "
                           "recognizer (ArcFace)")
    return {task: found[task] for task in ("detection", "recognition")}


def _graph(path: Path) -> Any:
    """The graph of an ONNX file. Raises MissingModel where it is none, and ImportError."""
    import onnx
    from google.protobuf.message import DecodeError

    from transforms.face_models import MissingModel

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, OSError) as error:
        raise MissingModel(f"{path} cannot be read as ONNX ({type(error).__name__}; a clone without git-lfs holds stubs): "
                           "copy it again") from error
    if not graph.input or not graph.output:
        raise MissingModel(f"{path} holds no ONNX graph: copy it again")
    return graph


def _license(folder: Path) -> str:
    """What insightface's signed licence file grants; without one its packs are for non-commercial research."""
    from insightface.model_zoo.model_license import inspect_model_package_license

    found = inspect_model_package_license(folder)
    return "commercial use granted (insightface MODEL.LICENSE)" if found.grant == "commercial" else NON_COMMERCIAL
