"""From what a user names to chunks, and from chunks to bytes."""
from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.chunk import Item
from tests.builders import drawn_photo
from transforms import inputs
from transforms.inputs import IngestOptions, Read, UnusableInput
from transforms.pictures import encode


def photo(path: Path, *seed: object) -> bytes:
    data = encode(drawn_photo(*(seed or (path.name,)), width=80, height=64))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def listed(*urls: object, **options: int) -> list[Item]:
    return [item for chunk in inputs.chunks(map(str, urls), IngestOptions(**options)) for item in chunk.items]


def all_read(*urls: object) -> dict[str, Read]:
    return {read.item.uri: read for chunk in inputs.chunks(map(str, urls), IngestOptions())
            for read in inputs.read(chunk) if isinstance(read, Read)}


def faults(*urls: object) -> dict[str, str]:
    return {read[0].uri: read[1].reason for chunk in inputs.chunks(map(str, urls), IngestOptions())
            for read in inputs.read(chunk) if not isinstance(read, Read)}


NAMES = ["a.jpg", "UPPER.JPG", "-dash.jpg", "two  spaces.png", "quote's \"double\" $HOME;&|*?[1].jpg", "tab\tand,comma.jpg",
         "naïve 二人 👥.jpg", "cafe\u0301.webp", "no_extension", "sub/deeper/b.jpeg"]


def test_a_folder_gives_every_picture_whatever_its_name(tmp_path):
    data = {name: photo(tmp_path / name) for name in NAMES}
    (tmp_path / "notes.md").write_text("not a picture")
    photo(tmp_path / ".hidden" / "c.jpg")
    seen = all_read(tmp_path)
    assert {uri: read.data for uri, read in seen.items()} == data
    assert seen["sub/deeper/b.jpeg"].item.group == "sub/deeper" and seen["a.jpg"].item.group is None


def test_one_picture_and_a_glob_are_inputs_too(tmp_path):
    photo(tmp_path / "x" / "a.jpg")
    photo(tmp_path / "y" / "b.jpg")
    photo(tmp_path / "y" / "c.png")
    assert list(all_read(tmp_path / "x" / "a.jpg")) == ["a.jpg"]
    assert sorted(all_read(tmp_path / "*" / "*.jpg")) == ["x/a.jpg", "y/b.jpg"]


def test_a_folder_with_a_pictures_name_is_a_fault_unless_it_holds_pictures(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "inside.md").write_text("text")
    photo(tmp_path / "album.jpg" / "a.jpg")
    assert faults(tmp_path) == {"folder.jpg": "folder"}
    assert list(all_read(tmp_path)) == ["album.jpg/a.jpg"]


def test_any_installed_filesystem_will_do():
    memory = fsspec.filesystem("memory")
    data = encode(drawn_photo("memory", width=80, height=64))
    memory.pipe_file("/inputs-test/album/a.jpg", data)
    read = all_read("memory://inputs-test")["album/a.jpg"]
    assert read.data == data
    chunk = inputs.chunks(["memory://inputs-test"], IngestOptions())[0]
    assert inputs.read_again(chunk.root, "album/a.jpg") == data


