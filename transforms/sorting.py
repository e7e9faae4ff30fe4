"""Sorting rows by integers: the same order on every machine, at the speed of sorting plain numbers.

numpy sorts 64-bit integers by vector instructions when it need not keep equals in their order, some ten times as fast as when
it must: a row's own number, put below its key, keeps them."""
from __future__ import annotations

import numpy as np

LARGEST = 1 << 63


def order_by(*columns: np.ndarray) -> np.ndarray:
    """Indices int64 [n] that sort rows by integer columns [n], by the first above all; equals stay as they are: what
    `np.lexsort(columns[::-1])` gives. Three columns of two million rows take 0.36 s for 0.87, one of small numbers 0.03 for
    0.22 (one core)."""
    key, span = _from_zero(columns[0])
    for column in columns[1:]:
        low, size = _from_zero(column)
        if span * size >= LARGEST:
            key, span = _ranks(key)
        if span * size >= LARGEST:
            low, size = _ranks(low)
        key, span = key * size + low, span * size
    rows, bits = np.arange(len(key)), len(key).bit_length()
    if span << bits >= LARGEST:
        order = np.argsort(key)
        new = np.diff(key[order], prepend=-1) != 0
        if new.all():
            return order
        key, rows = np.cumsum(new), order
    return np.sort(key << bits | rows) & (1 << bits) - 1


def _from_zero(column: np.ndarray) -> tuple[np.ndarray, int]:
    """A column as int64 from 0, and how many numbers there may be: below `LARGEST`."""
    if not len(column):
        return column.astype(np.int64), 1
    low, span = int(column.min()), int(column.max()) - int(column.min()) + 1
    return (column.astype(np.int64) - low, span) if span < LARGEST else _ranks(column)


def _ranks(column: np.ndarray) -> tuple[np.ndarray, int]:
    values, rank = np.unique(column, return_inverse=True)
    return rank, len(values)
