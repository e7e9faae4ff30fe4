"""Write shards: read the pictures of each sample again, and put them into tars with all that is known of them.

Takes Shard · Gives names of finished parts of shards, the account of what was written · Rejects samples whose pictures
changed or are gone"""
from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.embedder import Embedder
from schemas.reject import REJECTS, Reject
from schemas.sample import JSON_SCHEMA, Sample, from_row, to_json
from schemas.table import to_table
from transforms import digests, pictures, progress, reading
from transforms.ahead import ahead
from transforms.crops import CropOptions, render
from transforms.parts import Parts, filesystem, join, put, put_file
from transforms.pictures import UNLIMITED, BadPicture
from transforms.shards import Shard, npz, write_members

VERSION = 3
"""Raised when the same samples and options give other bytes."""
BATCH = 64
"""Samples of a shard that are Python objects at a time: with 128 numbers a face 21 KiB each (measured), and 2 KiB as rows of a
table."""
SHARDS = pa.schema([("path", pa.string()), ("references", pa.int32()), ("split", pa.string()), ("content", pa.string()),
                    ("samples", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string()), ("parquet_sha256", pa.string())])
"""One row a shard part: what was written. A shard that lost all its samples has 0 samples and no file."""


@dataclass(frozen=True)
class WriteOptions:
    target_size: int = field(default=1024, metadata={
        "least": 64,
        "help": "longest side of a target in pixels, never enlarged; default: %(default)s"})
    shard_bytes: int = field(default=2 ** 28, metadata={
        "least": 1,
        "help": "about how large a shard may be; default: %(default)s, 256 MiB"})
    about: str | None = field(default=None, metadata={
        "metavar": "FILE",
        "help": "a Markdown file on where the photos come from, for the dataset's card; default: the card says nothing of it",
        "recorded": False})


class LostPicture(Exception):
    """A picture of a sample that is not what it was; `reason` is of the closed list in `schemas.reject`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def read_picture(root: str, uri: str, image_key: str) -> PIL.Image.Image:
    """A picture that extract has seen, upright, in sRGB. Raises LostPicture."""
    try:
        data = reading.read_again(root, uri)
    except OSError as error:
        raise LostPicture("gone", f"{uri}: {type(error).__name__}") from None
    if digests.of_bytes(data) != image_key:
        raise LostPicture("changed", uri)
    try:
        return pictures.decode(data, UNLIMITED)
    except BadPicture as bad:
        raise LostPicture("changed", f"{uri}: {bad.detail}") from None


@dataclass(frozen=True)
class Rendered:
    """A sample's members, in the order of the contract, and its JSON."""

    members: list[tuple[str, bytes]]
    about: dict[str, object]


def render_sample(sample: Sample, options: WriteOptions, crops: CropOptions, embedder: Embedder) -> Rendered:
    """Read, cut, resize and encode a sample's pictures. Raises LostPicture."""
    target = read_picture(sample.target.root, sample.target.uri, sample.target.image_key)
    written = pictures.resize(target, options.target_size)
    about = to_json(sample, (written.width / target.width, written.height / target.height), written.size,
                    f"{embedder.backend}/{embedder.name}")
    references = [pictures.encode(render(read_picture(one.root, one.uri, one.image_key), np.asarray(one.crop), crops))
                  for one in sample.references]
    faces = np.asarray(sample.target_embeddings, np.float16).reshape(len(sample.similarity_matrix[0]), -1)
    arrays = npz(target=faces, refs=np.asarray(sample.reference_embeddings, np.float16).reshape(len(references), -1))
    key = sample.key
    return Rendered([
        (f"{key}.json", json.dumps(about, ensure_ascii=False, sort_keys=False).encode()), (f"{key}.npz", arrays),
        *((f"{key}.ref_{number}.jpg", data) for number, data in enumerate(references, 1)),
        (f"{key}.target.jpg", pictures.encode(written)), (f"{key}.txt", sample.prompt.encode())], about)


