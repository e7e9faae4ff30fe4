"""A small CPU backend under permissive licences: OpenCV's YuNet finds faces, its SFace embeds them; the weights are two files.

For each picture: YuNet looks at copies of two sizes, for large and for small faces, and gives boxes (which begin at the
forehead, unlike dlib's) and five keypoints; these place the upright chip that SFace describes. It takes one picture at a time,
so a batch changes nothing.

YuNet: Wu et al., Machine Intelligence Research 2023; SFace: Zhong et al., IEEE TIP 2021. The weights are OpenCV Zoo's
(github.com/opencv/opencv_zoo). Without them nothing here could be measured on what they find; "dev" below is
`../shared/faces/dev`, with dlib's keypoints."""
from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from schemas.embedder import Bounds, Embedder
from schemas.face import Detection
from transforms import digests
from transforms.face_models import MissingModel
from transforms.face_models.quality import product, sharpness

BOUNDS = Bounds(
    same_person=0.363,  # cited: OpenCV's "DNN-based Face Detection And Recognition", for LFW; 0.21 to 0.34 for harder sets
    strict_same_person=0.60, near_copy=0.85,  # guesses, chosen to doubt a pair rather than to trust it
    outlier=0.363,  # a face is as like its person as any other face of that person
    cohesion=0.363,  # as outlier: no more is asked of all, as no people were at hand to calibrate on
    margin=0.15, quality=0.30,  # dlib's
    crowding_weight=1.0, crowding_growth=0.2,  # these and the next are those of ArcFace-like embeddings, which SFace's are
    edge=0.15, normalized_edge=0.15, join=0.04, adopt=0.10, small_join=0.30, spill=16,  # taken for
    origin="cited: 0.363 for one person, OpenCV's documentation; clustering: measured on generated ArcFace-like sets; others "
           "not measured: run calibrate")

DETECTOR, RECOGNISER = "face_detection_yunet*.onnx", "face_recognition_sface*.onnx"
"""What OpenCV Zoo calls the files."""
ZOO = ("get one file each of models/face_detection_yunet and models/face_recognition_sface of github.com/opencv/opencv_zoo "
       "into FOLDER and name it as --faces opencv:FOLDER")

LARGEST_FACE = 300
"""YuNet finds faces of 10 to 300 pixels (cited: its page in OpenCV Zoo)."""
SMALL_FACES, LARGE_FACES = 1280, 320
"""Longest sides of the two copies: the second one for faces that fill the picture, the first one for those down to 1/128 of it.
That is 31 pixels in a photo of 4000, less than half of what SFace wants; the first size is a choice."""
SCORE = 0.6
"""Least score of a face: the default of OpenCV Zoo's `YuNet`."""
SURE_SCORE = 0.9
"""Score from which on quality does not suffer: the default of OpenCV's `FaceDetectorYN`."""
NMS_OVERLAP, NMS_BOXES = 0.3, 5000
"""Greatest intersection over union inside a copy, and most boxes before that: the defaults of `FaceDetectorYN`."""
SAME_FACE_OVERLAP = 0.5
"""Two boxes that share more than this part of the smaller one are one face, as with dlib; it also drops what one copy takes for
a face inside the other's."""
CHIP_SPREAD = 23.2
"""Root of the mean squared distance of the keypoints from their middle, in pixels of a chip of 112, whose keypoints are in
OpenCV's face_recognize.cpp. dlib's box of such a face is 89 pixels wide (dev, median)."""
SHARPNESS = 0.24
"""`sharpness` from which on quality does not suffer: the median of dev, of which 5 % lie below 0.14."""


def embedder(argument: str) -> Embedder:
    """Who makes the embeddings, from the two files of the folder `argument` alone. Raises MissingModel where one is not there,
    or several are, and ImportError where the package is missing."""
    if importlib.util.find_spec("cv2") is None:
        raise ImportError("cv2 is not installed", name="cv2")
    files = _weights(argument)
    return Embedder(backend="opencv", name=files[1].stem, sha256=digests.of_files(*files),
                    license="MIT (YuNet), Apache-2.0 (SFace)", dimensions=128)


def load(argument: str, device: str) -> OpencvFaces:
    """The backend. Raises as `embedder` does, and MissingModel where OpenCV cannot read a file.

    Any `device` is taken and none but the CPU used: OpenCV's wheels are built without CUDA."""
    return OpencvFaces(embedder(argument), *_weights(argument))


