"""Faces compared in blocks and regions, on Beam, against the same in one process."""
from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import stages
from pipeline.stages import RunOptions
from schemas.embedder import Bounds
from schemas.table import vectors
from tests.builders import EMBEDDER, make_workdir, party
from transforms import blocks, cells, face_models
from transforms.cells import neighbours
from transforms.cluster import ClusterOptions, graph_of
from transforms.compare import KEPT, PASSING, Compared
from transforms.extract import FOLDERS
from transforms.face_models import dlib
from transforms.parts import Parts
from transforms.similarity import MOST, BestEdges, Edges, on_grid
from transforms.survey import Table

PHOTOS = party(40, 40)
ALONE = ClusterOptions(cluster_processes=1)
"""In this process, where constants may be other ones."""


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> str:
    """Some 200 faces that are too many for one cell, in blocks of a few parts."""
    monkeypatch.setattr(blocks, "WHOLE", 0)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 40_000)
    return make_workdir(tmp_path, PHOTOS)


def bounds() -> Bounds:
    return face_models.bounds(EMBEDDER)


def small_cells(monkeypatch) -> None:
    monkeypatch.setattr(dlib, "BOUNDS", replace(dlib.BOUNDS, spill=4))
    monkeypatch.setattr(cells, "CELL", 24)
    monkeypatch.setattr(cells, "REGION", 4)
    monkeypatch.setattr(cells, "SEARCH", 1)


def run(workdir: str) -> dict[str, str | None]:
    """face_id -> identity."""
    stages.cluster(workdir, ALONE, RunOptions())
    rows = Parts(workdir, "identities").read_all().to_pylist()
    return {row["face_id"]: row["identity"] for row in rows}


def bytes_of(workdir: str, *folders: str) -> dict[str, bytes]:
    return {f"{folder}/{file.name}": file.read_bytes() for folder in folders
            for file in Path(workdir, folder).glob("*.parquet")}


def equal(one: Edges, other: Edges) -> bool:
    return all(np.array_equal(*pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True))


def faces_of(workdir: str, compared: Compared) -> pa.Table:
    """The rows of faces in the order of the blocks."""
    return pa.concat_tables([Parts(workdir, "faces").read(part, ["face_id", "image_key", "embedding"])
                             for block in compared.blocks for part in block.parts])


def test_one_cell_gives_what_one_process_gives(workdir, monkeypatch):
    monkeypatch.setattr(cells, "CELL", 1 << 40)  # so that no centre is drawn
    in_blocks = run(workdir)
    compared = Compared.of(workdir, bounds())
    found, graph = compared.graph(workdir)
    whole = graph_of(faces_of(workdir, compared), bounds())
    assert len(compared.blocks) > 4 and found["face_id"].to_pylist() == faces_of(workdir, compared)["face_id"].to_pylist()
    for ours, theirs in ((graph.faces, whole.faces), (graph.half, whole.half)):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(graph.images[:, None] == graph.images, whole.images[:, None] == whole.images)
    assert np.array_equal(graph.ids, whole.ids)
    assert equal(graph.edges, whole.edges) and len(whole.edges) > 200
    shutil.rmtree(Path(workdir, "identities"))
    monkeypatch.setattr(blocks, "WHOLE", 10_000)
    assert run(workdir) == in_blocks
    assert len(set(in_blocks.values())) == 40


def test_edges_are_those_inside_cells_wherever_the_faces_lie(workdir, monkeypatch):
    small_cells(monkeypatch)
    run(workdir)
    _, graph = Compared.of(workdir, bounds()).graph(workdir)
    assert len(graph.cells) > 8 and len(graph.cells.heads) > 2
    assert equal(graph.edges, neighbours(graph.cells, graph.faces, graph.half, graph.space.edge(bounds()), MOST))
    plain = vectors(faces_of(workdir, Compared.of(workdir, bounds()))["embedding"])
    space = Table.read(workdir, *Parts(workdir, "cells").parts()).space
    assert np.array_equal(graph.faces, space.project(space.centred(on_grid(plain))))


def test_the_same_faces_give_the_same_bytes_and_are_compared_once(workdir, tmp_path, monkeypatch):
    small_cells(monkeypatch)
    other = shutil.copytree(workdir, tmp_path / "other")
    run(workdir)
    run(str(other))
    assert bytes_of(workdir, *KEPT, "cells", "identities") == bytes_of(str(other), *KEPT, "cells", "identities")
    assert not any(Path(workdir, folder).exists() for folder in PASSING)
    before = {file: file.stat().st_mtime_ns for file in Path(workdir, "edges").iterdir()}
    stages.cluster(workdir, replace(ALONE, join=0.3), RunOptions())
    assert {file: file.stat().st_mtime_ns for file in Path(workdir, "edges").iterdir()} == before
    assert len(Parts(workdir, "identities").read_all()) == len(Parts(workdir, "faces").read_all(["face_id"]))


def add(workdir: str, folder: str, part: str, table: pa.Table) -> None:
    """Another part of photos."""
    there = Parts(workdir, folder)
    there.write(part, table)
    there.commit({"photos": [*there.parts(), part]}, options=there.options())


