"""Find which faces are alike, where there are too many to compare all with all.

Takes blocks that `transforms.survey` laid out · Gives parts of crowding and edges, one a block · Rejects nobody

    blocks: crowding, cells of each face -> regions: the edges of their cells -> blocks: the best edges of each face

Between workers travel names of parts and numbers of batches, vectors in no shuffle: a block leaves the faces of a region in a
batch of their own, and a worker reads those of one region from all blocks."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.embedder import Bounds
from schemas.table import vectors
from transforms import digests, progress
from transforms.blocks import ROW_BITS, Block, Earlier, blocks, from_binary
from transforms.cells import by_cell, compare_cell
from transforms.graph import Graph
from transforms.in_child import InChild
from transforms.mates import exclusive_images, same_person_twice
from transforms.parts import NotReady, Parts, state_of
from transforms.rows import as_column
from transforms.similarity import MOST, UNIT, BestEdges, Edges, best_of_each
from transforms.survey import Table, table_part

GROWTH = 1.1
"""Times the bytes of faces that a table of cells was made of, up to which it serves more: a choice. Cells grow as much."""
VERSION = 8
"""Raised when the same faces and bounds give other edges, or another record of them."""
Batch = tuple[str, int]
"""A part, and the number of one of its batches."""


class PlaceBlock(beam.DoFn):
    """Find the cells of a block's faces, and lay each face into every region that has some of them."""

    def __init__(self, workdir: str, state: str, bounds: Bounds, earlier: Earlier | None) -> None:
        self.workdir, self.state, self.bounds, self.earlier = workdir, state, bounds, earlier

    def setup(self) -> None:
        self.table = Table.read(self.workdir, table_part(self.state))

    def process(self, block: Block) -> Iterator[tuple[int, Batch]]:
        name = block.name(self.state)
        rows = Parts(self.workdir, "grid").read(name, ["id", "image_key", "vector"])
        ids = rows["id"].to_numpy()
        centred = self.table.space.centred(from_binary(rows["vector"]))
        faces = self.table.space.project(centred)
        before = self.earlier.name(block) if self.earlier else None
        about = Parts(self.workdir, "crowding").read(before) if before else self._about(faces, centred, rows["image_key"])
        Parts(self.workdir, "crowding").write(name, about)
        half, cells = about["half"].to_numpy(), vectors(about["cells"])
        region = self.table.cells.region(cells)
        regions, tables, placed = np.unique(region), [], block.name(self.state, "arrow")
        for one in regions:
            its = np.flatnonzero((region == one).any(axis=1))
            inside = np.where(region[its] == one, cells[its], -1)
            tables.append(pa.table({
                "face": its | block.number << ROW_BITS, "id": ids[its], "half": half[its], "vector": as_column(faces[its]),
                "cells": pa.FixedSizeListArray.from_arrays(pa.array(inside.ravel()), cells.shape[1]),
                "fresh": np.full(len(its), not before)}))
        Parts(self.workdir, "placed").write_batches(placed, tables)
        for number, one in enumerate(regions.tolist()):
            yield one, (placed, number)
        progress.advance("compare")

    def _about(self, faces: np.ndarray, centred: np.ndarray, image_keys: pa.ChunkedArray) -> pa.Table:
        images = np.unique(image_keys.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
        cells = self.table.cells.nearest(faces).astype(np.int32)
        return pa.table({"half": self.table.cohort.crowding(faces),
                         "exempt": same_person_twice(centred, images, self.bounds.strict_same_person * UNIT),
                         "cells": pa.FixedSizeListArray.from_arrays(pa.array(cells.ravel()), cells.shape[1])})


class CompareRegion(beam.DoFn):
    """Find the edges inside the cells of a region, but for those between faces of earlier blocks, and leave each with the
    blocks of its two faces."""

    def __init__(self, workdir: str, state: str, bounds: Bounds) -> None:
        self.workdir, self.state, self.bounds = workdir, state, bounds

    def setup(self) -> None:
        self.least = Table.read(self.workdir, table_part(self.state)).space.edge(self.bounds)

    def process(self, region: tuple[int, Iterable[Batch]]) -> Iterator[tuple[int, Batch]]:
        rows = read_batches(Parts(self.workdir, "placed"), region[1]).sort_by("face")
        face, ids, cells = rows["face"].to_numpy(), rows["id"].to_numpy(), vectors(rows["cells"])
        best = BestEdges(len(face), self.least, MOST)
        faces, half, fresh = from_binary(rows["vector"]), rows["half"].to_numpy(), rows["fresh"].to_numpy()
        for _, its in by_cell(cells):
            compare_cell(best, faces, half, its, fresh, self.bounds.spill)
        edges = best.edges()
        ends = np.concatenate([face[edges.first], face[edges.second]])
        other, similarity = np.concatenate([edges.second, edges.first]), np.tile(edges.similarity, 2)
        blocks, tables = np.unique(ends >> ROW_BITS), []
        for block in blocks:
            its = ends >> ROW_BITS == block
            tables.append(pa.table({"face": ends[its], "other": face[other[its]], "other_id": ids[other[its]],
                                    "similarity": similarity[its]}))
        name = f"{digests.of(self.state, 'region', region[0])}.arrow"
        Parts(self.workdir, "compared").write_batches(name, tables)
        for number, block in enumerate(blocks.tolist()):
            yield block, (name, number)


class BestOfBlock(beam.DoFn):
    """Keep the best edges of each face of a block, of those it had and those that were found."""

    def __init__(self, workdir: str, state: str, earlier: Earlier | None) -> None:
        self.workdir, self.state, self.earlier = workdir, state, earlier

    def process(self, element: tuple[int, dict[str, list[Any]]]) -> Iterator[str]:
        _, found = element
        block: Block = found["blocks"][0]
        name, before = block.name(self.state), self.earlier.name(block) if self.earlier else None
        rows = read_batches(Parts(self.workdir, "compared"), found["batches"]) if found["batches"] else NO_EDGES
        if before:
            rows = pa.concat_tables([Parts(self.workdir, "edges").read(before), rows])
        face, other, similarity = (rows[column].to_numpy() for column in ("face", "other", "similarity"))
        best, _ = best_of_each(face, other, similarity, MOST)
        Parts(self.workdir, "edges").write(name, rows.take(pa.array(best)).combine_chunks())
        progress.advance("compare")
        yield name


KEPT, PASSING = ("crowding", "edges", "grid"), ("sample", "placed", "compared")
"""Folders of parts that stay, so that faces need not be compared again for other options, and of such that pass."""
NO_EDGES = pa.table({"face": pa.array([], pa.int64()), "other": pa.array([], pa.int64()),
                     "other_id": pa.array([], pa.int64()), "similarity": pa.array([], pa.float32())})


def read_batches(parts: Parts, batches: Iterable[Batch]) -> pa.Table:
    """The rows of some batches, in the order of their names and numbers."""
    of_part: dict[str, list[int]] = {}
    for part, number in sorted(batches):
        of_part.setdefault(part, []).append(number)
    return pa.concat_tables([parts.read_batches(part, numbers) for part, numbers in of_part.items()])


@dataclass
class CompareFaces(beam.PTransform):
    """Blocks of faces become parts of edges; gives their names."""

    workdir: str
    state: str
    bounds: Bounds
    earlier: Earlier | None

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[str]:
        regions = (blocks
                   | "Place" >> beam.ParDo(InChild(PlaceBlock(self.workdir, self.state, self.bounds, self.earlier)))
                   | "By region" >> beam.GroupByKey()
                   | "Compare" >> beam.ParDo(InChild(CompareRegion(self.workdir, self.state, self.bounds))))
        return ({"blocks": blocks | "Number" >> beam.Map(lambda block: (block.number, block)), "batches": regions}
                | "By block" >> beam.CoGroupByKey()
                | "Best" >> beam.ParDo(InChild(BestOfBlock(self.workdir, self.state, self.earlier))))


@dataclass(frozen=True)
class Compared:
    """Faces of a work directory that were compared, by `CompareFaces`."""

    state: str
    """Names all parts."""
    blocks: tuple[Block, ...]
    made_from: dict[str, str]
    """What is compared, and how: see `Parts.commit`."""
    size: int
    """Bytes of the parts of faces."""
    table: str
    """The state in which the table of cells was made; from there on it stays, and so do blocks."""
    earlier: Earlier | None = None
    """Blocks that are compared among each other already, by the same table."""

    @staticmethod
    def of(workdir: str, bounds: Bounds) -> Compared:
        """What a work directory's faces are, compared or not. Raises NotReady."""
        faces, grid = Parts(workdir, "faces"), Parts(workdir, "grid")
        made_from = {**state_of(faces, Parts(workdir, "images")), "how": digests.of(dataclasses.astuple(bounds), VERSION)}
        sizes, there = faces.sizes(), set(faces.parts())
        size = sum(sizes[part] for part in there)
        try:
            before, record = grid.made_from(), grid.options()
        except NotReady:
            before, record = {}, {}
        if before == made_from:
            return Compared(record["state"], blocks(workdir, record["blocks"]), made_from, size, record["table"])
        if (before.get("how") == made_from["how"] and there.issuperset(itertools.chain(*record["blocks"]))
                and size <= GROWTH * record["surveyed"] and _all_there(workdir, record)):
            earlier = Earlier(record["state"], len(record["blocks"]), record["surveyed"])
            state = digests.of(made_from, record["state"])
            return Compared(state, blocks(workdir, record["blocks"]), made_from, size, record["table"], earlier)
        state = digests.of(made_from)
        return Compared(state, blocks(workdir), made_from, size, state)

    def record(self) -> dict[str, Any]:
        """What `of` finds in the ledger of grid."""
        return {"state": self.state, "table": self.table, "blocks": [block.parts for block in self.blocks],
                "surveyed": self.earlier.surveyed if self.earlier else self.size}

    def parts(self) -> list[str]:
        """Names of the parts of each of `KEPT`, one a block."""
        return [block.name(self.state) for block in self.blocks]

    def face_ids(self, workdir: str) -> Iterator[pa.ChunkedArray]:
        """Of each block."""
        return (Parts(workdir, "grid").read(part, ["face_id"])["face_id"] for part in self.parts())

    def faces(self, workdir: str) -> pa.Table:
        """face_id, id (`digests.numbers`) and part of each face, in the order of the blocks."""
        tables = []
        for block, part in zip(self.blocks, self.parts(), strict=True):
            rows = Parts(workdir, "grid").read(part, ["face_id", "id", "part"])
            its = pa.DictionaryArray.from_arrays(rows["part"].combine_chunks(), pa.array(block.parts))
            tables.append(pa.table({"face_id": rows["face_id"], "id": rows["id"], "part": its}))
        return pa.concat_tables(tables).unify_dictionaries()

    def graph(self, workdir: str) -> tuple[pa.Table, Graph]:
        """`faces`, and the graph of these faces."""
        table = Table.read(workdir, table_part(self.state))
        grid, crowding = Parts(workdir, "grid"), Parts(workdir, "crowding")
        starts = self.starts(workdir)
        faces = np.empty((starts[-1], table.cells.centres.shape[1]), np.int16)
        images = []
        for part, start in zip(self.parts(), starts[:-1].tolist(), strict=True):
            rows = grid.read(part, ["image_key", "vector"])
            faces[start:start + len(rows)] = table.space.project(table.space.centred(from_binary(rows["vector"])))
            images.append(start + np.unique(rows["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1])
        about = pa.concat_tables([crowding.read(part) for part in self.parts()])
        exclusive = exclusive_images(np.concatenate(images), about["exempt"].to_numpy())
        faces_of = self.faces(workdir)
        edges = read_edges(workdir, self.parts(), starts)
        return faces_of, Graph(faces_of["id"].to_numpy(), faces, about["half"].to_numpy(), exclusive, table.cells, edges,
                               table.space)

    def starts(self, workdir: str) -> np.ndarray:
        """Where each block begins, int64 [blocks], and how many faces there are."""
        grid = Parts(workdir, "grid")
        return np.cumsum([0, *(grid.rows(part) for part in self.parts())])


def _all_there(workdir: str, record: dict[str, Any]) -> bool:
    """Whether nothing is missing of what was compared, as a run leaves it that was stopped when it had finished."""
    parts = {Block(number, parts).name(record["state"]) for number, parts in enumerate(record["blocks"])}
    return (all(parts <= Parts(workdir, folder).existing() for folder in KEPT)
            and table_part(record["state"]) in Parts(workdir, "cells").existing())


def read_edges(workdir: str, parts: Sequence[str], starts: np.ndarray) -> Edges:
    """Of the faces of blocks, of which each begins at one of `starts`, int64."""
    keys, similarities, count = [], [], int(starts[-1])
    for part in parts:
        rows = Parts(workdir, "edges").read(part)
        face, other = (number_of(rows[column].to_numpy(), starts) for column in ("face", "other"))
        keys.append(np.minimum(face, other) * count + np.maximum(face, other))
        similarities.append(rows["similarity"].to_numpy())
    key, first = np.unique(np.concatenate(keys), return_index=True)
    return Edges(key // count, key % count, np.concatenate(similarities)[first])


def number_of(face: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Which of all faces int64 [n] are, from the number of their block and their row in it."""
    return starts[face >> ROW_BITS] + (face & (1 << ROW_BITS) - 1)
