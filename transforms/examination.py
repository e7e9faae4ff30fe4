"""One look at a picture: its faces, whose body each is on, and which of them can be references.

Imports no Beam, for it runs in child processes too."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from schemas.crop import Crop
from schemas.embedder import Embedder
from schemas.face import Detection
from schemas.person import Person
from schemas.weights import Weights
from transforms import face_models, person_models, pictures
from transforms.ahead import ahead
from transforms.crops import BadCrop, CropOptions, accept, cut_out
from transforms.failure import Failure
from transforms.persons import assign
from transforms.pictures import BadPicture, Limits

BATCH = 8
"""Pictures that models in this process are shown at once; as many again are decoded ahead. Of 12 megapixels each, all of them
take 0.54 GiB (3 bytes a pixel), for each bundle that is worked on at the same time."""

DEVICE = r"auto|cpu|cuda(:\d+)?"
"""What `--device` may be."""

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""`map`, or what does the same in threads."""


@dataclass(frozen=True)
class ModelOptions:
    faces: str = field(default="dlib", metadata={
        "metavar": "BACKEND[:ARGUMENT]", "recorded": False,  # it may be a path; `models` says what was used
        "help": "face models: dlib (CPU, weights come with pip), insightface[:PACK_OR_DIR] (GPU or CPU) or opencv:DIR (CPU, "
                "permissive licences); default: %(default)s"})
    persons: str = field(default="none", metadata={
        "metavar": "none|BACKEND[:ARGUMENT]", "recorded": False,
        "help": "person detection: none or ultralytics[:WEIGHTS]; default: %(default)s, no boxes of whole people"})
    device: str = field(default="auto", metadata={
        "matches": DEVICE, "metavar": "auto|cpu|cuda[:N]",
        "help": "where models run that can choose; default: auto, a GPU if there is one", "recorded": False})


@dataclass(frozen=True)
class ExamineOptions(Limits, CropOptions, ModelOptions):
    """All that one look depends on."""


@dataclass(frozen=True)
class Opened:
    """A picture that was decoded."""

    image_key: str
    pixels: np.ndarray
    """uint8 [H, W, 3], RGB, upright."""
    perceptual_hash: int


@dataclass(frozen=True)
class Examined:
    """What one look at a picture found."""

    width: int
    height: int
    perceptual_hash: int
    faces: tuple[Detection, ...]
    """By ascending x0: the n of face_id."""
    persons: tuple[Person | None, ...]
    """Whose each face is; None where nobody was found around it."""
    crops: tuple[Crop, ...]
    dropped: tuple[tuple[str, BadCrop], ...]
    """face_id and why the face cannot be a reference."""


def open_picture(piece: tuple[str, bytes], limits: Limits) -> Opened | BadPicture:
    """Decode a file, given as its image_key and its bytes."""
    image_key, data = piece
    try:
        picture = pictures.decode(data, limits)
    except BadPicture as bad:
        return bad
    return Opened(image_key, np.asarray(picture), pictures.perceptual_hash(picture))


class ModelFailed(Exception):
    """A model raised something of its own, which may be a picture's fault."""


