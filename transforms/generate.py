"""Generate pictures with a diffusers pipeline.

Takes NamedPictures · Gives names of finished parts of `synthetic`, each with a tar of pictures beside it · Rejects nothing:
whether a picture shows whom it was to show is said when it is recognized"""
from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import PIL.Image

from schemas.picture import Picture, Sitting
from schemas.scene import Proposal, read_proposals
from schemas.weights import Weights
from transforms import digests, pictures, progress
from transforms.diffusion import DiffusionOptions
from transforms.failure import Failure
from transforms.painter import Painter
from transforms.parts import Parts
from transforms.sittings import SittingOptions, panels
from transforms.synthetic import FOLDER, root_of, write_part
from transforms.write import LostPicture, read_picture

VERSION = 1
"""Raised when the same pictures are made otherwise."""


@dataclass(frozen=True)
class GenerateOptions(SittingOptions, DiffusionOptions):
    generated_bound: str = field(default="strict", metadata={
        "choices": ("strict", "usual"),
        "help": "least similarity of a generated face to its reference: strict, the face model's bound beyond doubt, or usual, "
                "that for photos; default: %(default)s, as UMO has it, for identities are weaker in what is generated"})


@dataclass(frozen=True)
class NamedPictures:
    """Pictures that are generated together, and the name of what is made of them."""

    part: str
    pictures: tuple[Picture, ...]
    given_in: str = ""
    """The part in which the pictures stand that they are given; '' where they are made from words."""


def name_sitting(sitting: Sitting, options: GenerateOptions, words: Weights, shown: Weights | None) -> list[NamedPictures]:
    """A part of what is made from words and, where there is such, one of what is made from pictures.

    `words`, `shown`: what makes these. A part's name is a digest of its pictures and of what matters beside them; batches do:
    the same picture alone and in a batch was seen to differ by one level of 255."""
    how: list[object] = [options.generate_dtype, options.generate_steps, options.generate_guidance, options.generate_batch,
                         VERSION]
    first = _named(sitting.from_words, "", words, how)
    return [first, _named(sitting.from_pictures, first.part, shown, how)] if shown and sitting.from_pictures else [first]


def _named(some: tuple[Picture, ...], given_in: str, weights: Weights, how: list[object]) -> NamedPictures:
    name = digests.of([one.key for one in some], given_in, weights.to_json(), how)
    return NamedPictures(f"{name}.parquet", some, given_in)


def rows_of(named: NamedPictures) -> int:
    """How many pictures become of them, panels counted each."""
    return sum(len(one.captions) for one in named.pictures)


_open: dict[object, Painter] = {}
_LOCK = threading.Lock()


def close_painters() -> None:
    """End what is open: what a local stage does when it is done, to give the models' memory back."""
    with _LOCK:
        while _open:
            _open.popitem()[1].close()


class Generator:
    """Makes a part of `synthetic` (`inference.PartMaker`), in batches of its own, so that nothing depends on who batched."""

    def __init__(self, workdir: str, model: str, options: GenerateOptions, device: str, weights: Weights, given: bool) -> None:
        """`model`: folder or hub name; `weights`: what it is; `given`: whether it is given pictures."""
        self.workdir, self.model, self.options, self.device = workdir, model, options, device
        self.weights, self.given = weights, given

    def load_model(self) -> Painter:
        key = self.model, self.options, self.device, self.given
        with _LOCK:
            if key not in _open:
                _open[key] = Painter(self.model, self.options, self.device, self.given)
            if _open[key].weights != self.weights:
                raise Failure(f"this worker has other weights than the command was given: {_open[key].weights}, not "
                              f"{self.weights}")
            return _open[key]

    def make_part(self, named: NamedPictures, model: Painter) -> str:
        given = self._given(named)
        shown = [[given[key][0] for key in one.given] for one in named.pictures]
        made: list[tuple[bytes | None, Proposal]] = []
        for one, picture in model.paint(named.pictures, shown):
            made += self._rows(one, picture, [given[key][1] for key in one.given])
            progress.advance("generate", len(one.captions))
        write_part(self.workdir, named.part, made)
        return named.part

    def _given(self, named: NamedPictures) -> dict[str, tuple[PIL.Image.Image, str]]:
        """Key -> picture and image_key, of all that some of these are given. Raises Failure."""
        wanted = {key for one in named.pictures for key in one.given}
        if not wanted:
            return {}
        rows = read_proposals(Parts(self.workdir, FOLDER).read(named.given_in))
        try:
            return {row.key: (read_picture(root_of(self.workdir), row.uri, row.image_key), row.image_key)
                    for row in rows if row.key in wanted}
        except LostPicture as lost:
            raise Failure(f"{lost.detail} is {lost.reason}: remove {named.given_in} from {Parts(self.workdir, FOLDER).url} and "
                          "run the same command again") from lost

    def _rows(self, one: Picture, picture: PIL.Image.Image, given: list[str]) -> Iterator[tuple[bytes | None, Proposal]]:
        """A picture and its row, or those of its panels."""
        several = len(one.captions) > 1
        boxes = panels(*picture.size) if several else [(0, 0, *picture.size)]
        for place, (caption, box) in enumerate(zip(one.captions, boxes, strict=True)):
            data = pictures.encode(picture.crop(box))
            yield data, Proposal(
                digests.of(one.key, place) if several else one.key, "", digests.of_bytes(data), self.weights.named, one.prompt,
                one.seed, [], "", self.weights.license, "", "", caption, one.style, one.people, given)


@dataclass
class GeneratePictures(beam.PTransform):
    """Named pictures become parts of `synthetic` and tars beside them."""

    generator: Generator
    accelerator: str | None = None
    """GPU of the workers, as Beam's resource hints write it; None: none is asked for."""

    def expand(self, named: beam.PCollection[NamedPictures]) -> beam.PCollection[str]:
        from transforms.inference import MakeParts  # late: see there

        return named | "Generate" >> MakeParts(self.generator, self.accelerator)
