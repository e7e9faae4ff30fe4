"""One look at one picture: its faces, and which of them can be references.

Runs in child processes, and imports nothing that they do not need: no Beam."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from schemas.crop import Crop
from schemas.embedder import Bounds
from schemas.face import Detection
from transforms import face_models, pictures
from transforms.crops import BadCrop, CropOptions, check
from transforms.face_models import FaceModel
from transforms.pictures import BadPicture, Limits


@dataclass(frozen=True)
class ExamineOptions(Limits, CropOptions):
    faces: str = field(default="dlib", metadata={
        "help": "face models: dlib (CPU, weights come with pip); default: %(default)s"})


@dataclass(frozen=True)
class Examined:
    """What one look at a picture found."""

    width: int
    height: int
    perceptual_hash: int
    faces: tuple[Detection, ...]
    """By ascending x0: the n of face_id."""
    crops: tuple[Crop, ...]
    dropped: tuple[tuple[str, BadCrop], ...]
    """face_id and why the face cannot be a reference."""


def examine(image_key: str, data: bytes, model: FaceModel, bounds: Bounds, options: ExamineOptions) -> Examined:
    """Decode, find and embed faces, cut and check their crops. Raises BadPicture."""
    picture = pictures.decode(data, options)
    faces = model.analyze([np.asarray(picture)])[0]
    crops: list[Crop] = []
    dropped: list[tuple[str, BadCrop]] = []
    for n, face in enumerate(faces):
        face_id = f"{image_key}:{n}"
        try:
            crops.append(check(picture, face_id, face, faces[:n] + faces[n + 1:], model, bounds, options))
        except BadCrop as bad:
            dropped.append((face_id, bad))
    return Examined(*picture.size, pictures.perceptual_hash(picture), tuple(faces), tuple(crops), tuple(dropped))


_model: FaceModel
_options: ExamineOptions


def start_child(options: ExamineOptions) -> None:
    """Once in a child process: its model, on one thread, for there is a child a core."""
    global _model, _options
    _model, _options = face_models.load(options.faces), options


def examine_in_child(piece: tuple[str, bytes]) -> Examined | BadPicture:
    image_key, data = piece
    try:
        return examine(image_key, data, _model, face_models.bounds(_model.embedder), _options)
    except BadPicture as bad:
        return bad
