"""Inputs: from what a user names to chunks of items. Lists, and opens nothing but manifests."""
from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import fsspec

from schemas.chunk import Chunk, Item
from transforms.chunking import cut
from transforms.manifests import MANIFESTS, read_rows
from transforms.parts import filesystem, is_local
from transforms.pictures import EXTENSIONS, UNREAD_EXTENSIONS
from transforms.plain import UnusableInput, as_text, is_text, plainly

ATTRIBUTES = ("group", "clip", "timestamp", "caption", "license")
"""Columns that a manifest or a JSON sidecar may give (contract, section 1)."""

Place: TypeAlias = tuple[fsspec.AbstractFileSystem, str]
"""A filesystem and a path in it."""


@dataclass(frozen=True)
class IngestOptions:
    chunk_size: int = field(default=64, metadata={
        "least": 1,
        "help": "mean number of photos that are worked on, retried and checkpointed together; default: %(default)s"})


def chunks(inputs: Iterable[str], options: IngestOptions, leave_out: Iterable[str] = ()) -> list[Chunk]:
    """Every INPUT as chunks, in the order of the inputs. Raises UnusableInput.

    What lies below one of the URLs in `leave_out` is no input: an output must not be read by the next run."""
    left_out = []
    for url in leave_out:
        with plainly(url):
            left_out.append(filesystem(url))
    return [chunk for url in inputs for chunk in _of_one(url, options, left_out)]


def _without(fs: fsspec.AbstractFileSystem, root: str, found: dict[str, dict[str, Any]], left_out: list[Place]
             ) -> dict[str, dict[str, Any]]:
    """What is found below a folder, less what is left out, by whichever links the two are named."""
    def real(path: str) -> str:
        return (os.path.realpath(path) if is_local(fs) else path).rstrip("/") + "/"

    outside = [real(path) for other, path in left_out if type(other) is type(fs)]
    below = tuple(root.rstrip("/") + "/" + path.removeprefix(real(root)) for path in outside if path.startswith(real(root)))
    inside = any(real(root).startswith(path) for path in outside)
    return {} if inside else {name: info for name, info in found.items() if not f"{name}/".startswith(below)}


def _of_one(url: str, options: IngestOptions, left_out: list[Place]) -> list[Chunk]:
    with plainly(url):
        fs, path = filesystem(url)
        path = path.rstrip("/") or "/"
        filesystem(_url(fs, path))  # a chained URL cannot be opened again from its last part
        exists, folder = fs.exists(path), fs.isdir(path)
    if folder:
        with plainly(url):
            found = fs.find(path, withdirs=True, detail=True)
        return _of_listing(fs, path, _without(fs, path, found, left_out), options)
    if exists:
        root, name = posixpath.split(path)
        extension = posixpath.splitext(name)[1].lower()
        if extension in MANIFESTS:
            return _of_manifest(fs, root, name, options)
        if extension in EXTENSIONS or extension in ("", ".tar"):
            with plainly(url):
                info = fs.info(path)
            return _of_listing(fs, root, {path: info}, options)
        raise UnusableInput(f"{url} is not a folder, a picture, a .tar or a manifest "
                            f"({', '.join(MANIFESTS)} with a uri column)")
    if re.search(r"[*?\[]", path):
        with plainly(url):
            found = fs.glob(path, detail=True)
        if found:
            whole = re.split(r"[*?\[]", path)[0]
            root = posixpath.dirname(whole)
            return _of_listing(fs, root, _without(fs, root, found, left_out), options)
    raise UnusableInput(f"{url} does not exist")


def _root(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """The URL of a folder as a root that tables can hold. Raises UnusableInput."""
    url = _url(fs, path)
    if not is_text(url):
        raise UnusableInput(f"{as_text(url)}: the folder's name is not UTF-8: rename it")
    return url


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
        folder = files[uri]["type"] == "directory"
        if folder and (extension.lower() not in EXTENSIONS or any(other.startswith(f"{uri}/") and _is_photo(other)
                                                                  for other in files)):
            continue
        unread = not folder and extension.lower() in UNREAD_EXTENSIONS
        if not (folder or unread or extension.lower() == ".tar" or _is_photo(uri)):
            continue
        if not is_text(uri) or _is_device(files[uri]):
            photos.append(Item(as_text(uri), fault="unreadable"))
        elif folder or unread:
            photos.append(Item(uri, fault="folder" if folder else "unread_format"))
        elif extension.lower() == ".tar":
            tars.append(Item(uri, _version(files[uri]), group=album[uri]))
        else:
            sidecars = tuple((stem + kind, _version(files[stem + kind])) for kind in (".txt", ".json")
                             if files.get(stem + kind, {}).get("type") == "file")
            photos.append(Item(uri, _version(files[uri]), group=album[uri], sidecars=sidecars))
    url = _root(fs, root)
    return [*(Chunk(url, items) for items in cut(photos, options.chunk_size, _uri)),
            *(Chunk(url, (item,), tar=True) for item in tars)]


def _is_device(info: dict[str, Any]) -> bool:
    """Whether it is a pipe or a device, which may never end."""
    return info["type"] == "other" and not info.get("islink")


def _uri(item: Item) -> str:
    return item.uri


def _is_photo(uri: str) -> bool:
    extension = posixpath.splitext(uri)[1].lower()
    return extension in EXTENSIONS or not extension


def _of_manifest(fs: fsspec.AbstractFileSystem, folder: str, name: str, options: IngestOptions) -> list[Chunk]:
    here = _root(fs, folder)
    by_root: dict[str, list[Item]] = {}
    for number, row in enumerate(read_rows(fs, posixpath.join(folder, name), "uri", ATTRIBUTES), 1):
        try:
            root, item = _of_row(fs, folder, row)
        except Exception:  # no row, no uri, or of a store that cannot be opened: what those raise has no common base
            root, item = here, Item(f"{as_text(name)}:{number}", fault="bad_row")
        by_root.setdefault(root, []).append(item)
    return [Chunk(root, run) for root in sorted(by_root)
            for run in cut(sorted(by_root[root], key=_uri), options.chunk_size, _uri)]


def _of_row(fs: fsspec.AbstractFileSystem, folder: str, row: Any) -> tuple[str, Item]:
    """Root and item of a manifest's row. Raises anything where there is none."""
    if not row["uri"] or "\0" in row["uri"] or not is_text(row["uri"]):
        raise ValueError(row["uri"])
    root, uri = _split(fs, folder, row["uri"])
    return root, replace(_stat(root, uri), **attributes(row))


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


def _stat(root: str, uri: str) -> Item:
    """A manifest's file, with its version where asking costs nothing: on local disks."""
    fs, base = filesystem(root)
    if not is_local(fs):
        return Item(uri)
    try:
        info = fs.info(posixpath.join(base, uri))
    except OSError:
        return Item(uri)
    return Item(uri, fault="unreadable") if _is_device(info) else Item(uri, _version(info))


def attributes(row: dict[str, Any]) -> dict[str, Any]:
    """What a manifest's row or a JSON sidecar says of a picture, wrong types left out."""
    known: dict[str, Any] = {name: as_text(row[name]) for name in ATTRIBUTES if isinstance(row.get(name), str) and row[name]}
    try:
        known["timestamp"] = float(row["timestamp"])
    except (KeyError, TypeError, ValueError, OverflowError):
        known["timestamp"] = math.nan
    if not math.isfinite(known["timestamp"]):
        del known["timestamp"]
    return known