class WriteShard(beam.DoFn):
    """One shard: its tar and, beside it, the Parquet of its samples' JSON; then the account of both."""

    def __init__(self, workdir: str, output: str, options: WriteOptions, crops: CropOptions, embedder: Embedder) -> None:
        self.workdir, self.output, self.options = workdir, output, options
        self.crops, self.embedder = crops, embedder

    def process(self, shard: Shard) -> Iterator[str]:
        samples = read_rows(self.workdir, shard)
        name = shard_part(shard, self.output)
        content = content_of(samples, self.options, self.crops)
        if self._stands(shard, name, content):
            progress.advance("write", len(samples))
        else:
            self._write(shard, samples, name, content)
        yield name

    def _stands(self, shard: Shard, name: str, content: str) -> bool:
        """Whether an earlier run finished this very shard. One that lost samples is tried again."""
        try:
            done = Parts(self.workdir, "shards").read(name).to_pylist()[0]
        except FileNotFoundError:
            return False
        return (done["content"] == content and done["samples"] == len(shard.rows)
                and digest_of(join(self.output, f"{shard.path}.tar")) == done["sha256"]
                and digest_of(join(self.output, f"{shard.path}.parquet")) == done["parquet_sha256"])

    def _write(self, shard: Shard, samples: pa.Table, name: str, content: str) -> None:
        abouts = Abouts()
        rejects: list[Reject] = []
        row = {"path": shard.path, "references": shard.references, "split": shard.split, "content": content,
               "samples": 0, "bytes": 0, "sha256": "", "parquet_sha256": ""}
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            write_members(file, self._members(samples, abouts, rejects))
            file.flush()
            if len(abouts):
                parquet = abouts.parquet()
                put_file(join(self.output, f"{shard.path}.tar"), file.name)
                put(join(self.output, f"{shard.path}.parquet"), parquet)
                row |= {"samples": len(abouts), "bytes": os.path.getsize(file.name), "sha256": digest_of(file.name) or "",
                        "parquet_sha256": hashlib.sha256(parquet).hexdigest()}
        Parts(self.workdir, "rejects").write(name, to_table(sorted(rejects, key=lambda row: row.uri), REJECTS))
        Parts(self.workdir, "shards").write(name, pa.Table.from_pylist([row], SHARDS))

    def _members(self, samples: pa.Table, abouts: Abouts, rejects: list[Reject]) -> Iterator[tuple[str, bytes]]:
        """Members of all samples by key; pictures are decoded, resized and encoded by as many threads as cores, for
        Pillow gives the interpreter's lock free in all three (measured: two threads are 1.8 to 1.9 times as fast as one)."""
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(cores) as threads:
            def submit(sample: Sample) -> Future[Rendered]:
                return threads.submit(render_sample, sample, self.options, self.crops, self.embedder)

            for sample, rendered in ahead(submit, samples_of(samples), 2 * cores):
                progress.advance("write")
                try:
                    done = rendered.result()
                except LostPicture as lost:
                    rejects.append(Reject.of(sample.target.uri, "write", lost.reason, f"{sample.key} {lost.detail}"))
                    continue
                abouts.add(done.about)
                yield from done.members


class Abouts:
    """The JSON of samples, as rows of the Parquet beside their shard."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._waiting: list[dict[str, object]] = []

    def __len__(self) -> int:
        return sum(map(len, self._tables)) + len(self._waiting)

    def add(self, about: dict[str, object]) -> None:
        self._waiting.append(about)
        if len(self._waiting) == BATCH:
            self._gather()

    def _gather(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._waiting, JSON_SCHEMA))
        self._waiting = []

    def parquet(self) -> bytes:
        """The file."""
        self._gather()
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables(self._tables).combine_chunks(), buffer, compression="zstd")
        return buffer.getvalue().to_pybytes()


def read_rows(workdir: str, shard: Shard) -> pa.Table:
    """The rows of `samples` of a shard, by key."""
    rows_of: dict[str, list[int]] = {}
    for part, row in shard.rows:
        rows_of.setdefault(part, []).append(row)
    samples = Parts(workdir, "samples")
    return pa.concat_tables([samples.read_rows(part, rows) for part, rows in sorted(rows_of.items())]).sort_by("key")


def samples_of(rows: pa.Table) -> Iterator[Sample]:
    """The samples that rows of `samples` hold, in their order."""
    for start in range(0, len(rows), BATCH):
        yield from map(from_row, rows.slice(start, BATCH).to_pylist())


def digest_of(url: str) -> str | None:
    """sha256 of a file, 64 hex characters; None where there is none."""
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def shard_part(shard: Shard, output: str) -> str:
    """The name of a shard's account: one a place, so that a shard written anew replaces it."""
    return f"{digests.of(output, shard.path)}.parquet"


def content_of(samples: pa.Table, options: WriteOptions, crops: CropOptions) -> str:
    """A digest of the samples themselves and of what their pictures are made by."""
    each = [digests.of(repr(sample)) for sample in samples_of(samples)]
    return digests.of(each, options.target_size, crops.ref_size, VERSION)


@dataclass
class WriteShards(beam.PTransform):
    """Shards become tars and their accounts."""

    workdir: str
    output: str
    options: WriteOptions
    crops: CropOptions
    embedder: Embedder

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[str]:
        return (shards
                | "Spread" >> beam.Reshuffle()  # shards, on any worker
                | "Write" >> beam.ParDo(WriteShard(self.workdir, self.output, self.options, self.crops,
                                                   self.embedder)))
