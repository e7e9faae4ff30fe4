"""Look at every picture once: faces, embeddings, checked reference crops.

Takes NamedChunk · Gives names of finished parts of images, faces, crops and rejects · Rejects unreadable pictures and
faces that cannot be references"""
from __future__ import annotations

import dataclasses
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import apache_beam as beam
import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc

from schemas.chunk import Chunk, Item
from schemas.crop import Crop, crops_schema
from schemas.embedder import Embedder
from schemas.face import Face, faces_schema
from schemas.image import IMAGES, Image
from schemas.person import encode_mask
from schemas.reject import REJECTS, Reject
from schemas.table import to_table
from schemas.weights import Weights
from transforms import digests, face_models, pictures, progress, reading
from transforms.children import Children, Killed
from transforms.examination import Examined, ExamineOptions, InProcess, examine_in_child, start_child
from transforms.failure import Failure
from transforms.inputs import IngestOptions
from transforms.parts import SCHEMA_VERSION, Parts
from transforms.pictures import BadPicture

FOLDERS = ("rejects", "crops", "faces", "images")
"""What a chunk is written to, in this order: a chunk whose four parts are there is done."""
VERSION = 1
"""Raised when the same pictures and options give other rows, so that parts of older code are made anew."""


@dataclass(frozen=True)
class WorkerOptions:
    extract_processes: int = field(default=0, metadata={
        "least": 0,
        "help": "processes that run CPU models; default: one a core", "recorded": False})
    accelerator: str | None = field(default=None, metadata={
        "metavar": "HINT",
        "help": "GPU of a cluster's workers for this stage alone, as Beam's resource hints write it "
                "(type:nvidia-l4;count:1;install-nvidia-driver); default: none is asked for", "recorded": False})


@dataclass(frozen=True)
class ExtractOptions(IngestOptions, ExamineOptions, WorkerOptions):
    def processes(self) -> int:
        return self.extract_processes or os.cpu_count() or 1


@dataclass(frozen=True)
class NamedChunk:
    """A chunk, and the name of the parts that are made of it."""

    part: str
    chunk: Chunk


def name_chunk(chunk: Chunk, options: ExtractOptions, embedder: Embedder, persons: Weights | None = None) -> NamedChunk:
    """The name is a digest of the chunk and of what matters beside it."""
    return NamedChunk(f"{digests.of(chunk.identity(), matters(options, embedder, persons))}.parquet", chunk)


def matters(options: ExtractOptions, embedder: Embedder, persons: Weights | None) -> list[object]:
    """What rows depend on beside the pictures: options, models and bounds. How many processes work changes nothing."""
    bounds = face_models.bounds(embedder)
    return [options.max_pixels, options.min_side, options.ref_crop, options.ref_size, options.ref_margin,
            embedder.to_json(), persons and persons.to_json(),
            bounds.quality, bounds.strict_same_person, VERSION, SCHEMA_VERSION]


class ChunkRows:
    """The rows that one chunk becomes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.images: list[Image] = []
        self.faces: list[Face] = []
        self.crops: list[Crop] = []
        self.rejects: list[Reject] = []

    def add(self, root: str, item: Item, image_key: str, seen: Examined) -> None:
        """A picture that was read, its faces and their crops."""
        self.add_copy(root, item, image_key, seen)
        for n, (face, person) in enumerate(zip(seen.faces, seen.persons, strict=True)):
            mask = None if person is None or person.mask is None else encode_mask(person.mask)
            self.faces.append(Face(f"{image_key}:{n}", image_key, item.group, item.clip, item.timestamp, face.box,
                                   face.keypoints, face.detection_score, face.quality,
                                   None if person is None else person.box, face.embedding, mask))
        self.crops.extend(seen.crops)
        for face_id, bad in seen.dropped:
            self.reject(item, BadPicture(bad.reason, f"{face_id} {bad.detail}".strip()))

    def add_copy(self, root: str, item: Item, image_key: str, seen: Examined) -> None:
        """The same bytes at another place: an image, whose faces stand already."""
        self.images.append(Image(image_key, item.uri, root, item.group, item.clip, item.timestamp, self.source,
                                 seen.width, seen.height, seen.perceptual_hash, item.caption, item.license))

    def reject(self, item: Item, bad: BadPicture) -> None:
        self.rejects.append(Reject.of(item.uri, "extract", bad.reason, bad.detail))

    def tables(self, embedder: Embedder, persons: Weights | None) -> dict[str, pa.Table]:
        """Folder -> table, rows sorted by key."""
        return {"images": to_table(sorted(self.images, key=lambda row: (row.image_key, row.uri)), IMAGES),
                "faces": to_table(sorted(self.faces, key=lambda row: row.face_id), faces_schema(embedder, persons)),
                "crops": to_table(sorted(self.crops, key=lambda row: row.face_id), crops_schema(embedder)),
                "rejects": to_table(sorted(self.rejects, key=lambda row: (row.uri, row.reason, row.detail)), REJECTS)}


BLANK = "blank", pictures.encode(PIL.Image.new("RGB", (256, 256), "gray"))
"""A picture on which no model fails that works at all: tells a picture's fault from a model's."""
Examiner: TypeAlias = InProcess | Children[tuple[str, bytes], Examined | BadPicture]
"""What looks at pictures; several threads may share it."""
_open: dict[ExtractOptions, Examiner] = {}
_LOCK = threading.Lock()


def open_examiner(options: ExtractOptions, embedder: Embedder, persons: Weights | None) -> Examiner:
    """The process's one examiner for these options: in child processes where the models want it, else here."""
    with _LOCK:
        if options not in _open:
            own = ExamineOptions(**{field.name: getattr(options, field.name) for field in dataclasses.fields(ExamineOptions)})
            _open[options] = (Children(options.processes(), examine_in_child, start_child, (own, embedder, persons))
                              if face_models.backend(options.faces).in_children else InProcess(own, embedder, persons))
        return _open[options]


