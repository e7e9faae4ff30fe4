"""The work directory: folders of Parquet parts, and the ledger that says which of them are valid.

A part is put in one call, on local disks under another name first, so that a half-written one is never seen (design,
point 9)."""
from __future__ import annotations

import contextlib
import io
import json
import os
import posixpath
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import digests
from transforms.failure import Failure
from transforms.plain import plainly

LEDGER = "_parts.json"
PHOTOS, SYNTHETIC = "photos", "synthetic"
"""Producers, in every ledger: what comes from the INPUTs, and what was composed or generated from that."""
SCHEMA_VERSION = 1
"""Of the work directory. Raised when a column changes its meaning, so that older parts are refused and not misread."""
BUFFER = 1 << 20
"""Bytes that are written to a local disk at once. A part of 16 batches of 2000 rows takes 0.5 ms, for 0.9 where each of their
buffers is written by itself."""


class NotReady(Failure):
    """A stage's folder is missing, unfinished or damaged; the message is one line that says what to run."""


class OtherSchema(Failure):
    """A stage's folder was written by another version, whose columns may mean other things."""


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a URL or bare path, and the path inside it. Raises UnusableInput where nothing opens such URLs.

    `::` chains filesystems for fsspec, but may stand in a local folder's name: what is there comes first."""
    if "::" in url and "\0" not in url and os.path.exists(url):
        return fsspec.filesystem("file"), os.path.abspath(url)
    with plainly(url):
        fs, path = fsspec.core.url_to_fs(url)
    return fs, path


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def join(url: str, *names: str) -> str:
    """`url/name/…`, whatever the protocol."""
    return posixpath.join(url.rstrip("/") or "/", *names)


