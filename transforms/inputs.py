"""Inputs: from what a user names to chunks of items, and from an item to its bytes.

Chunking lists and opens nothing but manifests; reading happens where a chunk is worked on."""
from __future__ import annotations

import csv
import json
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.chunk import Chunk, Item
from transforms import digests
from transforms.failure import Failure
from transforms.parts import filesystem, is_local
from transforms.pictures import EXTENSIONS, BadPicture

MANIFESTS = (".jsonl", ".ndjson", ".csv", ".parquet")
ATTRIBUTES = ("group", "clip", "timestamp", "caption", "license")
"""Columns that a manifest or a JSON sidecar may give (contract, section 1)."""
MEMBER = re.compile(r"^(?P<tar>.*\.tar)#(?P<offset>\d+),(?P<size>\d+)$", re.DOTALL)
LONGEST_FIELD = 2**24
"""Characters of a CSV's field: captions may be long, and Python's own limit is 131072."""
READ_AHEAD = 8
"""Files read at the same time: remote stores answer in tens of milliseconds, a picture is looked at in hundreds."""


@dataclass(frozen=True)
class IngestOptions:
    chunk_size: int = field(default=64, metadata={
        "least": 1,
        "help": "mean number of photos that are worked on, retried and checkpointed together; default: %(default)s"})


class UnusableInput(Failure):
    """An INPUT that cannot be listed; the message is one line that says what to do."""


@dataclass(frozen=True)
class Read:
    """An item whose bytes are at hand."""

    item: Item
    data: bytes


def chunks(inputs: Iterable[str], options: IngestOptions, leave_out: Iterable[str] = ()) -> list[Chunk]:
    """Every INPUT as chunks, in the order of the inputs. Raises UnusableInput.

    What lies below one of the URLs in `leave_out` is no input: an output must not be read by the next run."""
    left_out = tuple(filesystem(url)[1].rstrip("/") + "/" for url in leave_out)
    return [chunk for url in inputs for chunk in _of_one(url, options, left_out)]


def _of_one(url: str, options: IngestOptions, left_out: tuple[str, ...]) -> list[Chunk]:
    try:
        fs, path = filesystem(url)
    except (ValueError, ImportError) as error:
        raise UnusableInput(f"{url}: {error}") from None
    path = path.rstrip("/") or "/"
    if fs.isdir(path):
        found = {name: info for name, info in fs.find(path, withdirs=True, detail=True).items()
                 if not f"{name}/".startswith(left_out)}
        return _of_listing(fs, path, found, options)
    if fs.exists(path):
        root, name = posixpath.split(path)
        extension = posixpath.splitext(name)[1].lower()
        if extension in MANIFESTS:
            return _of_manifest(fs, root, name, options)
        if extension in EXTENSIONS or extension in ("", ".tar"):
            return _of_listing(fs, root, {path: fs.info(path)}, options)
        raise UnusableInput(f"{url} is not a folder, a picture, a .tar or a manifest "
                            f"({', '.join(MANIFESTS)} with a uri column)")
    if re.search(r"[*?\[]", path):
        found = fs.glob(path, detail=True)
        if found:
            whole = re.split(r"[*?\[]", path)[0]
            return _of_listing(fs, posixpath.dirname(whole), found, options)
    raise UnusableInput(f"{url} does not exist")


def _url(fs: fsspec.AbstractFileSystem, path: str) -> str:
    return path if is_local(fs) else str(fs.unstrip_protocol(path))


def _version(info: dict[str, Any]) -> str:
    """Size, and what changes when the content does: an etag, a time, or nothing where a store tells neither."""
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(key):
            return f"{info.get('size')} {info[key]}"
    return str(info.get("size"))