class OpencvFaces:
    """A `FaceModel` on OpenCV."""

    device = "cpu"

    def __init__(self, about: Embedder, detector: Path, recogniser: Path) -> None:
        import cv2

        cv2.setNumThreads(1)  # there is a process a core
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # 5.0 warns of every model that it loads
        self.embedder = about
        self._cv2 = cv2
        reading = detector
        try:
            self._detector = cv2.FaceDetectorYN.create(str(detector), "", (LARGE_FACES,) * 2, SCORE, NMS_OVERLAP, NMS_BOXES)
            reading = recogniser
            self._recogniser = cv2.FaceRecognizerSF.create(str(recogniser), "")
        except cv2.error as error:
            raise MissingModel(f"OpenCV {cv2.__version__} cannot read {reading} (a clone without git-lfs holds stubs of 130 "
                               f"bytes): {ZOO}") from error

    def analyze(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Faces of each picture (uint8 [H, W, 3], RGB, upright), by ascending x0, then y0."""
        return [sorted(self._faces(np.ascontiguousarray(picture[:, :, ::-1])), key=lambda face: tuple(face.box[:2]))
                for picture in pictures]

    def _faces(self, picture: np.ndarray) -> Iterator[Detection]:
        """Faces of a picture (uint8 [H, W, 3], BGR), surest first."""
        sizes = [picture, *(self._reduced(picture, longest) for longest in (SMALL_FACES, LARGE_FACES)
                            if longest < max(picture.shape))]
        first, *others = (size for size in sizes if max(size.shape) <= SMALL_FACES)
        found = [*self._rows(first)]
        for size in others:  # it places keypoints less exactly: of what is small enough for the first one it is not asked
            found += [row for row in self._rows(size) * _zoom(size, first) if max(row[2:4]) > LARGEST_FACE / 2]
        accepted: list[np.ndarray] = []
        for row in sorted((row * _zoom(first, picture) for row in found), key=lambda row: (-row[14], *row)):
            if all(_overlap(row, other) <= SAME_FACE_OVERLAP for other in accepted):
                accepted.append(row)
                yield self._describe(sizes, row)

    def _reduced(self, picture: np.ndarray, longest: int) -> np.ndarray:
        """The picture with its longest side at `longest` pixels."""
        height, width = picture.shape[:2]
        scale = longest / max(height, width)
        return self._cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))),
                                interpolation=self._cv2.INTER_AREA)

    def _rows(self, size: np.ndarray) -> np.ndarray:
        """What YuNet finds, float32 [N, 15]: x, y, width, height of the box; x, y of five keypoints; score.

        Its right eye and corner of the mouth are the person's own, and thus left as seen in the picture: the order is ours."""
        self._detector.setInputSize((size.shape[1], size.shape[0]))
        _, rows = self._detector.detect(size)
        return np.zeros((0, 15), np.float32) if rows is None else rows

    def _describe(self, sizes: list[np.ndarray], row: np.ndarray) -> Detection:
        """The face of a row of `_rows`, whose places are in the first of the picture's `sizes`, largest first."""
        spread = _spread(row)
        shown, scaled = sizes[0], row
        for size in sizes[1:]:  # the smallest that fills the chip, for alignCrop takes single pixels of what is far larger
            smaller = row * _zoom(sizes[0], size)
            if _spread(smaller) >= CHIP_SPREAD:
                shown, scaled = size, smaller
        chip = self._recogniser.alignCrop(shown, scaled[None])
        embedding = self._recogniser.feature(chip)[0].astype(float)
        return Detection(
            box=np.concatenate([row[:2], row[:2] + row[2:4]]).astype(np.float32),
            keypoints=row[4:14].astype(np.float32),
            detection_score=float(row[14]),
            quality=_quality(spread, sharpness(chip), float(row[14])),
            embedding=(embedding / np.linalg.norm(embedding)).astype(np.float32))


def _quality(spread: float, fineness: float, score: float) -> float:
    """Trust in an embedding, in [0, 1]: a product of three factors, each rising to 1.

    `_spread` over the chip's, which falls for small faces and for turned ones, whose keypoints lie closer; the chip's
    `sharpness` over `SHARPNESS`; the score from `SCORE`, where a face is hardly one, to `SURE_SCORE`."""
    return product(spread / CHIP_SPREAD, fineness / SHARPNESS, (score - SCORE) / (SURE_SCORE - SCORE))


def _spread(row: np.ndarray) -> float:
    """Root of the mean squared distance of a row's keypoints from their middle, in pixels."""
    points = row[4:14].reshape(5, 2)
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _zoom(size: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float32 [15]: what takes a row of `_rows` from a picture of one size to the same of another."""
    return np.array([other.shape[1] / size.shape[1], other.shape[0] / size.shape[0]] * 7 + [1], np.float32)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection of the boxes of two rows over the smaller one's area, in [0, 1]."""
    width, height = np.clip(np.minimum(a[:2] + a[2:4], b[:2] + b[2:4]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(width * height / min(a[2] * a[3], b[2] * b[3]))


def _weights(argument: str) -> tuple[Path, Path]:
    """The detector's and the recogniser's file in the folder `argument`. Raises MissingModel unless there is one of each."""
    if not argument:
        raise MissingModel(f"--faces opencv needs a folder with weights: {ZOO}")
    folder = Path(argument).expanduser()  # a shell leaves the ~ of opencv:~/weights alone
    return _only(folder, DETECTOR), _only(folder, RECOGNISER)


def _only(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if not files:
        raise MissingModel(f"no {pattern} in {folder}: {ZOO}")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise MissingModel(f"{folder} holds several {pattern} ({names}): leave one of them there")
    return files[0]
