"""The work directory: parts that are whole, a ledger that says which are valid."""
from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import parts
from transforms.parts import NotReady, OtherSchema, Parts


@pytest.fixture(params=["local", "memory"])
def workdir(request, tmp_path):
    return str(tmp_path / "work") if request.param == "local" else f"memory://parts-{tmp_path.name}"


def table(*values: int) -> pa.Table:
    return pa.table({"value": list(values)})


def test_a_folder_without_a_ledger_is_not_finished(workdir):
    images = Parts(workdir, "images")
    assert images.existing() == set()
    images.write("a.parquet", table(1))
    with pytest.raises(NotReady, match="umo-dataset extract"):
        images.parts()


def test_what_is_synthetic_is_seen_where_it_is_asked_for_alone(workdir):
    images, every = Parts(workdir, "images"), Parts(workdir, "images", synthetic=True)
    images.write("a.parquet", table(1))
    images.commit({"photos": ["a.parquet"]}, {"faces": "0"}, {"seed": 1})
    before = images.digest()
    images.write("made.parquet", table(2))
    images.commit({"synthetic": ["made.parquet"]})
    assert images.parts() == ["a.parquet"] and images.read_all()["value"].to_pylist() == [1]
    assert every.parts() == ["a.parquet", "made.parquet"] and every.read_all()["value"].to_pylist() == [1, 2]
    assert images.digest() == before != every.digest()
    assert images.made_from() == {"faces": "0"} and images.options() == {"seed": 1}
    images.commit({"synthetic": []})
    assert every.parts() == ["a.parquet"] and images.existing() == {"a.parquet"}


def test_readers_read_what_the_ledger_names_and_the_rest_is_removed(workdir):
    images = Parts(workdir, "images")
    for name in ("a", "b", "stale"):
        images.write(f"{name}.parquet", table(ord(name[0])))
    images.commit({"photos": ["b.parquet", "a.parquet"]})
    assert images.read_all()["value"].to_pylist() == [97, 98]
    assert images.read_all()["part"].to_pylist() == ["a.parquet", "b.parquet"]
    assert images.existing() == {"a.parquet", "b.parquet"}


def test_producers_keep_their_parts_apart(workdir):
    images = Parts(workdir, "images")
    for name in ("a", "b", "c"):
        images.write(f"{name}.parquet", table(1))
    images.commit({"photos": ["a.parquet"], "synthetic": ["b.parquet"]})
    images.write("c.parquet", table(2))
    images.commit({"photos": ["c.parquet"]})
    assert images.ledger() == {"photos": ["c.parquet"], "synthetic": ["b.parquet"]}
    assert images.parts(["synthetic"]) == ["b.parquet"]


def test_what_was_made_from_an_earlier_state_is_refused(workdir):
    faces, identities = Parts(workdir, "faces"), Parts(workdir, "identities")
    faces.write("a.parquet", table(1))
    faces.commit({"photos": ["a.parquet"]})
    identities.commit({"photos": []}, parts.state_of(faces))
    identities.check_made_from(faces)
    faces.write("b.parquet", table(2))
    faces.commit({"photos": ["a.parquet", "b.parquet"]})
    with pytest.raises(NotReady, match="umo-dataset cluster"):
        identities.check_made_from(faces)


def test_another_schema_is_refused(workdir):
    images = Parts(workdir, "images")
    images.commit({"photos": []})
    text = json.loads(parts.get(parts.join(images.url, parts.LEDGER)))
    parts.put(parts.join(images.url, parts.LEDGER), json.dumps({**text, "schema": 0}).encode())
    with pytest.raises(OtherSchema, match="schema 0"):
        images.parts()
    with pytest.raises(OtherSchema, match="schema 0"):
        images.commit({"photos": []})  # nothing of another version is taken over


def test_a_cut_ledger_is_made_anew(workdir):
    images = Parts(workdir, "images")
    parts.put(parts.join(images.url, parts.LEDGER), b'{"parts": {"pho')
    with pytest.raises(NotReady, match="umo-dataset extract"):
        images.parts()
    images.commit({"photos": []})
    assert images.parts() == []


def test_the_same_table_gives_the_same_bytes(workdir):
    images = Parts(workdir, "images")
    images.write("a.parquet", table(1, 2))
    images.write("b.parquet", table(1, 2))
    assert parts.get(images.part_url("a.parquet")) == parts.get(images.part_url("b.parquet"))


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        parts.put(str(tmp_path / "a"), b"x")
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_some_rows_are_those_of_the_whole_part(rows, row_group, data):
    parts = Parts(f"memory://rows-{rows}-{row_group}", "images")
    table = pa.table({"number": list(range(rows)), "list": [[n, n] for n in range(rows)]})
    parts.write("a.parquet", table, row_group)
    wanted = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=20))
    assert parts.read_rows("a.parquet", wanted) == table.take(wanted)


@pytest.mark.parametrize("where", ["local", "memory"])
def test_batches_are_read_alone_and_stay_when_the_part_is_gone(tmp_path, where):
    parts = Parts(str(tmp_path) if where == "local" else "memory://batches", "homes")
    tables = [pa.table({"number": [3 * batch, 3 * batch + 1], "text": ["a", "b" * batch]}) for batch in range(4)]
    parts.write_batches("a.arrow", tables)
    read = parts.read_batches("a.arrow", [2, 0])
    parts.discard()
    assert read == pa.concat_tables([tables[2], tables[0]])


@pytest.mark.parametrize("where", ["local", "memory"])
def test_batches_that_fail_leave_nothing(tmp_path, where):
    parts = Parts(str(tmp_path) if where == "local" else "memory://fail", "homes")
    with pytest.raises(pa.ArrowInvalid):
        parts.write_batches("a.arrow", [pa.table({"number": [1]}), pa.table({"text": ["a"]})])
    assert parts.existing() == set() and (where == "memory" or not any((tmp_path / "homes").iterdir()))