def grown(workdir: str, later: int) -> tuple[str, list[str]]:
    """A work directory of all parts but some was clustered, then these came: its URL and the names of the later parts."""
    names = Parts(workdir, "faces").parts()
    some = str(shutil.copytree(workdir, f"{workdir}-some"))
    for folder in FOLDERS:
        there = Parts(some, folder)
        there.commit({"photos": names[:-later]}, options=there.options())
    run(some)
    for folder in FOLDERS:
        for part in names[-later:]:
            add(some, folder, part, Parts(workdir, folder).read(part))
    return some, names[-later:]


def table_of(workdir: str) -> Table:
    part, = Parts(workdir, "cells").parts()
    return Table.read(workdir, part)


def test_more_faces_are_compared_with_all_and_no_two_again(workdir, monkeypatch):
    small_cells(monkeypatch)
    some, later = grown(workdir, 2)
    before, table, names = Compared.of(some, bounds()), table_of(some), run_names(some)
    offered, compare = [], BestEdges.compare

    def counted(self, faces, half, rows, fresh, *block):
        offered.append((len(rows), len(fresh)))
        compare(self, faces, half, rows, fresh, *block)

    monkeypatch.setattr(BestEdges, "compare", counted)
    now = run(some)
    assert sum(fresh for _, fresh in offered) < sum(rows for rows, _ in offered) / 4
    compared = Compared.of(some, bounds())
    found, graph = compared.graph(some)
    assert before.earlier and compared.blocks == before.blocks
    assert set(later) == {part for block in compared.blocks[before.earlier.count:] for part in block.parts}
    assert found["face_id"].to_pylist() == faces_of(some, compared)["face_id"].to_pylist() and len(found) == len(now)
    assert table_of(some).reused and np.array_equal(table.cells.centres, graph.cells.centres)
    assert equal(graph.edges, neighbours(graph.cells, graph.faces, graph.half, graph.space.edge(bounds()), MOST))
    assert np.array_equal(graph.half, table.cohort.crowding(graph.faces))
    assert all(now[face] == name for face, name in names.items())


def run_names(workdir: str) -> dict[str, str | None]:
    """face_id -> identity, as it was found last."""
    return {row["face_id"]: row["identity"] for row in Parts(workdir, "identities").read_all().to_pylist()}


def test_many_more_faces_are_compared_as_if_they_had_been_there_from_the_start(workdir, monkeypatch):
    small_cells(monkeypatch)
    some, _ = grown(workdir, 6)
    run(some)
    run(workdir)
    assert bytes_of(some, *KEPT, "cells") == bytes_of(workdir, *KEPT, "cells")


def test_a_table_that_is_gone_is_made_anew(workdir, monkeypatch):
    small_cells(monkeypatch)
    some, _ = grown(workdir, 2)
    Parts(some, "cells").discard()
    run(some)
    run(workdir)
    assert bytes_of(some, *KEPT, "cells") == bytes_of(workdir, *KEPT, "cells")


def test_a_copy_that_lies_before_an_earlier_face_takes_its_place(workdir, monkeypatch):
    small_cells(monkeypatch)
    once = run(workdir)
    first = Parts(workdir, "images").parts()[0]
    for folder in FOLDERS:
        table = Parts(workdir, folder).read(first)
        if folder == "images":
            table = table.set_column(table.schema.get_field_index("uri"), "uri",
                                     pa.array([f"0/{uri}" for uri in table["uri"].to_pylist()]))
        add(workdir, folder, "zz-copy.parquet", table)
    assert run(workdir) == once and not table_of(workdir).reused
    found, graph = Compared.of(workdir, bounds()).graph(workdir)
    assert "zz-copy.parquet" in found["part"].to_pylist() and first not in found["part"].to_pylist()
    assert equal(graph.edges, neighbours(graph.cells, graph.faces, graph.half, graph.space.edge(bounds()), MOST))


def test_a_picture_that_lies_in_several_parts_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "WHOLE", 0)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 40_000)
    small_cells(monkeypatch)
    workdir = make_workdir(tmp_path, PHOTOS)
    images = Parts(workdir, "images")
    again = images.parts()[0]
    copied = images.read(again)
    copied = copied.set_column(copied.schema.get_field_index("uri"), "uri",
                               pa.array([f"zz/{uri}" for uri in copied["uri"].to_pylist()]))
    once = run(workdir)
    for folder in FOLDERS:
        add(workdir, folder, "copy.parquet", copied if folder == "images" else Parts(workdir, folder).read(again))
    assert run(workdir) == once
    assert Parts(workdir, "identities").read_all()["face_id"].to_pylist().count(min(once)) == 1


def test_a_set_that_has_become_small_leaves_nothing_behind(workdir, monkeypatch):
    small_cells(monkeypatch)
    many = run(workdir)
    monkeypatch.setattr(blocks, "WHOLE", 10_000)
    shutil.rmtree(Path(workdir, "identities"))
    assert run(workdir).keys() == many.keys()
    assert not any(Path(workdir, folder).exists() for folder in (*KEPT, "cells"))


def test_blocks_hold_all_parts_in_their_order(workdir):
    cut = blocks.blocks(workdir)
    assert [part for block in cut for part in block.parts] == Parts(workdir, "faces").parts()
    assert [block.number for block in cut] == list(range(len(cut)))
    sizes = Parts(workdir, "faces").sizes()
    assert all(sum(sizes[part] for part in block.parts) <= 40_000 or len(block.parts) == 1 for block in cut)
