"""Sorting rows by integers: the same order on every machine, at the speed of sorting plain numbers.

numpy sorts 64-bit integers by vector instructions when it need not keep equals in their order, some ten times as fast as when
it must: a row's own number, put below its key, keeps them. Where both do not fit, the key's lowest bits are left out, and the
few rows that only these tell apart are sorted once more."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BITS = 64


def order_by(*columns: np.ndarray) -> np.ndarray:
    """Indices int64 [n] that sort rows by integer columns [n], by the first above all; equals stay as they are: what
    `np.lexsort(columns[::-1])` gives."""
    order: np.ndarray | None = None
    for key, span in _keys(columns):
        order = _order(key, span) if order is None else order[_order(key[order], span)]
    return np.zeros(0, np.int64) if order is None else order


def unique(column: np.ndarray) -> np.ndarray:
    """The different integers of a column [n], ascending: what `np.unique` gives, which takes 64 ms where this takes 14 (900
    thousand ids)."""
    values = np.sort(column)
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def places_of(ascending: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where some values [n] are in a column [N] that ascends, int64 [m], and which of these is in each place, int64 [m]."""
    starts = np.searchsorted(ascending, values)
    counts = np.searchsorted(ascending, values, "right") - starts
    places = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
    return places, np.repeat(np.arange(len(values)), counts)


def _keys(columns: tuple[np.ndarray, ...]) -> Iterator[tuple[np.ndarray, int]]:
    """Columns as keys uint64 [n], from the last one, neighbours in one key where they fit; and below which number each is."""
    key, span = _from_zero(columns[-1])
    for column in columns[-2::-1]:
        high, size = _from_zero(column)
        if span * size < 1 << BITS:
            high *= np.uint64(span)
            high += key
            key, span = high, span * size
        else:
            yield key, span
            key, span = high, size
    yield key, span


def _from_zero(column: np.ndarray) -> tuple[np.ndarray, int]:
    key = column.astype(np.uint64)
    if not len(column):
        return key, 1
    least, greatest = int(column.min()), int(column.max())
    key -= np.uint64(least % (1 << BITS))
    return key, greatest - least + 1


def _order(key: np.ndarray, span: int) -> np.ndarray:
    """What `np.argsort(key, kind="stable")` gives, of a key uint64 [n] below `span`."""
    bits = len(key).bit_length()
    left_out = np.uint64(max(0, (span - 1).bit_length() + bits - BITS))
    numbered = key >> left_out
    numbered <<= np.uint64(bits)
    numbered |= np.arange(len(key), dtype=np.uint64)
    numbered.sort()
    numbered &= np.uint64((1 << bits) - 1)
    order = numbered.view(np.int64)
    if left_out:
        found = key[order]
        late = np.flatnonzero(found[1:] < found[:-1])
        if len(late):
            found >>= left_out
            places, _ = places_of(found, unique(found[late]))
            rows = np.sort(order[places])
            order[places] = rows[np.argsort(key[rows], kind="stable")]
    return order
