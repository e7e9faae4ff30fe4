"""Files of rows that a user writes: .jsonl, .csv and .parquet."""
from __future__ import annotations

import csv
import json
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.plain import UnusableInput, plainly

MANIFESTS = (".jsonl", ".ndjson", ".csv", ".parquet")
LONGEST_FIELD = 2**24
"""Characters of a CSV's field: captions may be long, and Python's own limit is 131072."""


def read_rows(fs: fsspec.AbstractFileSystem, path: str, needed: str, others: Iterable[str]) -> Iterator[Any]:
    """The rows of a file with the column `needed` and those of `others` that it has; None for a line that is no row.

    Raises UnusableInput where the file cannot be read, or lacks the column."""
    extension = posixpath.splitext(path)[1].lower()
    if extension == ".parquet":
        with plainly(f"{path} is no Parquet that can be read"), fs.open(path, "rb") as file:
            yield from _parquet_rows(path, pq.ParquetFile(file), needed, others)
        return
    with plainly(f"{path} cannot be read"), fs.open(path, "r", encoding="utf-8-sig", errors="replace", newline="") as text:
        if extension == ".csv":
            with plainly(f"{path} is no CSV that can be read"):
                yield from _csv_rows(path, text, needed)
            return
        for line in text:
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield None


def _parquet_rows(path: str, file: pq.ParquetFile, needed: str, others: Iterable[str]) -> Iterator[Any]:
    """A date is no number, and Python knows none before year 1."""
    schema = file.schema_arrow
    _check(path, needed, schema.names)
    known = [column.name for column in schema if column.name in (needed, *others) and not pa.types.is_temporal(column.type)]
    for batch in file.iter_batches(columns=known):
        yield from batch.to_pylist()


def _csv_rows(path: str, text: Iterable[str], needed: str) -> Iterator[Any]:
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.DictReader(text)
    _check(path, needed, rows.fieldnames or ())
    yield from rows


def _check(path: str, needed: str, names: Iterable[str]) -> None:
    if needed not in names:
        raise UnusableInput(f"{path} has no {needed} column, but {', '.join(names)[:200] or 'none at all'}")