def _of_listing(fs: fsspec.AbstractFileSystem, root: str, found: dict[str, dict[str, Any]],
                options: IngestOptions) -> list[Chunk]:
    files = {posixpath.relpath(path, root): info for path, info in found.items()}
    files = {uri: info for uri, info in files.items()
             if not any(name.startswith(".") for name in uri.split("/"))}
    album = {uri: posixpath.dirname(uri) or None for uri in files}
    photos, tars = [], []
    for uri in sorted(files):
        stem, extension = posixpath.splitext(uri)
        if files[uri]["type"] == "directory":
            if extension.lower() in EXTENSIONS and not any(other.startswith(f"{uri}/") and _is_photo(other)
                                                           for other in files):
                photos.append(Item(uri, fault="folder"))
        elif extension.lower() == ".tar":
            tars.append(Item(uri, _version(files[uri]), group=album[uri]))
        elif _is_photo(uri):
            if not _is_text(uri):
                photos.append(Item(_as_text(uri), fault="unreadable"))
                continue
            sidecars = tuple((stem + kind, _version(files[stem + kind])) for kind in (".txt", ".json")
                             if files.get(stem + kind, {}).get("type") == "file")
            photos.append(Item(uri, _version(files[uri]), group=album[uri], sidecars=sidecars))
    url = _url(fs, root)
    return [*(Chunk(url, items) for items in cut(photos, options.chunk_size)),
            *(Chunk(url, (item,), tar=True) for item in tars)]


def _is_text(value: str) -> bool:
    """Whether a name or a text can be written as UTF-8: a file's name may be any bytes, JSON may hold half a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_text(value: str) -> str:
    """The same with a question mark for what cannot be written."""
    return value.encode(errors="replace").decode()


def _is_photo(uri: str) -> bool:
    extension = posixpath.splitext(uri)[1].lower()
    return extension in EXTENSIONS or not extension


def cut(items: list[Item], chunk_size: int) -> Iterator[tuple[Item, ...]]:
    """Runs of sorted items, cut after each whose uri's digest is 0 modulo `chunk_size`, at most four times that long.

    An item added or removed touches one run, two where it is a cut (content-defined chunking: Muthitacharoen,
    Chen, Mazières 2001, "A low-bandwidth network file system", 3.1)."""
    run: list[Item] = []
    for item in items:
        run.append(item)
        if digests.number(item.uri) % chunk_size == 0 or len(run) == 4 * chunk_size:
            yield tuple(run)
            run = []
    if run:
        yield tuple(run)


def _of_manifest(fs: fsspec.AbstractFileSystem, folder: str, name: str, options: IngestOptions) -> list[Chunk]:
    by_root: dict[str, list[Item]] = {}
    for number, row in enumerate(_rows(fs, posixpath.join(folder, name)), 1):
        try:
            if not row["uri"] or "\0" in row["uri"] or not _is_text(row["uri"]):
                raise ValueError(row["uri"])
            root, uri = _split(fs, folder, row["uri"])
        except (TypeError, KeyError, AttributeError, ValueError, ImportError):  # no row, no uri, or of a store not known here
            by_root.setdefault(_url(fs, folder), []).append(Item(f"{name}:{number}", fault="bad_row"))
            continue
        by_root.setdefault(root, []).append(replace(Item(uri, _stat(root, uri)), **attributes(row)))
    return [Chunk(root, run) for root in sorted(by_root)
            for run in cut(sorted(by_root[root], key=lambda item: item.uri), options.chunk_size)]


def _rows(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[Any]:
    if path.endswith(".parquet"):
        try:
            with fs.open(path, "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches():
                    yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise UnusableInput(f"{path} is no Parquet that can be read: {str(error).splitlines()[0]}") from None
        return
    with fs.open(path, "r", encoding="utf-8-sig", errors="replace", newline="") as text:
        if path.endswith(".csv"):
            csv.field_size_limit(LONGEST_FIELD)
            try:
                yield from csv.DictReader(text)
            except csv.Error as error:
                raise UnusableInput(f"{path} is no CSV that can be read: {error}") from None
            return
        for line in text:
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield None


def _split(fs: fsspec.AbstractFileSystem, folder: str, uri: str) -> tuple[str, str]:
    """Root and relative uri of a manifest's uri: below the manifest's folder, else two levels above the file, so
    that no path of a machine becomes a uri."""
    if "://" in uri:
        other, path = filesystem(uri)
    else:
        other, path = fs, posixpath.normpath(posixpath.join(folder, uri))
    if _url(other, path).startswith(_url(fs, folder).rstrip("/") + "/"):
        return _url(fs, folder), posixpath.relpath(path, folder)
    root = posixpath.dirname(posixpath.dirname(path))
    return _url(other, root), posixpath.relpath(path, root)


def _stat(root: str, uri: str) -> str:
    """The version of a manifest's file where asking costs nothing: on local disks."""
    fs, base = filesystem(root)
    if not is_local(fs):
        return ""
    try:
        return _version(fs.info(posixpath.join(base, uri)))
    except OSError:
        return ""


