"""Who is drawn for what is known of all faces."""
from __future__ import annotations

import pytest

from transforms import cells, digests
from transforms.space import LEARNED
from transforms.survey import are_drawn


def test_the_sample_is_all_of_few_faces_and_no_more_of_many_than_is_needed():
    ids = digests.numbers(f"{number:032x}:0" for number in range(200_000))
    learned, middles = LEARNED / 200_000, cells.SAMPLE * 16 / cells.CELL
    assert are_drawn(ids, 16, LEARNED).all()
    assert are_drawn(ids, 1, 200_000).mean() == pytest.approx(learned, rel=0.02)
    some, fewer = are_drawn(ids, 16, 200_000), are_drawn(ids, 16, 10_000_000)
    assert some.mean() == pytest.approx(middles, rel=0.02)
    assert fewer.mean() == pytest.approx(cells.SAMPLE * cells.CENTRES / 10_000_000, rel=0.05) and some[fewer].all()
