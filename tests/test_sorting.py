from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.sorting import order_by

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
