"""From a chunk to the bytes of its items, where the chunk is worked on."""
from __future__ import annotations

import json
import posixpath
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import fsspec

from schemas.chunk import Chunk, Item
from transforms.inputs import attributes
from transforms.parts import filesystem
from transforms.pictures import EXTENSIONS, BadPicture
from transforms.plain import as_text

MEMBER = re.compile(r"^(?P<tar>.*\.tar)#(?P<offset>\d+),(?P<size>\d+)$", re.DOTALL)
READ_AHEAD = 8
"""Files read at the same time: remote stores answer in tens of milliseconds, a picture is looked at in hundreds."""


@dataclass(frozen=True)
class Read:
    """An item whose bytes are at hand."""

    item: Item
    data: bytes


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
        sidecars = [(uri, fs.cat_file(posixpath.join(base, uri))) for uri, _ in item.sidecars]
    except FileNotFoundError as error:
        return item, BadPicture("missing", as_text(str(error)))
    except IsADirectoryError:
        return item, BadPicture("folder", "")
    except Exception as error:  # whatever a store's own package raises: botocore's and aiohttp's errors have no common base
        return item, _unreadable(error)
    for uri, said in sidecars:
        item = _with_sidecar(item, uri, said)
    return Read(item, data)


def _unreadable(error: Exception) -> BadPicture:
    return BadPicture("unreadable", as_text(f"{type(error).__name__}: {error}")[:200])


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
                folder, name = posixpath.split(member.name)
                stem, _, extension = name.partition(".")
                if not member.isfile() or not stem:  # a name that starts with a dot is hidden, as in a folder
                    continue
                if posixpath.join(folder, stem) != key:
                    yield from _of_key(photos, sidecars)
                    key, photos, sidecars = posixpath.join(folder, stem), [], []
                if posixpath.splitext(name)[1].lower() in EXTENSIONS:
                    uri = f"{tar.uri}#{member.offset_data},{member.size}"
                    photos.append(Read(Item(uri, group=tar.group), _content(members, member)))
                elif extension in ("txt", "json"):
                    sidecars.append((name, _content(members, member)))
    except FileNotFoundError as error:
        fault = BadPicture("missing", as_text(str(error)))
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError) as error:  # numbers of a header that are none, too
        fault = BadPicture("bad_tar", as_text(str(error))[:200])
    except Exception as error:  # a store's own, as in `_read_item`
        fault = _unreadable(error)
    yield from _of_key(photos, sidecars)
    if fault:
        yield tar, fault


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = members.extractfile(member)
    return opened.read() if opened else b""


def _of_key(photos: list[Read], sidecars: list[tuple[str, bytes]]) -> Iterator[Read]:
    for photo in photos:
        item = photo.item
        for name, data in sorted(sidecars, reverse=True):  # .txt before .json, which may say more
            item = _with_sidecar(item, name, data)
        yield Read(item, photo.data)


def read_again(root: str, uri: str) -> bytes:
    """The bytes of an image of `images`. Raises OSError."""
    try:
        fs, base = filesystem(root)
        member = MEMBER.match(uri)
        if member is None:
            return fs.cat_file(posixpath.join(base, uri))
        start = int(member["offset"])
        return fs.cat_file(posixpath.join(base, member["tar"]), start=start, end=start + int(member["size"]))
    except OSError:
        raise
    except Exception as error:  # a store's own, as in `_read_item`
        raise OSError(f"{type(error).__name__}: {error}") from error
