"""From what a user names to chunks, and from chunks to bytes."""
from __future__ import annotations

import csv
import io
import json
import os
import sys
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.chunk import Item
from tests.builders import drawn_photo
from transforms import inputs, manifests, reading
from transforms.chunking import cut
from transforms.inputs import IngestOptions
from transforms.pictures import BadPicture, Limits, decode, encode
from transforms.plain import UnusableInput
from transforms.reading import Read

BAD = Path(__file__).parents[2] / "shared" / "faces" / "bad" / "files"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter of `pictures`


def photo(path: Path, *seed: object) -> bytes:
    data = encode(drawn_photo(*(seed or (path.name,)), width=80, height=64))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def listed(*urls: object, **options: int) -> list[Item]:
    return [item for chunk in inputs.chunks(map(str, urls), IngestOptions(**options)) for item in chunk.items]


def all_read(*urls: object) -> dict[str, Read]:
    return {read.item.uri: read for chunk in inputs.chunks(map(str, urls), IngestOptions())
            for read in reading.read(chunk) if isinstance(read, Read)}


def faults(*urls: object) -> dict[str, str]:
    return {read[0].uri: read[1].reason for chunk in inputs.chunks(map(str, urls), IngestOptions())
            for read in reading.read(chunk) if not isinstance(read, Read)}


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
    assert reading.read_again(chunk.root, "album/a.jpg") == data


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


def test_what_is_a_picture_or_a_video_by_its_name_and_not_read_is_told(tmp_path):
    photo(tmp_path / "a.jpg")
    for name in ("b.MOV", "c.dng", "notes.pdf", "a.txt"):
        (tmp_path / name).write_text("x")
    assert list(all_read(tmp_path)) == ["a.jpg"]
    assert faults(tmp_path) == {"b.MOV": "unread_format", "c.dng": "unread_format"}


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
            assert reading.read_again(str(tmp_path), read.item.uri) == read.data


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
    before = set(cut(items, 64, lambda item: item.uri))
    assert all(len(run) <= 256 for run in before) and sum(map(len, before)) == len(items)
    touched = []
    for n in range(1, 4000, 200):
        more = sorted([*items, Item(f"{n:05d}.jpg")], key=lambda item: item.uri)
        touched.append(len(set(cut(more, 64, lambda item: item.uri)) - before))
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


def test_what_is_left_out_is_so_by_any_name(tmp_path):
    photo(tmp_path / "real" / "a.jpg")
    photo(tmp_path / "real" / "dataset" / "b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for named, left_out in (("link", "real"), ("real", "link"), ("link", "link")):
        chunks = inputs.chunks([str(tmp_path / named)], IngestOptions(), [str(tmp_path / left_out / "dataset")])
        assert [item.uri for chunk in chunks for item in chunk.items] == ["a.jpg"]


def test_what_is_left_out_is_left_out_of_its_own_store_alone(tmp_path):
    photo(tmp_path / "a.jpg")
    (chunk,) = inputs.chunks([str(tmp_path)], IngestOptions(), [f"memory://{tmp_path}"])
    assert [item.uri for item in chunk.items] == ["a.jpg"]
    assert inputs.chunks([f"{tmp_path}/*.jpg"], IngestOptions(), [str(tmp_path)]) == []
    with pytest.raises(UnusableInput, match="foo"):
        inputs.chunks([str(tmp_path)], IngestOptions(), ["foo://output"])


@pytest.mark.parametrize("name", [b"\xff.jpg", b"\xff.tar", b"\xff/b.jpg"])
def test_a_name_that_is_no_text_is_one_reject(tmp_path, name):
    photo(tmp_path / "a.jpg")
    bad = tmp_path / os.fsdecode(name)
    bad.parent.mkdir(exist_ok=True)
    bad.write_bytes(b"x")
    assert list(all_read(tmp_path)) == ["a.jpg"]
    shown = name.replace(b"\xff", b"?").decode()
    assert faults(tmp_path) == {shown: "unreadable"}
    assert pa.array(faults(tmp_path)).to_pylist() == [shown]


def test_a_folder_and_a_manifest_whose_names_are_no_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    photo(folder / "a.jpg")
    with pytest.raises(UnusableInput, match="UTF-8"):
        listed(folder)
    (tmp_path / os.fsdecode(b"\xff.jsonl")).write_text("{")
    assert faults(tmp_path / os.fsdecode(b"\xff.jsonl")) == {"?.jsonl:1": "bad_row"}


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "m.jsonl").write_text('{"uri": "pipe.jpg"}')
    assert faults(tmp_path) == faults(tmp_path / "m.jsonl") == {"pipe.jpg": "unreadable"}


def test_a_stores_own_errors_are_rejects(monkeypatch):
    class ClientError(Exception):
        """Like botocore's, which is no OSError."""

    def fail(*_: object, **__: object) -> bytes:
        raise ClientError("An error occurred (403)")

    memory = fsspec.filesystem("memory")
    for name in ("a.jpg", "t.tar"):
        memory.pipe_file(f"/inputs-errors/{name}", b"x")
    monkeypatch.setattr(type(memory), "cat_file", fail)
    monkeypatch.setattr(type(memory), "open", fail)
    assert faults("memory://inputs-errors") == {"a.jpg": "unreadable", "t.tar": "unreadable"}
    with pytest.raises(OSError, match="403"):
        reading.read_again("memory://inputs-errors", "a.jpg")
    monkeypatch.setattr(type(memory), "find", fail)
    with pytest.raises(UnusableInput, match="403"):
        listed("memory://inputs-errors")


