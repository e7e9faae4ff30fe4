"""Reference crops: which rectangle shows one person and nobody else, and whether it does."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import PIL.Image

from schemas.crop import Crop
from schemas.embedder import Bounds
from schemas.face import Detection
from schemas.person import Person
from transforms import pictures

MARGINS = {"face": (0.35, 0.45, 0.35), "head": (0.85, 0.80, 1.00), "person": (1.60, 0.90, 5.50)}
"""Rule -> margin at either side, above and below, in heights of the face box (brow to chin). Chosen by eye on faces/dev, so
that `head` shows hair and shoulders and `person` a standing body; not measured."""
RULES = (*MARGINS, "full")
CLEAR = 0.15
"""Least margin kept around the face itself, in heights of the face box, where a neighbour cuts the crop. A choice: what is cut
too close is found out when the crop is looked at again."""
MAX_UPSCALE = 1.5
"""References are never enlarged more (issue "The production models")."""


@dataclass(frozen=True)
class CropOptions:
    ref_crop: str = field(default="head", metadata={
        "choices": RULES,
        "help": "what a reference shows: face, head and shoulders, person, or the full photo; default: %(default)s"})
    ref_size: int = field(default=640, metadata={
        "least": 64,
        "help": "longest side of a reference in pixels, never enlarged more than 1.5 times; default: %(default)s, so that "
                "both sides of a head have 512, the size that UNO's trainer takes"})
    ref_margin: float = field(default=1.0, metadata={
        "least": 0, "most": 4,
        "help": "factor on the margins around the face that this rule stands for; default: %(default)s"})


class BadCrop(Exception):
    """A face that cannot be a reference; `reason` is of the closed list in `schemas.reject`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def rectangle(face: np.ndarray, others: list[np.ndarray], width: int, height: int, options: CropOptions,
              person: np.ndarray | None = None) -> np.ndarray:
    """float32 [4], whole pixels inside the image: the rule's margins around the face box, cut where others begin.

    Boxes are float32 [4], x0 y0 x1 y1; where the `person`'s is known, it stands for the rule of that name. Of the cuts that
    free the crop of a neighbour, the one that leaves most is taken. Raises BadCrop where a neighbour is too close to cut
    between."""
    inside = np.array([0, 0, width, height], np.float64)
    size = float(max(face[2] - face[0], face[3] - face[1]))
    least = _meet(face + np.array([-1, -1, 1, 1]) * CLEAR * size, inside)
    if options.ref_crop == "full":
        crop = inside
    elif options.ref_crop == "person" and person is not None:
        crop = _meet(np.concatenate([np.minimum(person[:2], least[:2]), np.maximum(person[2:], least[2:])]), inside)
    else:
        beside, above, below = (margin * size * options.ref_margin for margin in MARGINS[options.ref_crop])
        crop = _meet(np.array([face[0] - beside, face[1] - above, face[2] + beside, face[3] + below]), inside)
    for other in sorted(others, key=lambda box: tuple(box.tolist())):
        if not _area(_meet(crop, other)):
            continue
        cuts = [np.concatenate([crop[:side], [other[(side + 2) % 4]], crop[side + 1:]]) for side in range(4)]
        cuts = [cut for cut in cuts if np.all(cut[:2] <= least[:2]) and np.all(cut[2:] >= least[2:])]
        if not cuts:
            raise BadCrop("crop_with_several_faces", "another face is too close")
        crop = max(cuts, key=_area)
    return np.concatenate([np.ceil(crop[:2]), np.floor(crop[2:])]).astype(np.float32)


def _meet(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])


def _area(box: np.ndarray) -> float:
    return float(max(0, box[2] - box[0]) * max(0, box[3] - box[1]))


def render(picture: PIL.Image.Image | np.ndarray, crop: np.ndarray, options: CropOptions) -> PIL.Image.Image:
    """The reference as it will be written, before JPEG, from a picture or its pixels (uint8 [H, W, 3])."""
    return pictures.resize(pictures.cut(picture, crop), options.ref_size, MAX_UPSCALE)


def cut_out(pixels: np.ndarray, face: Detection, others: list[Detection], person: Person | None, bounds: Bounds,
            options: CropOptions) -> tuple[np.ndarray, np.ndarray]:
    """A face's crop (float32 [4], whole pixels), and the reference (uint8 [h, w, 3]) as it will be read from its JPEG.

    Raises BadCrop."""
    if face.quality < bounds.quality:
        raise BadCrop("low_quality", f"quality {face.quality:.2f} < {bounds.quality:.2f}")
    height, width = pixels.shape[:2]
    crop = rectangle(face.box, [other.box for other in others], width, height, options,
                     None if person is None else person.box)
    written = pictures.encode(render(pixels, crop, options))
    return crop, np.asarray(pictures.decode(written, pictures.UNLIMITED))


def accept(face_id: str, face: Detection, crop: np.ndarray, found: list[Detection], bounds: Bounds) -> Crop:
    """The crop's record, by the faces found in it: exactly one, the same person, large and sharp enough.

    Raises BadCrop."""
    if not found:
        raise BadCrop("crop_without_face")
    if len(found) > 1:
        raise BadCrop("crop_with_several_faces", f"{len(found)} faces")
    similarity = float(found[0].embedding.astype(np.float64) @ face.embedding.astype(np.float64))
    if similarity < bounds.strict_same_person:
        raise BadCrop("crop_of_another", f"cosine {similarity:.2f} < {bounds.strict_same_person:.2f}")
    if found[0].quality < bounds.quality:
        raise BadCrop("low_quality", f"quality in the crop {found[0].quality:.2f} < {bounds.quality:.2f}")
    return Crop(face_id, crop, len(found), found[0].box, similarity, found[0].embedding)
