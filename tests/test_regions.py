"""Where clusters are compared, against the cells of their middles."""
from __future__ import annotations

import numpy as np

from transforms.cells import Cells
from transforms.clusters import kinds
from transforms.homes import Home
from transforms.regions import cells_of, means_of, to_regions
from transforms.similarity import on_grid


def some(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 16))
    return on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int16)


def test_a_face_alone_has_the_cells_that_it_came_with_and_others_those_of_their_mean():
    cells = Cells.around(some(40, 0).astype(np.float32), np.zeros(40, np.int64), 5, 4)
    faces, ids = some(30, 1), np.sort(np.random.default_rng(2).permutation(1000)[:30])
    size, sums = np.repeat([1, 3], [12, 6]), np.add.reduceat(faces.astype(np.int32), [*range(12), *range(12, 30, 3)])
    whose = np.concatenate([np.arange(12), np.arange(12, 30, 3)])  # the first face of each names it
    home = Home(1, kinds(16, 5), {"clusters": {"id": ids[whose], "size": size}, "faces": {"id": ids},
                                  "cells": {"cells": cells.nearest(faces).astype(np.int32)}})
    mean = means_of(sums, size)
    assert np.abs(mean - sums / size[:, None]).max() <= 0.5
    found = cells_of(home, cells, ids[whose], mean)
    assert np.array_equal(found, cells.nearest(mean))


def test_each_cell_of_a_vector_is_sent_to_its_region_once():
    cells = Cells.around(some(40, 0).astype(np.float32), np.zeros(40, np.int64), 5, 4)
    found = cells.nearest(some(30, 1))
    sent = []
    for rows, place in to_regions(cells, found):
        for row, region, its in zip(rows.tolist(), place["region"].tolist(), place["cells"].tolist(), strict=True):
            assert {cells.region(np.array([cell]))[0] for cell in its if cell >= 0} == {region}
            sent += [(row, cell) for cell in its if cell >= 0]
    assert sorted(sent) == [(row, cell) for row, its in enumerate(found.tolist()) for cell in its]
