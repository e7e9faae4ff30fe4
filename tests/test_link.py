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
from tests.homes import in_homes
from tests.test_graph import BOUNDS, crowd, graph
from transforms import adoption, blocks, clusters, naming
from transforms import people as kinds_of_people
from transforms.cluster import ClusterOptions
from transforms.graph import cluster_faces
from transforms.homes import FOLDER
from transforms.parts import Parts


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
        patch.setattr("transforms.graph.run_here", in_homes(data.draw(st.integers(2, 9))))
        found = cluster_faces(some, BOUNDS, persons, camps, merged)
    for name in ("results", "people"):
        assert all(found[name][column].tolist() == alone[name][column].tolist() for column in alone[name])


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> str:
    """Some 200 faces in blocks of a few parts, too many for one cell, with something said of some."""
    monkeypatch.setattr(blocks, "WHOLE", 0)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 40_000)
    return make_workdir(tmp_path, party(40, 40))


def identities(workdir: str, processes: int = 1) -> dict[str, tuple[str | None, float]]:
    """face_id -> identity, and how similar the face is to its mean."""
    stages.cluster(workdir, ClusterOptions(cluster_processes=processes), RunOptions())
    return {row["face_id"]: (row["identity"], row["centroid_similarity"])
            for row in Parts(workdir, "identities").read_all().to_pylist()}


def people(workdir: str) -> list[dict]:
    return Parts(workdir, "people").read_all().drop_columns(["part"]).sort_by("identity").to_pylist()


def test_homes_on_beam_give_what_one_process_gives_and_leave_nothing_behind(workdir, tmp_path, monkeypatch):
    faces = Parts(workdir, "faces").read_all(["face_id"])["face_id"].to_pylist()
    lines = [{"split": [faces[:2], faces[50:51]]}, {"exclude": faces[100:102]}, {"merge": [faces[150], faces[170]]}]
    Path(workdir, "corrections.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    other = str(shutil.copytree(workdir, tmp_path / "other"))
    alone = identities(workdir)
    there, write = [], Parts.write_batches

    def counted(self, part, tables):
        write(self, part, tables)
        if self.name == FOLDER:
            there.append(len(list(Path(self.url).iterdir())))

    with monkeypatch.context() as patch:
        patch.setattr(stages, "FACES", 80)
        patch.setattr(Parts, "write_batches", counted)
        assert identities(other) == alone
    assert alone[faces[0]][0] == alone[faces[1]][0] != alone[faces[50]][0] and alone[faces[100]][0] is None
    assert alone[faces[150]][0] == alone[faces[170]][0] and len({name for name, _ in alone.values()}) > 30
    assert people(other) == people(workdir) and not Path(other, FOLDER).exists()
    assert max(there) < len(there) / 2  # what nobody reads any more is removed on the way

    Path(workdir, "corrections.jsonl").write_text(json.dumps({"split": [faces[:2], faces[50:51], faces[2:3]]}))
    shutil.copy(Path(workdir, "corrections.jsonl"), Path(other, "corrections.jsonl"))
    later = identities(workdir)
    monkeypatch.setattr(stages, "FACES", 80)
    assert identities(other) == later != alone and people(other) == people(workdir)
    assert sum(later[face][0] == name for face, (name, _) in alone.items()) > len(alone) - 20


def test_child_processes_give_what_one_gives_to_the_byte(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "FACES", 80)
    other = str(shutil.copytree(workdir, tmp_path / "other"))
    assert identities(other, 3) == identities(workdir)
    for folder in ("identities", "people", "edges", "crowding"):
        one, same = ({file.name: file.read_bytes() for file in Path(some, folder).glob("*.parquet")}
                     for some in (workdir, other))
        assert one == same and one


def test_tables_of_homes_have_names_of_their_own():
    tables = [kinds.kinds(8, 2) for kinds in (clusters, adoption, kinds_of_people)] + [naming.kinds()]
    assert len(set().union(*tables)) == sum(map(len, tables))
