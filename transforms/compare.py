"""Find which faces are alike, where there are too many to compare all with all.

Takes blocks of parts of faces · Gives parts of grid, crowding and edges, one a block · Rejects nobody

    blocks: distinct faces, on the grid -> mean, cohort, cells -> blocks: crowding, cells of each face
        -> regions: the edges of their cells -> blocks: the best edges of each face

Between workers travel names of parts and numbers of row groups, vectors in no shuffle: a block leaves the faces of a region in
a row group of their own, and a worker reads those of one region from all blocks."""
from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.embedder import Bounds, Embedder
from schemas.table import vectors
from transforms import digests, progress
from transforms.cells import WHOLE, Cells, by_cell, compare_cell, is_centre, spill_of
from transforms.linkage import MOST, Graph
from transforms.mates import exclusive_images, same_person_twice
from transforms.parts import Parts, state_of
from transforms.similarity import COHORT, UNIT, BestEdges, Cohort, Edges, Mean, best_of_each, hash_order, on_grid, without

VERSION = 1
"""Raised when the same faces and bounds give other edges."""
BLOCK_BYTES = 32 << 20
"""Of parts of faces that a worker reads at once: some 15 thousand faces of 512 numbers."""
ROW_BITS = 24
"""Of a face's number, which says its row in its block; the others say which block."""
BUCKETS = 256
"""Of image keys, among which copies are looked for: each holds some 100 bytes an image."""


@dataclass(frozen=True)
class Block:
    """Parts of faces that are read at once."""

    number: int
    parts: tuple[str, ...]

    def name(self, state: str) -> str:
        """Of the part of each folder that is made of the block."""
        return f"{digests.of(state, self.number)}.parquet"


def few(workdir: str, embedder: Embedder) -> bool:
    """Whether one cell holds all faces of a work directory. Parts are opened only where their embeddings, half of their bytes
    at least, may be so few."""
    faces = Parts(workdir, "faces")
    sizes, parts = faces.sizes(), faces.parts()
    return (sum(sizes[part] for part in parts) <= 2 * WHOLE * 4 * embedder.dimensions
            and sum(map(faces.rows, parts)) <= WHOLE)


def blocks(workdir: str) -> tuple[Block, ...]:
    """The valid parts of faces, in their order, in blocks. One listing."""
    faces = Parts(workdir, "faces")
    sizes, taken, groups = faces.sizes(), BLOCK_BYTES, list[list[str]]()
    for part in faces.parts():
        if taken + sizes[part] > BLOCK_BYTES:
            taken = 0
            groups.append([])
        groups[-1].append(part)
        taken += sizes[part]
    return tuple(Block(number, tuple(parts)) for number, parts in enumerate(groups))


# --- the same picture lies in several places: one of them counts ---


class KeyImages(beam.DoFn):
    """The images of a block, by bucket of their keys: which of the same key counts, is for the bucket to say."""

    def __init__(self, workdir: str) -> None:
        self.images = Parts(workdir, "images")

    def process(self, block: Block) -> Iterator[tuple[int, bytes]]:
        tables = []
        for number, part in enumerate(block.parts):
            table = self.images.read(part, ["image_key", "uri", "root"])
            tables.append(table.append_column("place", pa.array([block.number << ROW_BITS | number] * len(table), pa.int64())))
        rows = pa.concat_tables(tables)
        keys = rows["image_key"].to_pylist()
        bucket = np.array([digests.number(key) % BUCKETS for key in keys], np.int64)
        for one in np.unique(bucket):
            yield int(one), _to_bytes(rows.filter(pa.array(bucket == one)))


