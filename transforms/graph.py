"""Faces into people: strong edges, then average linkage down a ladder, two faces of one image kept apart.

    unit vectors -> grid -> space, cohort (`transforms.space`) -> crowding -> strong edges (design, Identities)
    -> steps of `transforms.homes`, in this process: levels -> adoption of lone faces -> outliers, people

Everything that decides is computed from integers (`transforms.similarity`), and ties go to the lower id: the same faces give
the same identities, in blocks of any shape, with any number of threads. What no edge connects is linked independently.

Measured on 20 thousand generated faces and left out: linking clusters by the similarity of their normalised means (a few
dozen merges, F the same to 0.0005); a floor that falls as clusters grow (0.949 for 0.948); faces of low quality that may
join and never bridge (F 0.960 for 0.970 where a face below 0.4 keeps its best edge alone: fewer true edges reach a bad
face, and hardly more false ones).

Nor are faces of one burst made one beforehand: its pictures are so alike that they are one anyway. Of a million faces of 128
numbers, seed 102, 20 of the 37172 bursts of one person are in two, of 100 thousand of 512, seed 100, none of 3802."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from schemas.embedder import Bounds
from transforms import adoption, clusters, digests, levels, people
from transforms.cells import Cells, neighbours
from transforms.clusters import marks_of_camps, marks_of_images
from transforms.homes import Step, run_here
from transforms.mates import exclusive_images, same_person_twice
from transforms.rows import Kind, Rows, together
from transforms.similarity import (
    COHORT,
    MOST,
    UNIT,
    Edges,
    average_linkage,
    on_grid,
)
from transforms.space import LEARNED, Mean, Space, learn

FEW = 30
"""Faces below which there is no cohort worth the name (design): plain average linkage. On random 12 pictures of
faces/dev it has a BCubed F of 0.99 and a pairwise precision of 0.96, scaling 0.98 and 0.83."""
HALF_WAY = 0.5
"""Of the way from `join` to `normalized_edge`: from there on clusters of several faces are compared without an edge, for a mean
is surer. Beside all of the way F grows by 0 to 0.0007 on five sets of 20 and 100 thousand generated faces, seeds 3 to 5, that
of look-alikes by 0 to 0.004; a quarter costs precision (0.970 for 0.973 at 100 thousand of 128 numbers). All that before
vectors were normalized."""


@dataclass(frozen=True)
class Graph:
    """Which faces are alike, on the whole: what people are made of."""

    ids: np.ndarray
    """int64 [N], `digests.numbers` of the face_ids, by which ties are broken"""
    faces: np.ndarray
    """int16 [N, D], on the grid"""
    half: np.ndarray
    """int64 [N], `Cohort.crowding`"""
    images: np.ndarray
    """int64 [N], `exclusive_images`"""
    cells: Cells
    edges: Edges
    space: Space
    """That the faces are in"""

    @staticmethod
    def of(embeddings: np.ndarray, face_ids: Sequence[str], images: np.ndarray, bounds: Bounds) -> Graph:
        """Of no more faces than one cell holds.

        embeddings: float32 [N, D], unit rows; face_ids: N different strings; images: int [N], the same number for the faces of
        one image.

        Raises ValueError where a vector is too long or not finite."""
        grid, ids = on_grid(embeddings).astype(np.int16), digests.numbers(face_ids)
        mean = Mean.of(grid, exclusive_images(images, np.zeros(len(images), bool)))
        drawn = np.argsort(ids)[:LEARNED]
        space, cohort = learn(grid[drawn], images[drawn[:COHORT]], mean, bounds)
        centred = space.centred(grid)
        exempt = same_person_twice(centred, images, bounds.strict_same_person * UNIT)
        faces, cells = space.project(centred), Cells.one(grid.shape[1])
        half = cohort.crowding(faces)
        edges = neighbours(cells, faces, half, space.edge(bounds), MOST)
        return Graph(ids, faces, half, exclusive_images(images, exempt), cells, edges, space)

    def of_rows(self, rows: np.ndarray) -> Graph:
        """Of some faces int64 [n], ascending."""
        if len(rows) == len(self.faces):
            return self
        place = np.full(len(self.faces), -1)
        place[rows] = np.arange(len(rows))
        ours = (place[self.edges.first] >= 0) & (place[self.edges.second] >= 0)
        edges = Edges(place[self.edges.first[ours]], place[self.edges.second[ours]], self.edges.similarity[ours])
        return Graph(self.ids[rows], self.faces[rows], self.half[rows], self.images[rows], self.cells, edges, self.space)


def cluster_faces(graph: Graph, bounds: Bounds, persons: np.ndarray, camps: scipy.sparse.csr_matrix,
                  merged: Sequence[np.ndarray] = ()) -> Mapping[str, Rows]:
    """What is kept in the end of faces as people: see `people.kinds`; faces are numbered by their rows.

    persons: int64 [N], the same number for faces that are known to be one person, -1 for all others: links that must be,
        whatever the vectors say
    camps: int64 [N, S], sparse: faces with a camp in common are known to be two people, unless they have one number in
        `persons`: links that must not be
    merged: rows of faces, int [M] each, whose clusters are made one in the end
    bounds: of the embedder. `small_join` alone rules where there are fewer than `FEW` faces; where there are more, `join` and
        `adopt` rule"""
    cells, space, merges = (lambda: graph.cells), (lambda: graph.space), any(map(len, merged))
    if len(graph.faces) < FEW:
        one = average_linkage(graph.faces, graph.images, persons, camps, bounds.small_join)
        steps = steps_of_few(bounds, cells, space, merges)
    else:
        one, steps = persons, all_steps(bounds, cells, space, bool((persons >= 0).any()), merges)
    sure = persons >= 0
    sure[np.concatenate([*merged, np.zeros(0, np.int64)])] = True
    return run_here(steps, all_kinds(graph.cells), letters(graph, one, camps, sure, merged))


def all_steps(bounds: Bounds, cells: Callable[[], Cells], space: Callable[[], Space], known: bool, merges: bool,
              first: int = 0) -> Iterator[Step]:
    """From faces and edges to people. `known`: whether it is known of some faces whose they are; `merges`: whether some people
    are to be made one; `first`: of the blocks that were not linked in an earlier run, whose clusters homes keep."""
    whole = bounds.join + HALF_WAY * (bounds.normalized_edge - bounds.join)
    yield from levels.steps(bounds.join, whole, cells, known, first > 0)
    yield from adoption.steps(cells, bounds.adopt, bounds.join, first)
    yield from people.steps(cells, space, bounds.outlier, bounds.cohesion, merges)


def steps_of_few(bounds: Bounds, cells: Callable[[], Cells], space: Callable[[], Space],
                 merges: bool) -> Iterator[Step]:
    """The same where it is known of all faces whose they are."""
    yield levels.Begin()
    yield from levels.join_known()
    yield from people.steps(cells, space, bounds.outlier, bounds.cohesion, merges)


def all_kinds(cells: Cells) -> dict[str, Kind]:
    """All tables of `all_steps`."""
    size = cells.centres.shape[1], min(cells.spill, len(cells))
    return clusters.kinds(*size) | adoption.kinds(*size) | people.kinds(*size)


def letters(graph: Graph, persons: np.ndarray, camps: scipy.sparse.csr_matrix, sure: np.ndarray,
            merged: Sequence[np.ndarray]) -> dict[str, Rows]:
    """What the first step takes in; arguments as in `cluster_faces`, sure: bool [N], faces of whom something is known."""
    ids, seen, said = graph.ids, np.flatnonzero(graph.images >= 0), camps.tocoo()
    first, second = graph.edges.first, graph.edges.second
    apart = (graph.images[first] == graph.images[second]) & (graph.images[first] >= 0)
    apart |= np.asarray(camps[first].multiply(camps[second]).sum(axis=1)).ravel() > 0
    rows = np.concatenate([*merged, np.zeros(0, np.int64)])
    return {
        "newcomers": {"id": ids, "face": np.arange(len(ids)), "half": graph.half, "person": persons, "sure": sure,
                      "vector": graph.faces, "cells": graph.cells.nearest(graph.faces).astype(np.int32)},
        "marks": together([marks_of_images(ids[seen], graph.images[seen]),
                           marks_of_camps(ids[said.row], said.col)]),
        "replies": together([{"id": ids[ends], "other": ids[others], "average": graph.edges.similarity.astype(np.float64),
                              "forbidden": apart} for ends, others in ((first, second), (second, first))]),
        "merges": {"id": ids[rows], "merge": np.repeat(np.arange(len(merged)), list(map(len, merged)))}}
