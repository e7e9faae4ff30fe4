"""What a user says of faces beforehand, from files to identities."""
from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import stages
from pipeline.stages import RunOptions
from tests.builders import Photo, make_workdir, party
from transforms.cluster import ClusterOptions
from transforms.failure import Failure
from transforms.pair import PairOptions
from transforms.parts import Parts

PHOTOS = party(12)


def identities(workdir: str, names: Path | None = None) -> dict[str, list[str | None]]:
    """Photo -> identities of its faces from left to right, after a run of `cluster`."""
    stages.cluster(workdir, ClusterOptions(identities=names and str(names)), RunOptions())
    uri_of = {row["image_key"]: row["uri"] for row in Parts(workdir, "images").read_all().to_pylist()}
    found: dict[str, list[str | None]] = {}
    for row in sorted(Parts(workdir, "identities").read_all().to_pylist(), key=lambda row: row["face_id"]):
        found.setdefault(uri_of[row["face_id"].partition(":")[0]], []).append(row["identity"])
    return found


def of(found: dict[str, list[str | None]], person: int) -> set[str | None]:
    """What the faces of a person are called."""
    return {name for photo in PHOTOS for name, who in zip(found[photo.name], photo.people, strict=True)
            if who == f"person-{person}"}


def correct(workdir: str, *lines: dict) -> None:
    Path(workdir, "corrections.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


@pytest.fixture
def workdir(tmp_path) -> str:
    return make_workdir(tmp_path, PHOTOS)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_names_reach_all_of_a_persons_faces(workdir, tmp_path, kind):
    rows = [{"uri": f"alone-person-{n}-0.jpg", "identity": f"name {n}"} for n in range(3)]
    names = tmp_path / f"names.{kind}"
    if kind == "folder":
        for row in rows:
            (names / row["identity"]).mkdir(parents=True)
            shutil.copy(tmp_path / "photos" / row["uri"], names / row["identity"] / "any.jpg")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), names)
    elif kind == "csv":
        with names.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        names.write_text("\n".join(map(json.dumps, rows)))
    found = identities(workdir, names)
    assert [of(found, n) for n in range(3)] == [{f"name {n}"} for n in range(3)]
    assert len(set().union(*(of(found, n) for n in range(12)))) == 12
    assert found == identities(workdir, names)


def test_names_part_and_join_whatever_the_faces_look_like(workdir, tmp_path):
    names = tmp_path / "names.jsonl"
    names.write_text("\n".join(map(json.dumps, [
        {"uri": "alone-person-0-0.jpg", "identity": "Ann"}, {"uri": "alone-person-1-0.jpg", "identity": "Ann"},
        {"uri": "alone-person-2-0.jpg", "identity": "Bob"}, {"uri": "alone-person-2-1.jpg", "identity": "Cat"}])))
    found = identities(workdir, names)
    assert found["alone-person-0-0.jpg"] == found["alone-person-1-0.jpg"] == ["Ann"]
    assert (found["alone-person-2-0.jpg"], found["alone-person-2-1.jpg"]) == (["Bob"], ["Cat"])


def test_a_merge_joins_all_of_two_people_and_holds_on_every_run(workdir, tmp_path, capsys):
    before = identities(workdir)
    correct(workdir, {"merge": ["alone-person-0-0.jpg", "alone-person-5-1.jpg"]})
    found = identities(workdir)
    (one,) = of(found, 0) | of(found, 5)
    assert one in of(before, 0) | of(before, 5) and all(of(found, n) == of(before, n) for n in range(1, 5))
    assert f"identity {one} is merged from" in capsys.readouterr().err
    make_workdir(tmp_path, [*PHOTOS, Photo("more.jpg", ("person-0",))])  # more photos, another run
    assert of(identities(workdir), 5) == {one}
    Path(workdir, "corrections.jsonl").unlink()
    assert len(of(identities(workdir), 0) | of(identities(workdir), 5)) == 2