class FindCopies(beam.DoFn):
    """Of the images of a bucket, part and key of those that lie first in another part, by block (contract, section 2)."""

    def process(self, bucket: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, list[tuple[int, str]]]]:
        rows = pa.concat_tables([_from_bytes(data) for data in bucket[1]])
        rows = rows.sort_by([(name, "ascending") for name in ("image_key", "uri", "root", "place")])
        keys, place = (rows[name].to_numpy(zero_copy_only=False) for name in ("image_key", "place"))
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        first = np.repeat(place[starts], np.diff(starts, append=len(keys)))
        of_block: dict[int, list[tuple[int, str]]] = {}
        for at in np.flatnonzero(place != first).tolist():
            of_block.setdefault(int(place[at]) >> ROW_BITS, []).append((int(place[at]) & (1 << ROW_BITS) - 1, keys[at]))
        yield from of_block.items()


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


# --- faces on the grid, and what is known of all of them ---


@dataclass(frozen=True)
class Survey:
    """Of some faces, as they are: adds up to that of all."""

    mean: Mean
    digests: np.ndarray
    """str [M], of the ids of the `COHORT` first faces by hash order, ascending."""
    faces: np.ndarray
    """int16 [M, D], on the grid"""
    images: np.ndarray
    """str [M], keys of their images"""

    def __add__(self, other: Survey) -> Survey:
        both = np.concatenate([self.digests, other.digests])
        first = np.argsort(both, kind="stable")[:COHORT]
        return Survey(self.mean + other.mean, both[first], np.concatenate([self.faces, other.faces])[first],
                      np.concatenate([self.images, other.images])[first])


class SurveyBlock(beam.DoFn):
    """Write the distinct faces of a block, and its centres of cells."""

    def __init__(self, workdir: str, state: str) -> None:
        self.workdir, self.state = workdir, state

    def process(self, element: tuple[int, dict[str, list[Any]]]) -> Iterator[Survey]:
        _, found = element
        block: Block = found["blocks"][0]
        copies = {copy for copies in found["copies"] for copy in copies}
        faces, tables = Parts(self.workdir, "faces"), []
        for number, part in enumerate(block.parts):
            table = faces.read(part, ["face_id", "image_key", "embedding"])
            if copies:
                keys = table["image_key"].to_pylist()
                table = table.filter(pa.array([(number, key) not in copies for key in keys], pa.bool_()))
            tables.append(pa.table({"face_id": table["face_id"], "image_key": table["image_key"],
                                    "part": pa.array([number] * len(table), pa.int32()),
                                    "vector": as_binary(on_grid(vectors(table["embedding"])).astype(np.int16))}))
        rows = pa.concat_tables(tables)
        if len(rows) >= 1 << ROW_BITS:
            raise ValueError(f"{block.parts[0]} and {len(block.parts) - 1} more hold {len(rows)} faces")
        face_ids, keys = rows["face_id"].to_pylist(), rows["image_key"].to_numpy(zero_copy_only=False).astype(str)
        grid = from_binary(rows["vector"])
        Parts(self.workdir, "grid").write(block.name(self.state), rows)
        ordered = hash_order(face_ids)
        digest = np.array([digests.of(face_ids[row]) for row in ordered], str)
        centres = np.array([is_centre(one) for one in digest], bool)
        Parts(self.workdir, "centres").write(block.name(self.state), pa.table(
            {"digest": pa.array(digest[centres], pa.string()), "vector": as_binary(grid[ordered[centres]])}))
        drawn = ordered[:COHORT]
        yield Survey(Mean.of(grid, exclusive_images(np.unique(keys, return_inverse=True)[1], np.zeros(len(keys), bool))),
                     digest[:COHORT], grid[drawn], keys[drawn])
        progress.advance("compare")


