"""Lay faces out on the grid, each distinct one once, and find what every worker must know to compare them.

Takes blocks · Gives the name of the part of cells, when parts of grid, one a block, are there · Rejects nobody

    blocks: distinct faces, on the grid; sums, the first by hash order -> space, cohort, cells"""
from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.embedder import Bounds
from schemas.table import vectors
from transforms import digests, progress
from transforms.blocks import ROW_BITS, Block, Earlier, from_binary
from transforms.cells import CELL, CENTRES, SAMPLE, Cells
from transforms.distinct import counting
from transforms.in_child import InChild
from transforms.mates import exclusive_images
from transforms.parts import Parts
from transforms.rows import as_column
from transforms.similarity import COHORT, Cohort, on_grid
from transforms.space import LEARNED, Mean, Space, learn

BUCKETS, BUCKET_BYTES = 256, 1 << 20
"""Of image keys, among which copies are looked for, at least, and bytes of parts of images for one; one for each block where
there are more blocks. A bucket holds as much as a block, on average, or as 27 thousand images of 39 bytes (a million generated
faces), where few have faces: at some 100 bytes an image 1.5 to 3 MB, however many there are."""


def buckets(images: int, blocks: int) -> int:
    """Of image keys. `images`: bytes of the parts of images."""
    return max(BUCKETS, blocks, images // BUCKET_BYTES)


# --- the same picture lies in several places: one of them counts ---


class KeyImages(beam.DoFn):
    """The images of a block, by bucket of their keys: which of the same key counts, is for the bucket to say."""

    def __init__(self, workdir: str, buckets: int) -> None:
        self.images, self.buckets = Parts(workdir, "images"), buckets

    def process(self, block: Block) -> Iterator[tuple[int, bytes]]:
        tables = []
        for number, part in enumerate(block.parts):
            table = self.images.read(part, ["image_key", "uri", "root"])
            tables.append(table.append_column("place", pa.array([block.number << ROW_BITS | number] * len(table), pa.int64())))
        rows = pa.concat_tables(tables)
        keys = rows["image_key"].to_pylist()
        bucket = np.array([digests.number(key) % self.buckets for key in keys], np.int64)
        for one in np.unique(bucket):
            yield int(one), _to_bytes(rows.filter(pa.array(bucket == one)))


class FindCopies(beam.DoFn):
    """Of the images of a bucket, part and key of those that lie first in another part, by block (contract, section 2)."""

    def process(self, bucket: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, list[tuple[int, str]]]]:
        rows, counts = counting(pa.concat_tables([_from_bytes(data) for data in bucket[1]]))
        keys, place = (rows[name].to_numpy(zero_copy_only=False) for name in ("image_key", "place"))
        of_block: dict[int, list[tuple[int, str]]] = {}
        for at in np.flatnonzero(place != place[counts]).tolist():
            of_block.setdefault(int(place[at]) >> ROW_BITS, []).append((int(place[at]) & (1 << ROW_BITS) - 1, keys[at]))
        yield from of_block.items()


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


# --- what is known of all faces ---


@dataclass(frozen=True)
class Survey:
    """Of some faces, as they are: adds up to that of all."""

    mean: Mean
    ids: np.ndarray
    """int64 [M], of the `COHORT` first faces by hash order (`digests.numbers`), ascending"""
    images: np.ndarray
    """str [M], keys of their images"""
    moved: bool
    """Whether other faces of earlier blocks count than did: a copy has come that lies first."""

    def __add__(self, other: Survey) -> Survey:
        both = np.concatenate([self.ids, other.ids])
        first = np.argsort(both, kind="stable")[:COHORT]
        return Survey(self.mean + other.mean, both[first], np.concatenate([self.images, other.images])[first],
                      self.moved or other.moved)