class Models:
    """What looks at pictures, made in the process that uses it."""

    def __init__(self, options: ExamineOptions, embedder: Embedder, persons: Weights | None) -> None:
        """`embedder`, `persons`: whose results these are to be. Raises Failure where other weights lie here."""
        self.faces = face_models.load(options.faces, options.device)
        self.persons = person_models.load(options.persons, options.device)
        self.bounds = face_models.bounds(self.faces.embedder)
        for here, wanted in ((self.faces.embedder, embedder), (self.persons and self.persons.weights, persons)):
            if here != wanted:
                raise Failure(f"this worker has other weights than the command was given: {here}, not {wanted}")

    def find_faces(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        """As `FaceModel.analyze`. Raises ModelFailed."""
        return _asked(self.faces.analyze, pictures)

    def find_people(self, pictures: Sequence[np.ndarray]) -> list[list[Person]]:
        """As `PersonModel.detect`, nobody where there is no such model. Raises ModelFailed."""
        return [[] for _ in pictures] if self.persons is None else _asked(self.persons.detect, pictures)


def _asked(look: Callable[[Sequence[np.ndarray]], Any], pictures: Sequence[np.ndarray]) -> Any:
    try:
        return look(pictures)
    except (OSError, MemoryError, Failure):
        raise  # the machine's fault
    except Exception as error:  # the packages' errors have no common base
        raise ModelFailed(f"{type(error).__name__}: {error}"[:200]) from error


def examine(opened: Sequence[Opened], models: Models, options: ExamineOptions, spread: Spread = map) -> list[Examined]:
    """Find and embed the faces of a batch of pictures, say whose body each is on, cut and check their crops.

    `spread` does what needs no model. Raises ModelFailed."""
    looked = [one.pixels for one in opened]
    faces, people = models.find_faces(looked), models.find_people(looked)
    persons = [_whose(found, around) for found, around in zip(faces, people, strict=True)]
    each = [(at, n) for at, found in enumerate(faces) for n in range(len(found))]

    def cut(place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | BadCrop:
        at, n = place
        others = faces[at][:n] + faces[at][n + 1:]
        try:
            return cut_out(opened[at].pixels, faces[at][n], others, persons[at][n], models.bounds, options)
        except BadCrop as bad:
            return bad

    tried = dict(zip(each, spread(cut, each), strict=True))
    written = {place: made for place, made in tried.items() if not isinstance(made, BadCrop)}
    seen = dict(zip(written, models.find_faces([pixels for _, pixels in written.values()]), strict=True))
    crops: list[list[Crop]] = [[] for _ in opened]
    dropped: list[list[tuple[str, BadCrop]]] = [[] for _ in opened]
    for (at, n), made in tried.items():
        face_id = f"{opened[at].image_key}:{n}"
        try:
            if isinstance(made, BadCrop):
                raise made
            crops[at].append(accept(face_id, faces[at][n], made[0], seen[at, n], models.bounds))
        except BadCrop as bad:
            dropped[at].append((face_id, bad))
    return [Examined(one.pixels.shape[1], one.pixels.shape[0], one.perceptual_hash, tuple(faces[at]),
                     tuple(persons[at]), tuple(crops[at]), tuple(dropped[at])) for at, one in enumerate(opened)]


def examine_alone(opened: Opened, models: Models, options: ExamineOptions) -> Examined | BadPicture:
    """One picture; where a model fails on it, that and nothing else is lost."""
    try:
        return examine([opened], models, options)[0]
    except ModelFailed as failed:
        return BadPicture("model_failed", str(failed))


def _whose(faces: list[Detection], people: list[Person]) -> list[Person | None]:
    """The person of each face."""
    if not faces or not people:
        return [None] * len(faces)
    chosen = assign(np.stack([face.box for face in faces]), np.stack([person.box for person in people]))
    return [people[at] if at >= 0 else None for at in chosen]


class InProcess:
    """Examines in this process: threads decode the next pictures and cut crops while models look at a batch.

    Batches are of pictures that follow each other, whoever else uses the models meanwhile."""

    def __init__(self, options: ExamineOptions, embedder: Embedder, persons: Weights | None) -> None:
        self.options, self.models = options, Models(options, embedder, persons)
        self.threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures")

    def map(self, pieces: Iterable[tuple[str, bytes]]) -> Iterator[Examined | BadPicture]:
        """What is found in each file, given as its image_key and its bytes, in order."""
        submit = partial(self.threads.submit, partial(open_picture, limits=self.options))
        batch: list[Opened | BadPicture] = []
        for _, future in ahead(submit, pieces, BATCH):
            batch.append(future.result())
            if len(batch) == BATCH:
                yield from self._examine(batch)
                batch = []
        yield from self._examine(batch)

    def _examine(self, batch: list[Opened | BadPicture]) -> Iterator[Examined | BadPicture]:
        good = [one for one in batch if isinstance(one, Opened)]
        try:
            found: Iterator[Examined | BadPicture] = iter(examine(good, self.models, self.options, self.threads.map))
        except ModelFailed:  # at one of them, or for want of memory: alone they may do, and who fails alone is told
            found = iter(examine_alone(one, self.models, self.options) for one in good)
        for one in batch:
            yield next(found) if isinstance(one, Opened) else one

    def close(self) -> None:
        """End the threads and let go of the models."""
        self.threads.shutdown()
        del self.models


_models: Models
_options: ExamineOptions


def start_child(options: ExamineOptions, embedder: Embedder, persons: Weights | None) -> None:
    """Once in a child process: its models, on one thread, for there is a child a core."""
    global _models, _options
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch, where it is needed at all, is imported
    _models, _options = Models(replace(options, device="cpu"), embedder, persons), options


def examine_in_child(piece: tuple[str, bytes]) -> Examined | BadPicture:
    opened = open_picture(piece, _options)
    return opened if isinstance(opened, BadPicture) else examine_alone(opened, _models, _options)