@dataclass(frozen=True)
class Table:
    """What a worker knows of all faces."""

    mean: np.ndarray | None
    """float32 [D], grid units; None where they share none"""
    cohort: Cohort
    cells: Cells

    @staticmethod
    def of(survey: Survey, centres: np.ndarray, bounds: Bounds) -> Table:
        """centres: int16 [K, D], on the grid as they are, in hash order."""
        mean = survey.mean.shared(bounds.small_join)
        images = np.unique(survey.images, return_inverse=True)[1]
        cohort = Cohort.of(without(survey.faces, mean), images, survey.mean.faces, bounds)
        middles = without(centres, mean).astype(np.float32)
        spill = spill_of(survey.mean.faces)
        cells = Cells.around(middles, cohort.crowding(middles), spill) if len(centres) else Cells.one(survey.faces.shape[1])
        return Table(mean, cohort, cells)

    def write(self, workdir: str, part: str) -> None:
        arrays = {} if self.mean is None else {"mean": self.mean}
        arrays |= {f"cohort_{name}": np.asarray(value) for name, value in vars(self.cohort).items()}
        arrays |= {f"cells_{name}": value for name, value in vars(self.cells).items()}
        Parts(workdir, "cells").write(part, pa.table({
            "name": list(arrays), "kind": [array.dtype.str for array in arrays.values()],
            "shape": [list(array.shape) for array in arrays.values()], "data": [array.tobytes() for array in arrays.values()]}))

    @staticmethod
    def read(workdir: str, part: str) -> Table:
        arrays = {row["name"]: np.frombuffer(row["data"], row["kind"]).reshape(row["shape"])
                  for row in Parts(workdir, "cells").read(part).to_pylist()}
        numbers = (float(arrays[f"cohort_{name}"]) for name in ("least", "weight", "tail"))
        cohort = Cohort(arrays["cohort_faces"], arrays["cohort_starts"], *numbers)
        cells = Cells(**{field.name: arrays[f"cells_{field.name}"] for field in dataclasses.fields(Cells)})
        return Table(arrays.get("mean"), cohort, cells)


def table_part(state: str) -> str:
    """Name of the part of cells."""
    return f"{digests.of(state, 'cells')}.parquet"


class MakeTable(beam.DoFn):
    """Say what the cells are, when all blocks are surveyed."""

    def __init__(self, workdir: str, state: str, bounds: Bounds, parts: Sequence[str]) -> None:
        self.workdir, self.state, self.bounds, self.parts = workdir, state, bounds, parts

    def process(self, survey: Survey) -> Iterator[str]:
        centres = Parts(self.workdir, "centres")
        spill = spill_of(survey.mean.faces)
        drawn = pa.concat_tables([centres.read(part) for part in self.parts]).sort_by("digest")
        drawn = drawn.filter(pa.array([is_centre(digest, spill) for digest in drawn["digest"].to_pylist()], pa.bool_()))
        Table.of(survey, from_binary(drawn["vector"]), self.bounds).write(self.workdir, table_part(self.state))
        yield table_part(self.state)


# --- edges ---


Group = tuple[str, int]
"""A part, and the number of one of its row groups."""