def close_examiners() -> None:
    """End what is open: what a local stage does when it is done, to give the models' memory back."""
    with _LOCK:
        while _open:
            _open.popitem()[1].close()


class Extractor:
    """Makes the four parts of a chunk (`inference.PartMaker`): read, examine, write."""

    def __init__(self, workdir: str, options: ExtractOptions, embedder: Embedder, persons: Weights | None = None,
                 retry: bool = False) -> None:
        self.workdir, self.options, self.retry = workdir, options, retry
        self.embedder, self.persons = embedder, persons

    def load_model(self) -> Examiner:
        return open_examiner(self.options, self.embedder, self.persons)

    def make_part(self, named: NamedChunk, model: Examiner) -> str:
        again = self._transient(named) if self.retry else None
        tables = self._extract(named.chunk, again, model).tables(self.embedder, self.persons)
        if again is not None:
            tables = {folder: self._merge(named.part, folder, tables[folder], again) for folder in FOLDERS}
        for folder in FOLDERS:
            Parts(self.workdir, folder).write(named.part, tables[folder])
        return named.part

    def _transient(self, named: NamedChunk) -> set[str] | None:
        """Uris of the chunk that failed and may succeed now; None where the chunk is to be worked on whole."""
        try:
            rejects = Parts(self.workdir, "rejects").read(named.part)
        except FileNotFoundError:
            return None
        uris = set(rejects.filter(rejects["transient"])["uri"].to_pylist())
        return None if named.chunk.tar and named.chunk.items[0].uri in uris else uris

    def _merge(self, part: str, folder: str, new: pa.Table, again: set[str]) -> pa.Table:
        """The part's rows with those of the items tried again in place of their rejects."""
        old = Parts(self.workdir, folder).read(part)
        if folder == "rejects":
            old = old.filter(pc.invert(pc.is_in(old["uri"], pa.array(sorted(again), pa.string()))))
        elif folder in ("faces", "crops"):  # the retried file may be a copy of one that stands already
            new = new.filter(pc.invert(pc.is_in(new["face_id"], old["face_id"].combine_chunks())))
        table = pa.concat_tables([old, new.cast(old.schema)])
        keys = {"images": ("image_key", "uri"), "rejects": ("uri", "reason", "detail")}.get(folder, ("face_id",))
        return table.sort_by([(key, "ascending") for key in keys]).combine_chunks()

    def _extract(self, chunk: Chunk, only: set[str] | None, examiner: Examiner) -> ChunkRows:
        rows = ChunkRows(chunk.source)
        first: dict[str, Item] = {}
        copies: dict[str, list[Item]] = {}
        waiting: deque[str] = deque()
        outcome: dict[str, Examined | BadPicture] = {}

        if only is not None and not chunk.tar:
            chunk = replace(chunk, items=tuple(item for item in chunk.items if item.uri in only))

        def pieces() -> Iterator[tuple[str, bytes]]:
            for read in reading.read(chunk):
                item = read.item if isinstance(read, reading.Read) else read[0]
                if only is not None and item.uri not in only:
                    continue  # of a tar, which is read from end to end
                if not isinstance(read, reading.Read):
                    rows.reject(*read)
                    progress.advance("extract")
                    continue
                key = digests.of_bytes(read.data)
                if key in first:
                    copies.setdefault(key, []).append(item)
                    progress.advance("extract")
                    continue
                first[key] = item
                waiting.append(key)
                yield key, read.data

        for seen in examiner.map(pieces()):
            key = waiting.popleft()
            outcome[key] = BadPicture("killed_worker", "twice") if isinstance(seen, Killed) else seen
            progress.advance("extract")
        failed = [seen.detail for seen in outcome.values() if isinstance(seen, BadPicture) and seen.reason == "model_failed"]
        if failed and not any(isinstance(seen, Examined) for seen in list(examiner.map([BLANK]))):
            raise Failure(f"the models fail on any picture ({failed[0]}): umo-dataset doctor tells more")
        for key, seen in outcome.items():  # only now every copy is known
            if isinstance(seen, BadPicture):
                for item in (first[key], *copies.get(key, ())):
                    rows.reject(item, seen)
                continue
            rows.add(chunk.root, first[key], key, seen)
            for item in copies.get(key, ()):
                rows.add_copy(chunk.root, item, key, seen)
        return rows


@dataclass
class ExtractChunks(beam.PTransform):
    """Chunks become parts; gives the names of the parts that were made."""

    workdir: str
    options: ExtractOptions
    embedder: Embedder
    persons: Weights | None = None
    retry: bool = False
    """Run the transient rejects again, and nothing else."""

    def expand(self, chunks: beam.PCollection[NamedChunk]) -> beam.PCollection[str]:
        from transforms.inference import MakeParts  # late: see there

        extractor = Extractor(self.workdir, self.options, self.embedder, self.persons, self.retry)
        return chunks | "Extract" >> MakeParts(extractor, self.options.accelerator)