def test_a_split_keeps_two_faces_apart_and_the_rest_finds_its_place(tmp_path, capsys):
    alike = [Photo(f"{name}-{take}.jpg", ("alike",)) for name in ("one", "other") for take in range(4)]
    workdir = make_workdir(tmp_path, [*PHOTOS, *alike])
    assert len({name for photo in alike for name in identities(workdir)[photo.name]}) == 1
    correct(workdir, {"split": [["one-0.jpg", "one-1.jpg"], ["other-0.jpg", "other-1.jpg", "other-2.jpg"]]})
    found = identities(workdir)
    one, other = ({found[f"{name}-{take}.jpg"][0] for take in range(2)} for name in ("one", "other"))
    assert len(one) == len(other) == 1 and one != other and None not in one | other
    assert found["other-2.jpg"][0] in other and {found["one-3.jpg"][0], found["other-3.jpg"][0]} <= one | other
    assert "is split into" in capsys.readouterr().err


def test_an_excluded_face_belongs_to_nobody(workdir):
    correct(workdir, {"exclude": ["alone-person-0-0.jpg"]})
    found = identities(workdir)
    assert found["alone-person-0-0.jpg"] == [None] and len(of(found, 0) - {None}) == 1
    assert Counter(name for names in found.values() for name in names)[None] == 1


def test_what_names_no_face_is_told(workdir, tmp_path, capsys):
    names = tmp_path / "names.jsonl"
    rows = [{"uri": "gone.jpg", "identity": "A"}, {"uri": "together-0.jpg", "identity": "B"},
            {"uri": "together-3.jpg", "identity": "C"}]
    names.write_text("\n".join(map(json.dumps, rows)))
    identities(workdir, names)
    told = capsys.readouterr().err
    assert "gone.jpg is not used: no face has that face_id" in told
    assert "together-0.jpg and 1 others are not used: the picture shows several faces" in told


def test_a_uri_of_two_inputs_names_nobody(tmp_path, capsys):
    workdir = make_workdir(tmp_path, [*PHOTOS, Photo("again.jpg", ("person-3",))])
    images = Parts(workdir, "images")
    for part in images.parts():
        rows = [row | {"uri": "alone-person-0-0.jpg", "root": "/elsewhere"} if row["uri"] == "again.jpg" else row
                for row in images.read(part).to_pylist()]
        images.write(part, pa.Table.from_pylist(rows, images.schema(part)))
    correct(workdir, {"exclude": ["alone-person-0-0.jpg"]})
    stages.cluster(workdir, ClusterOptions(), RunOptions())
    assert "alone-person-0-0.jpg is not used: several pictures have that uri" in capsys.readouterr().err
    assert Parts(workdir, "identities").read_all()["identity"].null_count == 0


@pytest.mark.parametrize("lines", [
    [],
    [{"merge": ["alone-person-0-0.jpg", "alone-person-0-1.jpg"]}]])
def test_splits_part_those_they_name_and_nobody_else(workdir, lines):
    """Ann and Bob are two, Ann and Cat are two: that tears neither Ann in two nor anybody else apart."""
    before = identities(workdir)
    correct(workdir, {"split": [["alone-person-0-0.jpg"], ["alone-person-1-0.jpg"]]},
            {"split": [["alone-person-0-1.jpg"], ["alone-person-2-0.jpg"]]}, *lines)
    assert identities(workdir) == before


def test_a_split_leaves_a_named_person_whole(workdir, tmp_path):
    names = tmp_path / "names.jsonl"
    names.write_text(json.dumps({"uri": "alone-person-0-0.jpg", "identity": "Ann"}))
    correct(workdir, {"split": [["alone-person-0-1.jpg"], ["alone-person-1-0.jpg"]]})
    assert of(identities(workdir, names), 0) == {"Ann"}


