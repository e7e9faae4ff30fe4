"""Linking that goes on from clusters of an earlier run, against the same in one process, and against a run from the start."""
from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from pipeline import stages
from pipeline.stages import RunOptions
from tests.builders import Photo, make_workdir, party
from tests.homes import in_homes, told
from tests.test_compare import bounds, bytes_of, grown
from tests.test_graph import BOUNDS, crowd, graph
from transforms import blocks
from transforms.blocks import ROW_BITS
from transforms.cluster import ClusterOptions
from transforms.compare import Compared
from transforms.graph import Graph, all_kinds, all_steps, letters
from transforms.homes import CLUSTERS, run_here
from transforms.lasting import TABLES, Lasting
from transforms.link import how
from transforms.parts import Parts
from transforms.rows import Rows


def linked(some: Graph, early: np.ndarray, run=run_here) -> tuple[Mapping[str, Rows], Mapping[str, Rows]]:
    """What is kept when the early faces bool [N] are linked, and when the others have come."""

    def steps(first: int):
        return all_steps(BOUNDS, lambda: some.cells, lambda: some.space, False, False, first)

    def said(part: Graph) -> dict[str, Rows]:
        nothing = np.zeros((len(part.ids), 1), np.int64)
        return letters(part, np.full(len(part.ids), -1), csr_matrix(nothing), np.zeros(len(part.ids), bool), ())

    kinds = all_kinds(some.cells)
    before = run(steps(0), kinds, said(some.of_rows(np.flatnonzero(early))))
    late = said(some.of_rows(np.flatnonzero(~early)))
    late["newcomers"]["face"] = late["newcomers"]["face"] | 1 << ROW_BITS
    ours, theirs = np.append(some.edges.first, some.edges.second), np.append(some.edges.second, some.edges.first)
    asking = ~early[ours] & early[theirs]
    ids, others = some.ids[ours[asking]], some.ids[theirs[asking]]
    late["inherited"] = {"id": ids, "other": others, "former": ids}
    return before, run(steps(1), kinds, late, {name: before[name] for name in TABLES if name in before})


def heads(kept: Mapping[str, Rows]) -> dict[int, int]:
    """Face -> cluster, by ids."""
    return dict(zip(kept["members"]["face"].tolist(), kept["members"]["id"].tolist(), strict=True))


