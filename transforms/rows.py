"""Tables of numbers as numpy columns: a row is about something that has an id.

Ids are drawn from keys (`digests.numbers`), so that rows can be told and kept apart by them anywhere."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.sorting import order_by, places_of

TEXT = np.dtype(object)
"""Of a column of strings."""
Rows = dict[str, np.ndarray]
"""Columns of one length; vectors are rows of a column with two axes."""
Kind = Mapping[str, np.dtype[Any]]
"""The columns of a table; one of vectors has the dtype of a row, as in `np.dtype((np.int32, 128))`."""


def take(rows: Rows, some: np.ndarray) -> Rows:
    return {name: column[some] for name, column in rows.items()}


def together(tables: Sequence[Rows]) -> Rows:
    """One table of several with the same columns, at least one."""
    return tables[0] if len(tables) == 1 else {name: np.concatenate([rows[name] for rows in tables]) for name in tables[0]}


def empty(kind: Kind) -> Rows:
    return {name: np.empty((0, *dtype.shape), dtype.base) for name, dtype in kind.items()}


def rows_of(table: Rows, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows int64 [m] of a table by ascending id that are of some ids int64 [n], and which of these each is of."""
    return places_of(table["id"], ids)


def replaced(table: Rows, rows: np.ndarray, new: Rows) -> Rows:
    """A table by ascending id without some rows, with new ones."""
    stay = np.ones(len(table["id"]), bool)
    stay[rows] = False
    return added(take(table, stay), new)


def added(table: Rows, new: Rows) -> Rows:
    """A table by ascending id, with new rows."""
    both = together([table, new])
    return take(both, order_by(both["id"]))


def once(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row int64 [m] of each different combination of columns [n], in their order, and which combination each row has,
    int64 [n]."""
    columns = tuple(codes(column) if column.dtype == TEXT else column for column in columns)
    order = order_by(*columns)
    new = np.ones(len(order), bool)
    if len(order):
        new[1:] = np.logical_or.reduce([column[order][1:] != column[order][:-1] for column in columns])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number


def codes(column: np.ndarray) -> np.ndarray:
    """Numbers int64 [n] that compare as the strings [n] do."""
    coded = pa.array(column, pa.string()).dictionary_encode()
    rank = np.empty(len(coded.dictionary), np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[coded.indices.to_numpy()]


def distinct(rows: Rows, *columns: str) -> Rows:
    """Each combination of columns once, ascending."""
    return take(rows, once(*(rows[name] for name in columns))[0])


def to_table(rows: Rows) -> pa.Table:
    return pa.table({name: as_column(column) for name, column in rows.items()})


def as_column(column: np.ndarray) -> pa.Array:
    """As Arrow holds it: vectors as bytes."""
    if column.ndim == 1:
        return pa.array(column, pa.string() if column.dtype == TEXT else None)
    data = np.ascontiguousarray(column)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(data.itemsize * data.shape[1]), len(data), [None, pa.py_buffer(data)])


def from_table(table: pa.Table, kind: Kind) -> Rows:
    return {name: from_column(table[name], dtype) for name, dtype in kind.items()}


def from_column(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray:
    """What `as_column` was given, of the dtype of a row."""
    if not dtype.shape:
        return column.to_numpy(zero_copy_only=False)
    chunks = [np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty((0, *dtype.shape), dtype.base), *chunks])
