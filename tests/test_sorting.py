from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.sorting import order_by, places_of, unique

FEW, ANY = st.integers(-3, 3), st.integers(-2**63, 2**63 - 1)


@settings(deadline=None)
@given(st.lists(st.tuples(FEW, st.one_of(FEW, ANY), st.one_of(FEW, ANY)), max_size=60), st.integers(1, 3))
def test_the_order_is_that_of_a_stable_sort(rows, width):
    columns = [np.array([row[at] for row in rows], np.int64) for at in range(width)]
    assert order_by(*columns).tolist() == np.lexsort(columns[::-1]).tolist()


def test_many_rows_of_wide_and_equal_numbers_keep_their_order():
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 2**63 - 1, 999)[rng.integers(0, 999, 20_000)]
    for columns in ((wide,), (wide, wide[::-1]), (wide >> 60, rng.integers(0, 9, 20_000).astype(np.int32), wide)):
        assert np.array_equal(order_by(*columns), np.lexsort(columns[::-1]))


def test_rows_that_only_the_lowest_bits_tell_apart_are_in_order():
    rng = np.random.default_rng(0)
    close = rng.integers(0, 5, 20_000)  # a number of 64 bits leaves some 49 of them beside 15 bits of rows
    wide = np.where(rng.random(20_000) < 0.9, close, rng.integers(-2**63, 2**63 - 1, 20_000))
    assert np.array_equal(order_by(wide), np.argsort(wide, kind="stable"))
    assert np.array_equal(order_by(close, wide), np.lexsort((wide, close)))


@given(st.lists(FEW, max_size=20), st.lists(FEW, max_size=8))
def test_places_are_those_of_every_equal_number(column, values):
    ascending = np.sort(np.array(column, np.int64))
    places, whose = places_of(ascending, np.array(values, np.int64))
    assert list(zip(places.tolist(), whose.tolist(), strict=True)) == [
        (place, at) for at, value in enumerate(values) for place in np.flatnonzero(ascending == value).tolist()]


@given(st.lists(st.one_of(FEW, ANY), max_size=60))
def test_different_numbers_are_those_of_a_set(numbers):
    assert unique(np.array(numbers, np.int64)).tolist() == sorted(set(numbers))