@st.composite
def crowds(draw) -> tuple[Graph, np.ndarray]:
    """Faces of some people, of whom some come early, all or none maybe."""
    people, each = draw(st.integers(4, 12)), draw(st.integers(8, 9))
    embeddings, _ = crowd(people, each, 16, draw(st.integers(0, 99)), draw(st.sampled_from([0.2, 0.8, 1.5])))
    count = len(embeddings)
    images = np.array(draw(st.lists(st.integers(0, count // 2), min_size=count, max_size=count)))
    early = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    return graph(embeddings, images), early


@settings(max_examples=25, deadline=None)
@given(crowds(), st.integers(2, 9))
def test_any_number_of_homes_goes_on_alike(some, count):
    alone, found = linked(*some)[1], linked(*some, in_homes(count))[1]
    for name in ("results", "people"):
        assert all(found[name][column].tolist() == alone[name][column].tolist() for column in alone[name])


@settings(max_examples=25, deadline=None)
@given(crowds())
def test_who_is_together_stays_together_and_all_is_told_of_those_who_came(some):
    faces, early = some
    before, after = linked(faces, early)
    was, now = heads(before), heads(after)
    assert set(now) == set(faces.ids.tolist()) and set(was) == set(faces.ids[early].tolist())
    assert len({(was[face], now[face]) for face in was}) == len(set(was.values()))
    seen = np.flatnonzero(faces.images >= 0)
    pairs = {(now[face], image) for face, image in zip(faces.ids[seen].tolist(), faces.images[seen].tolist(), strict=True)}
    assert len(pairs) == len(seen)  # nobody has 20 faces, so that none of one image is tolerated
    row = {face: at for at, face in enumerate(faces.ids.tolist())}
    for face, similarity in zip(after["results"]["id"].tolist(), after["results"]["similarity"].tolist(), strict=True):
        its = faces.space.restore(faces.faces[[row[other] for other, head in now.items() if head == now[face]]]).astype(float)
        middle, own = its.mean(axis=0), faces.space.restore(faces.faces[[row[face]]]).astype(float)[0]
        assert similarity == pytest.approx(own @ middle / np.linalg.norm(own) / np.linalg.norm(middle), abs=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_people_who_are_apart_are_found_whoever_comes_first(share):
    embeddings, whose = crowd(12, 12, 32, 1, 0.6)
    early = np.random.default_rng(0).random(len(embeddings)) < share
    now = linked(graph(embeddings), early)[1]
    order = np.argsort(np.concatenate([np.flatnonzero(early), np.flatnonzero(~early)]))
    label = told(now)[0][order]
    assert len({*zip(label.tolist(), whose, strict=True)}) == len(set(whose)) == len(set(label.tolist()))


# --- on Beam ---


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> str:
    """Some 240 faces, in homes of some 80, of whom the last photos show people seen before, and two who are new."""
    monkeypatch.setattr(blocks, "WHOLE", 0)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 40_000)
    monkeypatch.setattr(stages, "FACES", 80)
    late = [Photo(f"zz-{n}.jpg", (f"person-{n}", f"new-{n % 2}")) for n in range(8)]
    return make_workdir(tmp_path, [*party(40, 40), *late])


def run(workdir: str, processes: int = 1) -> dict[str, tuple[str | None, float]]:
    """face_id -> identity, and how similar the face is to its mean."""
    stages.cluster(workdir, ClusterOptions(cluster_processes=processes), RunOptions())
    return {row["face_id"]: (row["identity"], row["centroid_similarity"])
            for row in Parts(workdir, "identities").read_all().to_pylist()}


def goes_on(workdir: str) -> bool:
    return Lasting.of(workdir, Compared.of(workdir, bounds()), how(bounds())) is not None


def groups(found: Mapping[str, tuple[str | None, float]]) -> set[frozenset[str]]:
    names: dict[str | None, set[str]] = {}
    for face, (name, _) in found.items():
        names.setdefault(name, set()).add(face)
    return {frozenset(faces) for faces in names.values()}


def test_a_few_more_photos_are_linked_to_the_people_there_are(workdir):
    some, _ = grown(workdir, 2)
    before = {row["face_id"]: row["identity"] for row in Parts(some, "identities").read_all().to_pylist()}
    assert goes_on(some)
    now, anew = run(some), run(workdir)
    assert groups(now) == groups(anew) and len(groups(now)) == 42
    assert all(now[face][0] == name for face, name in before.items())
    assert all(now[face][1] == pytest.approx(anew[face][1], abs=1e-3) for face in anew)
    ours, theirs = (Parts(its, "people").read_all(["faces", "spread"]).to_pydict() for its in (some, workdir))
    assert sorted(ours["faces"]) == sorted(theirs["faces"])
    assert sorted(ours["spread"]) == pytest.approx(sorted(theirs["spread"]), abs=1e-3)


def test_child_processes_go_on_alike_to_the_byte(workdir, tmp_path):
    some, _ = grown(workdir, 2)
    other = str(shutil.copytree(some, tmp_path / "other"))
    assert run(some) == run(other, 3)
    assert bytes_of(some, "identities", "people") == bytes_of(other, "identities", "people")
    one, same = ({file.name: file.read_bytes() for file in Path(its, CLUSTERS).iterdir()} for its in (some, other))
    assert one == same and len(one) > len(TABLES)


def test_a_run_that_was_stopped_goes_on_from_where_it_began(workdir, tmp_path, monkeypatch):
    some, _ = grown(workdir, 2)
    other = str(shutil.copytree(some, tmp_path / "other"))
    whole, commit = run(some), Parts.commit
    for folder in ("people", "identities"):  # at the end of linking, before and after one of the ledgers is there

        def stopped(self, *arguments, last=folder):
            if self.name == last:
                raise KeyboardInterrupt
            commit(self, *arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Parts, "commit", stopped)
            run(other)
    assert run(other) == whole
    assert bytes_of(some, "identities", "people") == bytes_of(other, "identities", "people")


def test_what_is_said_is_heard_by_all(workdir, tmp_path):
    some, _ = grown(workdir, 2)
    faces = Parts(some, "faces").read_all(["face_id"])["face_id"].to_pylist()
    Path(some, "corrections.jsonl").write_text(json.dumps({"split": [faces[:1], faces[1:2]]}))
    other = str(shutil.copytree(some, tmp_path / "other"))
    shutil.rmtree(Path(other, CLUSTERS))
    assert run(some) == run(other) and not Path(some, CLUSTERS).exists()
    Path(some, "corrections.jsonl").unlink()
    run(some)
    assert Path(some, CLUSTERS).exists()


def test_photos_that_are_gone_are_forgotten(workdir, tmp_path):
    run(workdir)
    names = Parts(workdir, "faces").parts()
    for folder in ("images", "faces", "crops", "rejects"):
        there = Parts(workdir, folder)
        there.commit({"photos": names[1:]}, options=there.options())
    assert not goes_on(workdir)
    other = str(shutil.copytree(workdir, tmp_path / "other"))
    shutil.rmtree(Path(other, CLUSTERS))
    assert run(workdir) == run(other)


def test_the_same_faces_are_linked_anew(workdir):
    some, _ = grown(workdir, 2)
    run(some)
    assert not goes_on(some)
    shutil.rmtree(Path(some, "identities"))
    again = run(some)
    shutil.rmtree(Path(some, "identities"))
    shutil.rmtree(Path(some, CLUSTERS))
    assert run(some) == again


def test_few_faces_leave_no_clusters(workdir, monkeypatch):
    run(workdir)
    assert Path(workdir, CLUSTERS).exists()
    monkeypatch.setattr(blocks, "WHOLE", 10_000)
    shutil.rmtree(Path(workdir, "identities"))
    run(workdir)
    assert not Path(workdir, CLUSTERS).exists()