@pytest.mark.parametrize("url", ["foo://bucket/photos", "zip://::/nowhere.zip", "/" + "x" * 5000, "*/**x"])
def test_an_input_that_cannot_be_opened_is_one_line(url):
    with pytest.raises(UnusableInput) as unusable:
        listed(url)
    assert "\n" not in str(unusable.value)


def test_two_colons_are_a_chain_only_where_no_such_path_exists(tmp_path):
    data = photo(tmp_path / "trip::2024" / "a.jpg")
    (tmp_path / "trip::2024" / "m.jsonl").write_text('{"uri": "a.jpg"}')
    folder = tmp_path / "trip::2024"
    for url in (folder, folder / "a.jpg", folder / "m.jsonl"):
        assert all_read(url)["a.jpg"].data == data
    assert reading.read_again(str(folder), "a.jpg") == data


@pytest.mark.skipif(not BAD.exists(), reason="needs ../shared/faces/bad")
def test_every_bad_file_of_a_folder_comes_out_as_expected():
    seen = dict.fromkeys(faults(BAD), "reject")
    for uri, read in all_read(BAD).items():
        try:
            decode(read.data, Limits())
            seen[uri] = "ok"
        except BadPicture:
            seen[uri] = "reject"
    expected = json.loads((BAD.parent / "expected.json").read_text())
    assert len(expected) == 41
    assert {uri: seen.get(uri) for uri in expected} == expected


@pytest.mark.parametrize("kind", [".txt", ".json"])
def test_a_folder_is_no_sidecar(tmp_path, kind):
    photo(tmp_path / "side.jpg")
    (tmp_path / f"side{kind}").mkdir()
    assert list(all_read(tmp_path)) == ["side.jpg"] and not faults(tmp_path)


@pytest.mark.parametrize("text", ['{"caption": "half \\ud800 a character"}', "[" * 200_000, '{"caption": 3}', "\xff"])
def test_no_sidecar_stops_a_run(tmp_path, text):
    photo(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.txt").mkdir()
    caption = all_read(tmp_path)["a.jpg"].item.caption
    assert caption in (None, "half ? a character")


def test_a_row_of_a_store_that_is_not_known_is_a_fault_of_that_row(tmp_path, monkeypatch):
    photo(tmp_path / "a.jpg")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    bad = ["foo://b/c.jpg", "s3://b/c.jpg", "zip://x.jpg::/nowhere.zip", "nul\0.jpg", "half\ud800.jpg", "", 3, None]
    rows = [{"uri": "a.jpg"}, *({"uri": uri} for uri in bad)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(all_read(tmp_path / "m.jsonl")) == ["a.jpg"]
    assert faults(tmp_path / "m.jsonl") == {f"m.jsonl:{n}": "bad_row" for n in range(2, 2 + len(bad))}


def test_a_caption_may_be_long_and_a_manifest_must_be_one(tmp_path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "m.csv").write_text("uri,caption\na.jpg," + "x" * 200_000 + "\n")
    assert len(all_read(tmp_path / "m.csv")["a.jpg"].item.caption or "") == 200_000
    (tmp_path / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(UnusableInput, match="no Parquet"):
        listed(tmp_path / "m.parquet")
    pq.write_table(pa.table({"url": ["a.jpg"], "caption": ["x"]}), tmp_path / "m.parquet")
    (tmp_path / "m.csv").write_text("url,caption\na.jpg,x\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "long.csv").write_text("uri\n" + "x" * (manifests.LONGEST_FIELD + 1))
    for name, says in (("m.parquet", "no uri column, but url, caption"), ("m.csv", "no uri column, but url, caption"),
                       ("empty.csv", "no uri column"), ("long.csv", "field larger")):
        with pytest.raises(UnusableInput, match=f"{name}.*{says}"):
            listed(tmp_path / name)


def test_a_damaged_parquet_is_no_manifest_and_dates_are_no_seconds(tmp_path):
    photo(tmp_path / "a.jpg")
    path = tmp_path / "M.PARQUET"
    pq.write_table(pa.table({"uri": ["a.jpg"] * 1000, "timestamp": pa.array([2**62] * 1000, pa.timestamp("ns"))}), path)
    assert all_read(path)["a.jpg"].item.timestamp is None
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\x91" * 60 + data[64:])
    with pytest.raises(UnusableInput, match="no Parquet"):
        listed(path)


@pytest.mark.parametrize("number", ["9" * 400, "NaN", "Infinity", '"soon"'])
def test_a_timestamp_is_a_number_or_none(tmp_path, number):
    photo(tmp_path / "a.jpg")
    (tmp_path / "m.jsonl").write_text(f'{{"uri": "a.jpg", "timestamp": {number}}}')
    assert all_read(tmp_path / "m.jsonl")["a.jpg"].item.timestamp is None


@pytest.mark.parametrize("headers", [{"size": "9" * 30}, {"GNU.sparse.map": "a,b"},
                                     {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}])
def test_a_tar_whose_headers_hold_no_numbers_is_a_fault(tmp_path, headers):
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size, info.pax_headers = 9, headers
        tar.addfile(info, io.BytesIO(b"a picture"))
    assert faults(tmp_path) == {"t.tar": "bad_tar"}


def test_members_with_dotted_names_are_pictures_too(tmp_path):
    data = encode(drawn_photo("dotted", width=80, height=64))
    tar_of(tmp_path / "t.tar", {"key.target.jpg": data, "key.txt": b"both", "other.a.b.jpg": data + b"x",
                                 "._key.jpg": b"hidden", "film.mp4": b"no picture"})
    assert [read.item.caption for read in all_read(tmp_path).values()] == ["both", None]