def put(url: str, data: bytes) -> None:
    """Write one whole file: in one call, on local disks under a temporary name first."""
    fs, path = filesystem(url)
    if not is_local(fs):
        fs.pipe_file(path, data)
        return
    with appearing_whole(path) as waiting, open(waiting, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def _sink(url: str) -> Iterator[pa.NativeFile]:
    """To write one whole file into, which is there when the block has ended: on local disks it is not held in memory first."""
    fs, path = filesystem(url)
    if is_local(fs):
        with appearing_whole(path) as waiting, pa.OSFile(waiting, "wb") as file, pa.BufferedOutputStream(file, BUFFER) as sink:
            yield sink
    else:
        sink = pa.BufferOutputStream()
        yield sink
        fs.pipe_file(path, sink.getvalue().to_pybytes())


def put_file(url: str, local: str) -> None:
    """Like `put`, for a finished local file that may be too large for memory."""
    fs, path = filesystem(url)
    if not is_local(fs):
        fs.put_file(local, path)
        return
    with appearing_whole(path) as waiting:
        shutil.copyfile(local, waiting)


@contextlib.contextmanager
def appearing_whole(path: str) -> Iterator[str]:
    """A temporary name beside `path`, which takes its place at the end, or leaves nothing."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    waiting = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        yield waiting
        os.replace(waiting, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(waiting)
        raise


def remove(url: str) -> None:
    """Remove a file, if there is one."""
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def size_of(url: str) -> int | None:
    """Bytes of a file; None where there is none."""
    fs, path = filesystem(url)
    try:
        return fs.size(path)
    except FileNotFoundError:
        return None


def get(url: str) -> bytes:
    """The bytes of one whole file. Raises FileNotFoundError."""
    fs, path = filesystem(url)
    return fs.cat_file(path)


@dataclass(frozen=True)
class Parts:
    """One stage's folder of a work directory."""

    workdir: str
    name: str
    """`images`, `faces`, `crops`, `identities`, `samples`, …"""
    synthetic: bool = False
    """Whether the parts of the producer SYNTHETIC are seen too. What is made of photos does not see them, so that it is the
    same with and without them (design, point 6)."""

    @cached_property
    def url(self) -> str:
        return join(self.workdir, self.name)

    def part_url(self, part: str) -> str:
        return join(self.url, part)

    def existing(self) -> set[str]:
        """Names of the parts that are there, in the ledger or not. One listing."""
        fs, path = filesystem(self.url)
        try:
            return {posixpath.basename(found) for found in fs.ls(path, detail=False) if found.endswith((".parquet", ".arrow"))}
        except FileNotFoundError:
            return set()

    def write(self, part: str, table: pa.Table, row_group: int | None = None) -> None:
        """Put one part, in groups of `row_group` rows that can be read alone. The same table gives the same bytes."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=row_group)
        put(self.part_url(part), buffer.getvalue())

    def write_batches(self, part: str, tables: Sequence[pa.Table]) -> None:
        """Put one part, as an Arrow file with a batch for each table of at least one row: for a while, and for readers of
        single batches."""
        with _sink(self.part_url(part)) as sink:
            if tables:
                with pa.ipc.new_file(sink, tables[0].schema) as writer:
                    for table in tables:
                        writer.write_batch(table.combine_chunks().to_batches()[0])

    def read_batches(self, part: str, numbers: Sequence[int]) -> pa.Table:
        """Some batches of a part; on a local disk they are mapped and not read."""
        fs, path = filesystem(self.part_url(part))
        with pa.memory_map(path) if is_local(fs) else fs.open(path, "rb") as opened:
            # a buffer is opened in 0.06 ms, a file in 0.19: Arrow asks other threads to read it
            file = pa.ipc.open_file(opened.read_buffer() if is_local(fs) else opened)
            return pa.Table.from_batches([file.get_batch(number) for number in numbers], file.schema)

    def sizes(self) -> dict[str, int]:
        """Bytes of each part that is there, in the ledger or not. One listing."""
        fs, path = filesystem(self.url)
        return {posixpath.basename(found["name"]): found["size"] for found in fs.ls(path, detail=True)}

    def read(self, part: str, columns: list[str] | None = None) -> pa.Table:
        return pq.ParquetFile(io.BytesIO(get(self.part_url(part)))).read(columns, use_threads=False)

    def read_rows(self, part: str, rows: Sequence[int]) -> pa.Table:
        """Some rows of a part, in the order given; only their groups are read."""
        fs, path = filesystem(self.part_url(part))
        with fs.open(path, "rb") as opened:
            file = pq.ParquetFile(opened)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            group_of = np.searchsorted(starts, rows, "right") - 1
            groups = np.unique(group_of)
            table = file.read_row_groups(groups.tolist(), use_threads=False)
        read_starts = np.cumsum([0, *(sizes[group] for group in groups)])
        return table.take(pa.array(read_starts[np.searchsorted(groups, group_of)] + np.asarray(rows) - starts[group_of]))

    def rows(self, part: str) -> int:
        """How many rows a part has."""
        fs, path = filesystem(self.part_url(part))
        with fs.open(path, "rb") as opened:
            return pq.ParquetFile(opened).metadata.num_rows

    def schema(self, part: str) -> pa.Schema:
        return pq.read_schema(io.BytesIO(get(self.part_url(part))))

    def read_all(self, columns: list[str] | None = None, producers: Iterable[str] | None = None) -> pa.Table:
        """Every valid row, parts in ledger order, with an added column `part`."""
        tables = []
        for part in self.parts(producers):
            table = self.read(part, columns)
            tables.append(table.append_column("part", pa.array([part] * len(table), pa.string())))
        if not tables:
            raise NotReady(f"{self.url} holds no parts")
        return pa.concat_tables(tables)

    def _read_ledger(self) -> dict[str, Any]:
        try:
            ledger = json.loads(get(join(self.url, LEDGER)))
        except (FileNotFoundError, json.JSONDecodeError):
            raise NotReady(f"{self.url} is not finished: run `umo-dataset {MADE_BY[self.name]} "
                           f"--workdir {self.workdir}` first") from None
        if ledger.get("schema", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise OtherSchema(f"{self.url} was written in schema {ledger['schema']}, this is {SCHEMA_VERSION}: "
                           "use the version that wrote it, or a new --workdir")
        return ledger

    def ledger(self) -> dict[str, list[str]]:
        """Producer -> names of its valid parts. Raises NotReady where the stage has not finished, OtherSchema."""
        return self._read_ledger()["parts"]

    def _seen(self, ledger: Mapping[str, list[str]]) -> dict[str, list[str]]:
        return {producer: names for producer, names in ledger.items() if self.synthetic or producer != SYNTHETIC}

    def parts(self, producers: Iterable[str] | None = None) -> list[str]:
        """Names of valid parts, all producers' that are seen or the named ones'."""
        ledger = self.ledger()
        return [part for producer in sorted(self._seen(ledger) if producers is None else set(producers) & ledger.keys())
                for part in ledger[producer]]

    def digest(self) -> str:
        """Of what is valid now and seen: says whether something was made from this or from an earlier state of it."""
        ledger = self._read_ledger()
        return digests.of({**ledger, "parts": self._seen(ledger["parts"])})

    def made_from(self) -> dict[str, str]:
        """Folder -> the digest that it had when this was made from it."""
        return self._read_ledger().get("made_from", {})

    def check_made_from(self, *sources: Parts) -> None:
        """Raises NotReady where one of the sources has changed since."""
        for source in sources:
            if self.made_from().get(source.name) != source.digest():
                raise NotReady(f"{self.url} was made from other {source.name} than are there now: run "
                               f"`umo-dataset {MADE_BY[self.name]} --workdir {self.workdir}` again")

    def options(self) -> dict[str, Any]:
        """The options that this was made by, as they were recorded."""
        return self._read_ledger().get("options", {})

    def commit(self, parts: Mapping[str, Iterable[str]], made_from: Mapping[str, str] | None = None,
               options: Mapping[str, Any] | None = None) -> None:
        """Replace the named producers' parts in the ledger, in one write, then remove what no producer lists.

        `made_from`: name -> digest of what they were made from, see `state_of`; `options`: what they were made by; both stay
        as they are where they are not given."""
        try:
            before = self._read_ledger()
        except NotReady:
            before = {}
        ledger = {**before.get("parts", {}), **{producer: sorted(names) for producer, names in parts.items()}}
        text = json.dumps({"schema": SCHEMA_VERSION, "parts": ledger,
                           "made_from": before.get("made_from", {}) if made_from is None else made_from,
                           "options": before.get("options", {}) if options is None else options}, indent=1, sort_keys=True)
        put(join(self.url, LEDGER), text.encode())
        listed = {part for names in ledger.values() for part in names}
        for part in sorted(self.existing() - listed):
            remove(self.part_url(part))

    def discard(self) -> None:
        """Remove the folder and all that is in it, if it is there."""
        fs, path = filesystem(self.url)
        with contextlib.suppress(FileNotFoundError):
            fs.rm(path, recursive=True)


def places(parts: np.ndarray) -> np.ndarray:
    """The place of each row in its part, int64 [rows], from the part of each row of `read_all`."""
    starts = np.flatnonzero(np.concatenate([[True], parts[1:] != parts[:-1]])) if len(parts) else np.zeros(0, np.int64)
    lengths = np.diff([*starts, len(parts)])
    return np.arange(len(parts)) - np.repeat(starts, lengths)


def state_of(*sources: Parts) -> dict[str, str]:
    """Folder -> digest of what is valid in it now. Raises NotReady."""
    return {source.name: source.digest() for source in sources}


MADE_BY = {"images": "extract", "faces": "extract", "crops": "extract", "rejects": "extract",
           "identities": "cluster", "people": "cluster", "grid": "cluster", "cells": "cluster", "crowding": "cluster",
           "edges": "cluster", "clusters": "cluster", "synthetic": "synthesize",
           "drafts": "pair", "splits": "pair", "samples": "pair", "shards": "write"}
"""Folder -> the command that makes it."""
