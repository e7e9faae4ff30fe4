"""Rows and Arrow tables: one way from frozen records to Parquet columns and back."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

Row = TypeVar("Row")


def fixed(length: int) -> pa.DataType:
    """float32 vectors of one length. Only for columns without nulls: Parquet cannot read null ones back."""
    return pa.list_(pa.float32(), length)


def to_table(rows: Iterable[Any], schema: pa.Schema) -> pa.Table:
    """A table of frozen records whose attributes are named like the schema's fields."""
    rows = list(rows)
    return pa.Table.from_arrays([_column([getattr(row, field.name) for row in rows], field.type) for field in schema],
                                schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = np.concatenate(values) if values else np.zeros(0, np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind.value_type), type=kind)
    return pa.array([_plain(value) for value in values], kind)


def _plain(value: Any) -> Any:
    """What Arrow takes for a struct, a list or a number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def from_table(table: pa.Table, record: type[Row]) -> Iterator[Row]:
    """The records of a table; list columns of numbers come back as float32 arrays."""
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    lists = {name for name in names if pa.types.is_list(table.schema.field(name).type)
             or pa.types.is_fixed_size_list(table.schema.field(name).type)}
    for row in table.select(names).to_pylist():
        yield record(**{name: np.asarray(value, np.float32) if name in lists and value is not None else value
                        for name, value in row.items()})


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column without nulls as one array [rows, length] of its own float type."""
    length = column.type.list_size
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    empty = pa.array([], column.type.value_type).to_numpy()
    return np.concatenate([empty, *flat]).reshape(-1, length)
