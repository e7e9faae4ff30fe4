"""Faces linked in many homes, on Beam, against the same in one process."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import stages
from pipeline.stages import RunOptions
from tests.builders import make_workdir, party
from tests.test_linkage import BOUNDS, crowd, graph
from transforms import blocks, linkage
from transforms.cluster import ClusterOptions
from transforms.homes import FOLDER, Home
from transforms.linkage import cluster_faces
from transforms.parts import Parts
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

    def run(steps, kinds: dict[str, Kind], letters: dict[str, Rows]) -> dict[str, Rows]:
        came = split([(name, [(rows["id"] % count, rows)]) for name, rows in letters.items()])
        homes = [Home(count, kinds, {}, its) for its in came]
        for step in steps:
            for home in homes:
                step(home)
            came = split([sent for home in homes for sent in home.sent.items()])
            homes = [Home(count, kinds, home.kept, its) for home, its in zip(homes, came, strict=True)]
        return {name: together([home.keeps(name) for home in homes]) for name in ("results", "people")}

    return run


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_number_of_homes_gives_the_same(data):
    people, each = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 8))
    embeddings, _ = crowd(people, each, 16, data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.2, 0.8, 1.5])))
    count = len(embeddings)
    images = np.array(data.draw(st.lists(st.integers(0, max(count // 2, 1)), min_size=count, max_size=count)))
    persons = np.array(data.draw(st.lists(st.sampled_from([-1, -1, -1, 0, 1]), min_size=count, max_size=count)))
    camps = scipy.sparse.csr_matrix((persons >= 0).astype(np.int64)[:, None])
    merged = [np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=3)), np.int64) for _ in range(2)]
    some = graph(embeddings, images)
    alone = cluster_faces(some, BOUNDS, persons, camps, merged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linkage, "run_here", in_homes(data.draw(st.integers(2, 9))))
        found = cluster_faces(some, BOUNDS, persons, camps, merged)
    assert found.label.tolist() == alone.label.tolist() and found.similarity.tolist() == alone.similarity.tolist()
    assert all(found.people[name].tolist() == column.tolist() for name, column in alone.people.items())


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> str:
    """Some 200 faces in blocks of a few parts, too many for one cell, with something said of some."""
    monkeypatch.setattr(blocks, "WHOLE", 0)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 40_000)
    return make_workdir(tmp_path, party(40, 40))


def identities(workdir: str) -> dict[str, tuple[str | None, float]]:
    """face_id -> identity, and how similar the face is to its mean."""
    stages.cluster(workdir, ClusterOptions(), RunOptions())
    return {row["face_id"]: (row["identity"], row["centroid_similarity"])
            for row in Parts(workdir, "identities").read_all().to_pylist()}


def test_homes_on_beam_give_what_one_process_gives_and_leave_nothing_behind(workdir, tmp_path, monkeypatch):
    faces = Parts(workdir, "faces").read_all(["face_id"])["face_id"].to_pylist()
    lines = [{"split": [faces[:2], faces[50:51]]}, {"exclude": faces[100:102]}, {"merge": [faces[150], faces[170]]}]
    Path(workdir, "corrections.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    other = shutil.copytree(workdir, tmp_path / "other")
    alone = identities(workdir)
    there, write = [], Parts.write_batches

    def counted(self, part, tables):
        write(self, part, tables)
        if self.name == FOLDER:
            there.append(len(list(Path(self.url).iterdir())))

    monkeypatch.setattr(stages, "FACES", 80)
    monkeypatch.setattr(Parts, "write_batches", counted)
    assert identities(str(other)) == alone
    assert alone[faces[0]][0] == alone[faces[1]][0] != alone[faces[50]][0] and alone[faces[100]][0] is None
    assert alone[faces[150]][0] == alone[faces[170]][0] and len({name for name, _ in alone.values()}) > 30
    assert not Path(other, FOLDER).exists() and not Path(other, "linked").exists()
    assert max(there) < len(there) / 2  # what nobody reads any more is removed on the way