def are_drawn(ids: np.ndarray, spill: int, faces: int) -> np.ndarray:
    """Whether each face is in the sample of whom the space is learned and middles of cells are made, bool [n], by their ids
    int64 [n] (`digests.numbers`), if each has `spill` cells. If there are more than so many `faces`, more are drawn."""
    share = max(SAMPLE * min(spill / CELL, CENTRES / max(faces, 1)), LEARNED / max(faces, 1))
    return ids < min(int(2**63 * share), 2**63 - 1)


class SurveyBlock(beam.DoFn):
    """Write the distinct faces of a block, and its share of the sample, if there are so many `faces` at least."""

    def __init__(self, workdir: str, state: str, spill: int, faces: int, earlier: Earlier | None) -> None:
        self.workdir, self.state, self.spill, self.faces, self.earlier = workdir, state, spill, faces, earlier

    def process(self, element: tuple[int, dict[str, list[Any]]]) -> Iterator[Survey]:
        _, found = element
        block: Block = found["blocks"][0]
        copies = {copy for copies in found["copies"] for copy in copies}
        before, grid_parts = self.earlier.name(block) if self.earlier else None, Parts(self.workdir, "grid")
        rows = grid_parts.read(before) if before else None
        moved = rows is not None and not self._distinct(block, copies, [])["face_id"].equals(rows["face_id"])
        if rows is None or moved:
            rows = self._distinct(block, copies, ["embedding"])
            rows = rows.append_column("vector", as_column(on_grid(vectors(rows["embedding"])).astype(np.int16)))
            rows = rows.drop_columns("embedding").append_column("id", pa.array(digests.numbers(rows["face_id"].to_pylist())))
        if len(rows) >= 1 << ROW_BITS:
            raise ValueError(f"{block.parts[0]} and {len(block.parts) - 1} more hold {len(rows)} faces")
        ids, keys = rows["id"].to_numpy(), rows["image_key"].to_numpy(zero_copy_only=False).astype(str)
        grid = from_binary(rows["vector"])
        grid_parts.write(block.name(self.state), rows)
        sample = np.flatnonzero(are_drawn(ids, self.spill, self.faces))
        Parts(self.workdir, "sample").write(block.name(self.state), pa.table(
            {"id": ids[sample], "vector": as_column(grid[sample])}))
        drawn = np.argsort(ids)[:COHORT]
        yield Survey(Mean.of(grid, exclusive_images(np.unique(keys, return_inverse=True)[1], np.zeros(len(keys), bool))),
                     ids[drawn], keys[drawn], moved)
        progress.advance("compare")

    def _distinct(self, block: Block, copies: set[tuple[int, str]], columns: list[str]) -> pa.Table:
        """The rows of a block's faces that count, with the place of their part in it."""
        tables = []
        for number, part in enumerate(block.parts):
            table = Parts(self.workdir, "faces").read(part, ["face_id", "image_key", *columns])
            if copies:
                keys = table["image_key"].to_pylist()
                table = table.filter(pa.array([(number, key) not in copies for key in keys], pa.bool_()))
            tables.append(table.append_column("part", pa.array([number] * len(table), pa.int32())))
        return pa.concat_tables(tables)