def attributes(row: dict[str, Any]) -> dict[str, Any]:
    """What a manifest's row or a JSON sidecar says of a picture, wrong types left out."""
    known: dict[str, Any] = {name: _as_text(row[name]) for name in ATTRIBUTES if isinstance(row.get(name), str) and row[name]}
    try:
        known["timestamp"] = float(row["timestamp"])
    except (KeyError, TypeError, ValueError):
        known.pop("timestamp", None)
    return known


def read(chunk: Chunk) -> Iterator[Read | tuple[Item, BadPicture]]:
    """The chunk's items with their bytes, in order; what cannot be read comes with the reason."""
    fs, base = filesystem(chunk.root)
    if chunk.tar:
        yield from _read_tar(fs, base, chunk.items[0])
        return
    with ThreadPoolExecutor(READ_AHEAD) as threads:
        for start in range(0, len(chunk.items), READ_AHEAD):
            yield from threads.map(lambda item: _read_item(fs, base, item), chunk.items[start:start + READ_AHEAD])


def _read_item(fs: fsspec.AbstractFileSystem, base: str, item: Item) -> Read | tuple[Item, BadPicture]:
    if item.fault:
        return item, BadPicture(item.fault, "")
    try:
        data = fs.cat_file(posixpath.join(base, item.uri))
        for uri, _ in item.sidecars:
            item = _with_sidecar(item, uri, fs.cat_file(posixpath.join(base, uri)))
    except FileNotFoundError as error:
        return item, BadPicture("missing", str(error))
    except IsADirectoryError:
        return item, BadPicture("folder", "")
    except Exception as error:  # whatever a store's own package raises: botocore's and aiohttp's errors have no common base
        return item, BadPicture("unreadable", f"{type(error).__name__}: {error}"[:200])
    return Read(item, data)


def _with_sidecar(item: Item, uri: str, data: bytes) -> Item:
    """A caption from `.txt`, anything else from `.json`; a sidecar that says nothing readable is no sidecar."""
    text = data.decode("utf-8", errors="replace").strip()
    if uri.endswith(".txt"):
        return replace(item, caption=text or item.caption)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return item
    return replace(item, **attributes(row)) if isinstance(row, dict) else item


def _read_tar(fs: fsspec.AbstractFileSystem, base: str, tar: Item) -> Iterator[Read | tuple[Item, BadPicture]]:
    """Pictures of a WebDataset or img2dataset tar; consecutive members of one key belong together."""
    key = ""
    photos: list[Read] = []
    sidecars: list[tuple[str, bytes]] = []
    fault = None
    try:
        with fs.open(posixpath.join(base, tar.uri), "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            for member in members:
                if not member.isfile():
                    continue
                folder, name = posixpath.split(member.name)
                stem, _, extension = name.partition(".")
                if posixpath.join(folder, stem) != key:
                    yield from _of_key(photos, sidecars)
                    key, photos, sidecars = posixpath.join(folder, stem), [], []
                opened = members.extractfile(member)
                data = opened.read() if opened else b""
                if posixpath.splitext(name)[1].lower() in EXTENSIONS:
                    uri = f"{tar.uri}#{member.offset_data},{member.size}"
                    photos.append(Read(Item(uri, group=tar.group), data))
                elif extension in ("txt", "json"):
                    sidecars.append((name, data))
    except FileNotFoundError as error:
        fault = BadPicture("missing", str(error))
    except tarfile.TarError as error:
        fault = BadPicture("bad_tar", str(error))
    except OSError as error:
        fault = BadPicture("unreadable", f"{type(error).__name__}: {error}"[:200])
    yield from _of_key(photos, sidecars)
    if fault:
        yield tar, fault


def _of_key(photos: list[Read], sidecars: list[tuple[str, bytes]]) -> Iterator[Read]:
    for photo in photos:
        item = photo.item
        for name, data in sorted(sidecars, reverse=True):  # .txt before .json, which may say more
            item = _with_sidecar(item, name, data)
        yield Read(item, photo.data)


def read_again(root: str, uri: str) -> bytes:
    """The bytes of an image of `images`. Raises OSError."""
    fs, base = filesystem(root)
    member = MEMBER.match(uri)
    if member is None:
        return fs.cat_file(posixpath.join(base, uri))
    start = int(member["offset"])
    return fs.cat_file(posixpath.join(base, member["tar"]), start=start, end=start + int(member["size"]))