def test_sidecars_give_caption_and_licence(tmp_path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("Two friends.\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps({"license": "CC-BY-4.0", "timestamp": "12.5", "group": 7}))
    photo(tmp_path / "b.jpg")
    (tmp_path / "b.json").write_text("{not json")
    seen = all_read(tmp_path)
    assert (seen["a.jpg"].item.caption, seen["a.jpg"].item.license) == ("Two friends.", "CC-BY-4.0")
    assert seen["a.jpg"].item.timestamp == 12.5 and seen["a.jpg"].item.group is None
    assert seen["b.jpg"].item.caption is None


ROWS = [{"uri": "photos/a.jpg", "group": "album", "clip": "c1", "timestamp": 3.0, "caption": "hello", "license": "CC0"},
        {"uri": "photos/b.jpg", "group": None, "clip": None, "timestamp": None, "caption": None, "license": None}]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_manifests_carry_what_is_known(tmp_path, kind):
    for row in ROWS:
        photo(tmp_path / row["uri"])
    path = tmp_path / f"manifest.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ROWS[0])
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    seen = all_read(path)
    first, second = (seen[row["uri"]].item for row in ROWS)
    assert (first.group, first.clip, first.timestamp, first.caption, first.license) == ("album", "c1", 3.0, "hello", "CC0")
    assert (second.group, second.clip, second.timestamp, second.caption) == (None, None, None, None)


def test_bad_lines_of_a_manifest_are_faults_and_the_rest_is_read(tmp_path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "m.jsonl").write_text('{"uri": "a.jpg"}\n{broken\n{"url": "b.jpg"}\n[1]\n{"uri": "gone.jpg"}\n')
    assert list(all_read(tmp_path / "m.jsonl")) == ["a.jpg"]
    assert faults(tmp_path / "m.jsonl") == {"m.jsonl:2": "bad_row", "m.jsonl:3": "bad_row", "m.jsonl:4": "bad_row",
                                            "gone.jpg": "missing"}


def test_a_manifest_leaks_no_path_of_the_machine(tmp_path):
    photo(tmp_path / "elsewhere" / "album" / "a.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.jsonl").write_text(json.dumps({"uri": str(tmp_path / "elsewhere" / "album" / "a.jpg")}))
    assert list(all_read(tmp_path / "lists" / "m.jsonl")) == ["album/a.jpg"]


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_tars_of_webdataset_and_img2dataset_are_read_and_read_again(tmp_path):
    one, other = (encode(drawn_photo(n, width=80, height=64)) for n in (1, 2))
    tar_of(tmp_path / "00000.tar", {
        "000.jpg": one, "000.json": json.dumps({"caption": "from json", "license": "CC0"}).encode(),
        "000.txt": b"from txt", "001.txt": b"alone", "001.jpg": other})
    for url in (tmp_path, tmp_path / "00000.tar"):
        seen = list(all_read(url).values())
        assert [read.data for read in seen] == [one, other]
        assert (seen[0].item.caption, seen[0].item.license, seen[1].item.caption) == ("from json", "CC0", "alone")
        for read in seen:
            assert inputs.read_again(str(tmp_path), read.item.uri) == read.data


def test_a_cut_tar_gives_what_is_whole_and_a_fault(tmp_path):
    whole = encode(drawn_photo(1, width=80, height=64))
    tar_of(tmp_path / "t.tar", {"000.jpg": whole, "001.jpg": whole + b"x"})
    data = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(data[:512 + len(whole) + 1024])
    assert [read.data for read in all_read(tmp_path).values()] == [whole]
    assert list(faults(tmp_path).values()) == ["bad_tar"]


@pytest.mark.parametrize("name", ["nowhere", "film.xyz", "*.nothing"])
def test_an_input_that_is_none_says_so(tmp_path, name):
    (tmp_path / "film.xyz").write_bytes(b"?")
    with pytest.raises(UnusableInput, match=name.replace("*", r"\*")):
        listed(tmp_path / name)


def test_one_file_more_touches_one_chunk_or_two_where_it_is_a_cut():
    items = [Item(f"{n:05d}.jpg") for n in range(0, 20000, 2)]
    before = set(inputs.cut(items, 64))
    assert all(len(run) <= 256 for run in before) and sum(map(len, before)) == len(items)
    touched = []
    for n in range(1, 4000, 200):
        more = sorted([*items, Item(f"{n:05d}.jpg")], key=lambda item: item.uri)
        touched.append(len(set(inputs.cut(more, 64)) - before))
    assert max(touched) <= 2 and sum(touched) / len(touched) < 1.5


def test_a_changed_file_changes_its_chunk_alone(tmp_path):
    for n in range(40):
        photo(tmp_path / f"{n:03d}.jpg")
    before = {json.dumps(chunk.identity()) for chunk in inputs.chunks([str(tmp_path)], IngestOptions(chunk_size=8))}
    photo(tmp_path / "017.jpg", "another")
    after = {json.dumps(chunk.identity()) for chunk in inputs.chunks([str(tmp_path)], IngestOptions(chunk_size=8))}
    assert len(before - after) == len(after - before) == 1 < len(after)


def test_what_was_made_of_an_input_is_no_input(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "dataset" / "b.jpg")
    photo(tmp_path / "dataset.work" / "c.jpg")
    photo(tmp_path / "dataset-of-another" / "d.jpg")
    left_out = [str(tmp_path / "dataset"), str(tmp_path / "dataset.work")]
    items = [item for chunk in inputs.chunks([str(tmp_path)], IngestOptions(), left_out) for item in chunk.items]
    assert [item.uri for item in items] == ["a.jpg", "dataset-of-another/d.jpg"]


def test_a_name_that_is_no_text_is_one_reject(tmp_path):
    photo(tmp_path / "a.jpg")
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    assert list(all_read(tmp_path)) == ["a.jpg"]
    assert faults(tmp_path) == {"?.jpg": "unreadable"}


@pytest.mark.parametrize("text", ['{"caption": "half \\ud800 a character"}', "[" * 200_000, '{"caption": 3}', "\xff"])
def test_no_sidecar_stops_a_run(tmp_path, text):
    photo(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.txt").mkdir()
    caption = all_read(tmp_path)["a.jpg"].item.caption
    assert caption in (None, "half ? a character")


def test_a_row_of_a_store_that_is_not_known_is_a_fault_of_that_row(tmp_path):
    photo(tmp_path / "a.jpg")
    rows = [{"uri": "a.jpg"}, {"uri": "foo://b/c.jpg"}, {"uri": "nul\0.jpg"}, {"uri": ""}, {"uri": 3}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(all_read(tmp_path / "m.jsonl")) == ["a.jpg"]
    assert faults(tmp_path / "m.jsonl") == {f"m.jsonl:{n}": "bad_row" for n in (2, 3, 4, 5)}


def test_a_caption_may_be_long_and_a_manifest_must_be_one(tmp_path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "m.csv").write_text("uri,caption\na.jpg," + "x" * 200_000 + "\n")
    assert len(all_read(tmp_path / "m.csv")["a.jpg"].item.caption or "") == 200_000
    (tmp_path / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(UnusableInput, match="no Parquet"):
        listed(tmp_path / "m.parquet")


def test_members_with_dotted_names_are_pictures_too(tmp_path):
    data = encode(drawn_photo("dotted", width=80, height=64))
    tar_of(tmp_path / "t.tar", {"key.target.jpg": data, "key.txt": b"both", "other.a.b.jpg": data + b"x"})
    assert [read.item.caption for read in all_read(tmp_path).values()] == ["both", None]