@dataclass(frozen=True)
class Table:
    """What a worker knows of all faces."""

    space: Space
    cohort: Cohort
    cells: Cells
    reused: bool = False
    """Whether it was made of fewer faces, before more came."""

    @staticmethod
    def of(survey: Survey, sample: np.ndarray, bounds: Bounds) -> Table:
        """sample: int16 [n, D], on the grid as they are, in hash order."""
        images = np.unique(survey.images[:len(sample)], return_inverse=True)[1]
        space, cohort = learn(sample[:LEARNED], images, survey.mean, bounds)
        faces = space.project(space.centred(sample))
        return Table(space, cohort, Cells.around_middles(faces, survey.mean.faces, bounds.spill, cohort.crowding))

    def write(self, workdir: str, part: str) -> None:
        arrays = {"reused": np.asarray(self.reused)}
        arrays |= {f"space_{name}": value for name, value in vars(self.space).items() if value is not None}
        arrays |= {f"cohort_{name}": np.asarray(value) for name, value in vars(self.cohort).items()}
        arrays |= {f"cells_{name}": np.asarray(value) for name, value in vars(self.cells).items()}
        Parts(workdir, "cells").write(part, pa.table({
            "name": list(arrays), "kind": [array.dtype.str for array in arrays.values()],
            "shape": [list(array.shape) for array in arrays.values()], "data": [array.tobytes() for array in arrays.values()]}))

    @staticmethod
    @functools.lru_cache(1)
    def read(workdir: str, part: str) -> Table:
        """A part never changes (`table_part`), and many steps ask for the same."""
        arrays = {row["name"]: np.frombuffer(row["data"], row["kind"]).reshape(row["shape"])
                  for row in Parts(workdir, "cells").read(part).to_pylist()}
        numbers = (float(arrays[f"cohort_{name}"]) for name in ("least", "weight", "tail"))
        cohort = Cohort(arrays["cohort_faces"], arrays["cohort_starts"], *numbers)
        cells = Cells(arrays["cells_centres"], arrays["cells_half"], arrays["cells_heads"], arrays["cells_head_half"],
                      arrays["cells_starts"], int(arrays["cells_spill"]))
        space = Space(*(arrays.get(f"space_{name}") for name in ("mean", "matrix", "inverse")))
        return Table(space, cohort, cells, bool(arrays["reused"]))


def table_part(state: str) -> str:
    """Name of the part of cells."""
    return f"{digests.of(state, 'cells')}.parquet"


class MakeTable(beam.DoFn):
    """Say what the cells are, when all blocks are surveyed: those of earlier blocks, if their faces have not moved."""

    def __init__(self, workdir: str, state: str, bounds: Bounds, parts: Sequence[str], earlier: Earlier | None) -> None:
        self.workdir, self.state, self.bounds, self.parts, self.earlier = workdir, state, bounds, parts, earlier

    def process(self, survey: Survey) -> Iterator[str]:
        if self.earlier and not survey.moved:
            before = Table.read(self.workdir, table_part(self.earlier.state))
            replace(before, reused=True).write(self.workdir, table_part(self.state))
            yield table_part(self.state)
            return
        sample = Parts(self.workdir, "sample")
        drawn = pa.concat_tables([rows.filter(pa.array(are_drawn(rows["id"].to_numpy(), self.bounds.spill, survey.mean.faces)))
                                  for rows in map(sample.read, self.parts)]).sort_by("id")
        Table.of(survey, from_binary(drawn["vector"]), self.bounds).write(self.workdir, table_part(self.state))
        yield table_part(self.state)


@dataclass
class SurveyFaces(beam.PTransform):
    """Blocks of faces become parts of grid, and the table that `CompareFaces` reads; gives its name."""

    workdir: str
    state: str
    bounds: Bounds
    parts: Sequence[str]
    """Of grid, one a block."""
    faces: int
    """That there are at least."""
    earlier: Earlier | None

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[str]:
        count = buckets(sum(Parts(self.workdir, "images").sizes().values()), len(self.parts))
        copies = (blocks
                  | "Key images" >> beam.ParDo(InChild(KeyImages(self.workdir, count)))
                  | "By bucket" >> beam.GroupByKey()
                  | "Find copies" >> beam.ParDo(FindCopies()))
        return ({"blocks": blocks | "Number" >> beam.Map(lambda block: (block.number, block)), "copies": copies}
                | "By block" >> beam.CoGroupByKey()
                | "Survey" >> beam.ParDo(InChild(SurveyBlock(self.workdir, self.state, self.bounds.spill, self.faces,
                                                             self.earlier)))
                | "Add up" >> beam.CombineGlobally(lambda surveys: functools.reduce(operator.add, surveys)).without_defaults()
                | "Make table" >> beam.ParDo(MakeTable(self.workdir, self.state, self.bounds, self.parts, self.earlier)))