class PlaceBlock(beam.DoFn):
    """Find the cells of a block's faces, and lay each face into every region that has some of them."""

    def __init__(self, workdir: str, state: str, bounds: Bounds) -> None:
        self.workdir, self.state, self.bounds = workdir, state, bounds

    def setup(self) -> None:
        self.table = Table.read(self.workdir, table_part(self.state))

    def process(self, block: Block) -> Iterator[tuple[int, Group]]:
        name = block.name(self.state)
        rows = Parts(self.workdir, "grid").read(name, ["image_key", "vector"])
        faces = without(from_binary(rows["vector"]), self.table.mean)
        images = np.unique(rows["image_key"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
        half = self.table.cohort.crowding(faces)
        Parts(self.workdir, "crowding").write(name, pa.table(
            {"half": half, "exempt": same_person_twice(faces, images, self.bounds.strict_same_person * UNIT)}))
        cells = self.table.cells.nearest(faces)
        region = self.table.cells.region(cells)
        groups, tables = np.unique(region), []
        for one in groups:
            its = np.flatnonzero((region == one).any(axis=1))
            inside = np.where(region[its] == one, cells[its], -1)
            tables.append(pa.table({
                "face": its | block.number << ROW_BITS, "half": half[its], "vector": as_binary(faces[its]),
                "cells": pa.FixedSizeListArray.from_arrays(pa.array(inside.ravel()), cells.shape[1])}))
        Parts(self.workdir, "placed").write_groups(name, tables)
        for number, one in enumerate(groups.tolist()):
            yield one, (name, number)
        progress.advance("compare")


class CompareRegion(beam.DoFn):
    """Find the edges inside the cells of a region, and leave each with the blocks of its two faces."""

    def __init__(self, workdir: str, state: str, bounds: Bounds) -> None:
        self.workdir, self.state, self.bounds = workdir, state, bounds

    def process(self, region: tuple[int, Iterable[Group]]) -> Iterator[tuple[int, Group]]:
        rows = read_groups(Parts(self.workdir, "placed"), region[1]).sort_by("face")
        face, cells = rows["face"].to_numpy(), vectors(rows["cells"])
        best = BestEdges(len(face), self.bounds.edge, MOST)
        faces, half = from_binary(rows["vector"]), rows["half"].to_numpy()
        for cell, its in by_cell(cells):
            if cell >= 0:
                compare_cell(best, faces, half, its)
        edges = best.edges()
        ends = np.concatenate([face[edges.first], face[edges.second]])
        others, similarity = np.concatenate([face[edges.second], face[edges.first]]), np.tile(edges.similarity, 2)
        blocks, tables = np.unique(ends >> ROW_BITS), []
        for block in blocks:
            its = ends >> ROW_BITS == block
            tables.append(pa.table({"face": ends[its], "other": others[its], "similarity": similarity[its]}))
        name = f"{digests.of(self.state, 'region', region[0])}.parquet"
        Parts(self.workdir, "compared").write_groups(name, tables)
        for number, block in enumerate(blocks.tolist()):
            yield block, (name, number)


class BestOfBlock(beam.DoFn):
    """Keep the best edges of each face of a block."""

    def __init__(self, workdir: str, state: str) -> None:
        self.workdir, self.state = workdir, state

    def process(self, element: tuple[int, dict[str, list[Any]]]) -> Iterator[str]:
        _, found = element
        name = found["blocks"][0].name(self.state)
        rows = read_groups(Parts(self.workdir, "compared"), found["groups"]) if found["groups"] else NO_EDGES
        face, other, similarity = (rows[column].to_numpy() for column in ("face", "other", "similarity"))
        best, _ = best_of_each(face, other, similarity, MOST)
        Parts(self.workdir, "edges").write(name, rows.take(pa.array(best)).combine_chunks())
        progress.advance("compare")
        yield name


KEPT, PASSING = ("grid", "crowding", "edges"), ("centres", "placed", "compared")
"""Folders of parts that stay, so that faces need not be compared again for other options, and of such that pass."""
NO_EDGES = pa.table({"face": pa.array([], pa.int64()), "other": pa.array([], pa.int64()),
                     "similarity": pa.array([], pa.float32())})


def read_groups(parts: Parts, groups: Iterable[Group]) -> pa.Table:
    """The rows of some row groups, in the order of their names and numbers."""
    of_part: dict[str, list[int]] = {}
    for part, number in sorted(groups):
        of_part.setdefault(part, []).append(number)
    return pa.concat_tables([parts.read_groups(part, numbers) for part, numbers in of_part.items()])


@dataclass
class CompareFaces(beam.PTransform):
    """Blocks of faces become parts of edges; gives their names."""

    workdir: str
    state: str
    bounds: Bounds

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[str]:
        regions = (blocks
                   | "Place" >> beam.ParDo(PlaceBlock(self.workdir, self.state, self.bounds))
                   | "By region" >> beam.GroupByKey()
                   | "Compare" >> beam.ParDo(CompareRegion(self.workdir, self.state, self.bounds)))
        return ({"blocks": blocks | "Number" >> beam.Map(lambda block: (block.number, block)), "groups": regions}
                | "By block" >> beam.CoGroupByKey()
                | "Best" >> beam.ParDo(BestOfBlock(self.workdir, self.state)))


@dataclass
class SurveyFaces(beam.PTransform):
    """Blocks of faces become parts of grid, and the table that `CompareFaces` reads; gives its name."""

    workdir: str
    state: str
    bounds: Bounds
    parts: Sequence[str]
    """Of grid, one a block."""

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[str]:
        copies = (blocks
                  | "Key images" >> beam.ParDo(KeyImages(self.workdir))
                  | "By bucket" >> beam.GroupByKey()
                  | "Find copies" >> beam.ParDo(FindCopies()))
        return ({"blocks": blocks | "Number" >> beam.Map(lambda block: (block.number, block)), "copies": copies}
                | "By block" >> beam.CoGroupByKey()
                | "Survey" >> beam.ParDo(SurveyBlock(self.workdir, self.state))
                | "Add up" >> beam.CombineGlobally(lambda surveys: functools.reduce(operator.add, surveys)).without_defaults()
                | "Make table" >> beam.ParDo(MakeTable(self.workdir, self.state, self.bounds, self.parts)))


@dataclass(frozen=True)
class Compared:
    """Faces of a work directory that were compared, by `CompareFaces`."""

    state: str
    """Of the faces, which names all parts."""
    blocks: tuple[Block, ...]

    @staticmethod
    def of(workdir: str, bounds: Bounds) -> Compared:
        """What a work directory's faces are, compared or not. Raises NotReady."""
        state = state_of(Parts(workdir, "faces"), Parts(workdir, "images"))
        return Compared(digests.of(state, dataclasses.astuple(bounds), VERSION), blocks(workdir))

    def parts(self) -> list[str]:
        """Names of the parts of each of `KEPT`, one a block."""
        return [block.name(self.state) for block in self.blocks]

    def graph(self, workdir: str) -> tuple[pa.Table, Graph]:
        """face_id and part of each face, in the order of the blocks, and the graph of these faces."""
        table = Table.read(workdir, table_part(self.state))
        grid, crowding = Parts(workdir, "grid"), Parts(workdir, "crowding")
        sizes = [grid.rows(part) for part in self.parts()]
        starts = np.cumsum([0, *sizes])
        faces = np.empty((starts[-1], table.cells.centres.shape[1]), np.int16)
        tables, images = [], []
        for block, part, start in zip(self.blocks, self.parts(), starts.tolist(), strict=False):
            rows = grid.read(part)
            faces[start:start + len(rows)] = without(from_binary(rows["vector"]), table.mean)
            images.append(start + np.unique(rows["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1])
            its = pa.DictionaryArray.from_arrays(rows["part"].combine_chunks(), pa.array(block.parts))
            tables.append(pa.table({"face_id": rows["face_id"], "part": its}))
        about = pa.concat_tables([crowding.read(part) for part in self.parts()])
        exclusive = exclusive_images(np.concatenate(images), about["exempt"].to_numpy())
        edges = read_edges(workdir, self.parts(), starts)
        graph = Graph(faces, about["half"].to_numpy(), exclusive, table.cells, edges)
        return pa.concat_tables(tables).unify_dictionaries(), graph


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


# --- vectors in parts ---


def as_binary(grid: np.ndarray) -> pa.Array:
    """Rows int16 [N, D] as an Arrow column."""
    data = pa.py_buffer(np.ascontiguousarray(grid))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * grid.shape[1]), len(grid), [None, data])


def from_binary(column: pa.ChunkedArray) -> np.ndarray:
    """Rows int16 [N, D] of such a column."""
    width = column.type.byte_width
    whole = [np.frombuffer(chunk.buffers()[1], np.int16, len(chunk) * width // 2, chunk.offset * width)
             for chunk in column.chunks if len(chunk)]
    return np.concatenate([np.zeros(0, np.int16), *whole]).reshape(-1, width // 2)
