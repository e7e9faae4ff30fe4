"""Where what homes keep is compared: in the regions of its cells (`transforms.cells`)."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transforms.cells import Cells
from transforms.homes import Home
from transforms.rows import Rows
from transforms.stars import chunks


def means_of(sums: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Mean vectors int16 [n, D] on the grid of clusters with sums int32 [n, D] of so many faces int64 [n]."""
    mean = np.empty(sums.shape, np.int16)
    for part in chunks(len(sums), sums.shape[1]):
        mean[part] = np.rint(sums[part] / size[part, None])
    return mean


def cells_of(home: Home, cells: Cells, ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The cells int64 [n, S] of clusters int64 [n] with middles int16 [n, D]: those of its face where there is one alone."""
    clusters, found = home.keeps("clusters"), np.empty((len(ids), min(cells.spill, len(cells))), np.int64)
    alone = clusters["size"][np.searchsorted(clusters["id"], ids)] == 1
    found[alone] = home.keeps("cells")["cells"][np.searchsorted(home.keeps("faces")["id"], ids[alone])]
    found[~alone] = cells.nearest(vectors[~alone])
    return found


def to_regions(cells: Cells, found: np.ndarray) -> Iterator[tuple[np.ndarray, Rows]]:
    """Where vectors with cells int64 [n, S] are compared: their rows int64 [m], once for each region that has cells of them;
    the region and the cells in it, -1 where another region has one."""
    for part in chunks(*found.shape):
        region = cells.region(found[part])
        pairs = np.unique(np.arange(len(region))[:, None] * len(cells.heads) + region)
        at, one = np.divmod(pairs, len(cells.heads))
        yield at + part.start, {"region": one, "cells": np.where(region[at] == one[:, None], found[part][at], -1)}
