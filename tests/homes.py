"""Steps in many homes, in one process, and what came out of some."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from transforms import naming
from transforms.homes import Home
from transforms.rows import Kind, Rows, take, together


def in_homes(count: int):
    """What `run_here` does, with rows in so many homes, and letters in another order."""

    def split(some: list[tuple[str, list[tuple[np.ndarray, Rows]]]]) -> list[dict[str, Rows]]:
        boxes: list[dict[str, list[Rows]]] = [{} for _ in range(count)]
        for name, sent in some:
            for to, rows in sent:
                for home in np.unique(to):
                    boxes[home].setdefault(name, []).append(take(rows, np.flatnonzero(to == home)[::-1]))
        return [{name: together(tables[::-1]) for name, tables in box.items()} for box in boxes]

    def ids_of(name: str, tables: Mapping[str, Rows]) -> np.ndarray:
        """By which the home of each row is found; vectors and cells are in the order of the faces."""
        rows = tables["faces" if name in ("vectors", "cells") else name]
        return rows["id"] if "id" in rows else naming.near(rows["name"])

    def run(steps, kinds: Mapping[str, Kind], letters: Mapping[str, Rows],
            kept: Mapping[str, Rows] | None = None) -> dict[str, Rows]:
        came = split([(name, [(ids_of(name, letters) % count, rows)]) for name, rows in letters.items()])
        shelves = [{name: take(rows, ids_of(name, kept) % count == number) for name, rows in kept.items()}
                   for number in range(count)] if kept else [{} for _ in range(count)]
        homes = [Home(count, kinds, *its) for its in zip(shelves, came, strict=True)]
        for step in steps:
            for home in homes:
                step(home)
            came = split([sent for home in homes for sent in home.sent.items()])
            homes = [Home(count, kinds, home.kept, its) for home, its in zip(homes, came, strict=True)]
        tables = {name: together([home.keeps(name) for home in homes]) for home in homes for name in home.kept}
        return {name: take(rows, np.argsort(ids_of(name, tables), kind="stable")) if "name" not in rows else rows
                for name, rows in tables.items()}

    return run


def told(kept: Mapping[str, Rows]) -> tuple[np.ndarray, np.ndarray]:
    """The person of each face, int64 [N], and its cosine to the mean of those it was put together with, float64 [N]."""
    results = take(kept["results"], np.argsort(kept["results"]["face"]))
    return numbered(np.where(results["lost"], -1, np.unique(results["head"], return_inverse=True)[1])), results["similarity"]


def numbered(label: np.ndarray) -> np.ndarray:
    """Labels int64 [N] numbered from 0 in the order in which they first occur; negative ones become -1."""
    known = label >= 0
    _, first, cluster = np.unique(label[known], return_index=True, return_inverse=True)
    result = np.full(len(label), -1, np.int64)
    result[known] = np.argsort(np.argsort(first))[cluster]
    return result