def test_a_new_name_keeps_the_split(tmp_path):
    couples = [Photo(f"{n}-{take}.jpg", (f"man-{n}", f"woman-{n}")) for n in range(16) for take in range(3)]
    workdir = make_workdir(tmp_path, couples, photos_a_part=8)
    options = PairOptions(val_fraction=0.3)

    def splits() -> dict[str, str]:
        stages.pair(workdir, options, RunOptions())
        return {row["target"]["uri"]: row["split"] for row in Parts(workdir, "samples").read_all().to_pylist()}

    found = identities(workdir)
    before = splits()
    assert set(before.values()) == {"train", "val"}
    names = tmp_path / "names.jsonl"
    faces = Parts(workdir, "identities").read_all().to_pylist()
    chosen = {row["identity"]: row["face_id"] for row in faces if row["identity"]}
    names.write_text("\n".join(json.dumps({"face_id": face, "identity": f"called {n}"})
                               for n, (_, face) in enumerate(sorted(chosen.items()))))
    assert found != identities(workdir, names)
    assert splits() == before


@pytest.mark.parametrize(("lines", "says"), [
    ([{"merge": "alone-person-0-0.jpg"}], "corrections.jsonl:1 is none of"),
    ([{"merge": ["alone-person-0-0.jpg"]}], "corrections.jsonl:1 is none of"),
    ([{"exclude": []}], "corrections.jsonl:1 is none of"),
    ([{"split": [["alone-person-0-0.jpg"], []]}], "corrections.jsonl:1 is none of"),
    ([{"exclude": ["alone-person-0-0.jpg"]}, {"split": [["alone-person-0-0.jpg"]]}], "corrections.jsonl:2 is none of"),
    ([{"split": [["alone-person-0-0.jpg"], ["alone-person-0-0.jpg"]]}], "corrections.jsonl:1 tells faces apart"),
    ([{"split": [["alone-person-0-0.jpg"], ["alone-person-1-0.jpg"]]},
      {"merge": ["alone-person-0-0.jpg", "alone-person-1-0.jpg"]}], "corrections.jsonl:1 tells faces apart"),
    ([{"split": [["alone-person-0-0.jpg"], ["alone-person-1-0.jpg"]]},
      {"merge": ["alone-person-0-1.jpg", "alone-person-1-1.jpg"]}], "said to be two"),
    ([{"merge": [], "exclude": ["alone-person-0-0.jpg"]}], "corrections.jsonl:1 is none of"),
    ([7], "corrections.jsonl:1 is none of")])
def test_corrections_that_say_nothing_or_too_much_are_one_line(workdir, lines, says):
    correct(workdir, *lines)
    with pytest.raises(Failure, match=says):
        identities(workdir)


@pytest.mark.parametrize(("text", "says"), [
    ('{"identity": "A", "uri": "x"}\n{"uri": "y"}', r"names.jsonl:2 has no identity"), ("nonsense", r"names.jsonl:1 has no"),
    ('{"identity": "A", "uri": "alone-person-0-0.jpg"}\n{"identity": "B", "uri": "alone-person-0-0.jpg"}', "tells faces apart"),
    ('{"identity": "\\ud800", "uri": "x"}', "is text")])
def test_names_that_say_nothing_or_too_much_are_one_line(workdir, tmp_path, text, says):
    (tmp_path / "names.jsonl").write_text(text)
    with pytest.raises(Failure, match=says):
        identities(workdir, tmp_path / "names.jsonl")


@pytest.mark.parametrize(("name", "says"), [("people", "names nobody"), ("names.jsonl", "names nobody"),
                                          ("names.txt", "none of .jsonl")])
def test_names_of_nobody_are_one_line(workdir, tmp_path, name, says):
    if name == "people":
        (tmp_path / name).mkdir()
        (tmp_path / name / "nobody.jpg").write_bytes(b"")
    else:
        (tmp_path / name).write_text("")
    with pytest.raises(Failure, match=says):
        identities(workdir, tmp_path / name)
