"""What a user says of faces beforehand: names, and corrections made by hand.

Names (`--identities`) come from a folder that holds a folder of pictures for each person, or from a .jsonl, .csv or .parquet
file with the columns `identity` and `face_id` or `uri`. Corrections stand in `W/corrections.jsonl`, and hold on every run; each
line is one of

    {"merge": [FACE, FACE, …]}           these, and all whom they are taken for, are one person
    {"split": [[FACE, …], [FACE, …]]}    these are different people, and those of one list one person
    {"exclude": [FACE, …]}               these belong to nobody

where FACE is a face_id, or the uri of a picture that shows one face."""
from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from scipy.cluster.hierarchy import DisjointSet

from transforms import digests, progress
from transforms.failure import Failure
from transforms.manifests import MANIFESTS, read_rows
from transforms.parts import Parts, filesystem, get, join
from transforms.pictures import EXTENSIONS
from transforms.plain import as_text, is_text

CORRECTIONS = "corrections.jsonl"


@dataclass
class Known:
    """What is said of faces, by face_id."""

    person: dict[str, int] = field(default_factory=dict)
    """Face -> number: faces of one number are together from the start."""
    names: dict[int, str] = field(default_factory=dict)
    """Number -> name, for those who have one."""
    camps: dict[str, set[int]] = field(default_factory=dict)
    """Face -> camps: one for all names, and one for each split. Faces that share one are two people, unless they are said to
    be one."""
    one: DisjointSet = field(default_factory=DisjointSet)
    """Faces that are said to be one person, by whatever line."""
    merged: list[list[str]] = field(default_factory=list)
    """Faces whose whole identities are made one in the end."""
    excluded: set[str] = field(default_factory=set)
    ignored: dict[str, list[str]] = field(default_factory=dict)
    """Why something that was said is not used -> what."""


PERSON, CAMP, MERGE, EXCLUDED = "person", "camp", "merge", "excluded"
"""What may be said of a face."""
SAID = pa.schema([("face_id", pa.string()), ("id", pa.int64()), ("what", pa.string()), ("number", pa.int64()),
                  ("one", pa.int64()), ("name", pa.string())])
"""One row for each thing that is said of a face: the number of the person, camp or merge; the same `one` for faces that are
said to be one person; the person's name."""


def said_of(known: Known) -> pa.Table:
    """The table `SAID`."""
    one = {face: number for number, subset in enumerate(known.one.subsets()) for face in subset}
    said = [*((face, PERSON, person, None, known.names.get(person)) for face, person in known.person.items()),
            *((face, CAMP, camp, one[face], None) for face, camps in known.camps.items() for camp in sorted(camps)),
            *((face, MERGE, merge, None, None) for merge, faces in enumerate(known.merged) for face in faces),
            *((face, EXCLUDED, 0, None, None) for face in known.excluded)]
    ids = digests.numbers(face for face, *_ in said).tolist()
    return pa.Table.from_pylist([dict(zip(SAID.names, (face, id_, *rest), strict=True))
                                 for id_, (face, *rest) in zip(ids, said, strict=True)], SAID)


def tell_ignored(known: Known) -> None:
    """Tell the user what is not used of what was said."""
    for why, said in sorted(known.ignored.items()):
        progress.tell_user(f"{said[0]} and {len(said) - 1} others are not used: {why}" if len(said) > 1 else
                           f"{said[0]} is not used: {why}")


class _Faces:
    """Finds the face that a user means: holds those alone that may be meant."""

    def __init__(self, said: set[str], images: Iterable[pa.Table], face_ids: Iterable[pa.ChunkedArray]) -> None:
        """`said`: what a user calls faces; `images`: uri and image_key of every image, copies too."""
        self.images_of: dict[str, set[str]] = {}
        uris = pa.array(sorted(said), pa.string())
        for table in images:
            meant = table.filter(pc.is_in(table["uri"], uris))
            for uri, image_key in zip(meant["uri"].to_pylist(), meant["image_key"].to_pylist(), strict=True):
                self.images_of.setdefault(uri, set()).add(image_key)
        self.faces: dict[str, list[str]] = {}
        keys = pa.array(sorted({one.partition(":")[0] for one in said}.union(*self.images_of.values())), pa.string())
        for some in face_ids:
            for face_id in some.filter(pc.is_in(pc.utf8_slice_codeunits(some, 0, 32), keys)).to_pylist():
                self.faces.setdefault(face_id.partition(":")[0], []).append(face_id)

    def find(self, said: str) -> str:
        """face_id of a face_id, an image_key or a uri. Raises LookupError, with the reason."""
        if said in self.faces.get(said.partition(":")[0], ()):
            return said
        images = self.images_of.get(said, {said})
        if len(images) > 1:
            raise LookupError("several pictures have that uri, in different inputs: name the face_id")
        faces = self.faces.get(min(images), [])
        if len(faces) > 1:
            raise LookupError("the picture shows several faces: name the face_id")
        if not faces:
            raise LookupError("no face has that face_id, and no picture with a face that uri (uris are relative to the input)")
        return faces[0]


def read_known(workdir: str, identities: str | None, face_ids: Iterable[pa.ChunkedArray]) -> Known:
    """All that is said of a work directory's faces. Raises Failure where a file cannot be read or contradicts itself.

    `identities`: URL of a folder or a file, see above. Of face_ids and of images no more is held than what is said."""
    if not anything_said(workdir, identities):
        return Known()
    corrections, names = list(_corrections(workdir)), list(_names(identities)) if identities else []
    if identities and not names:
        raise Failure(f"{identities} names nobody: a folder needs a folder of pictures for each person, a file a row for "
                      "each picture")
    images = Parts(workdir, "images")
    all_said = {said for _, said in names} | set(_strings([line for _, line in corrections]))
    known = Known()
    faces = _Faces(all_said, (images.read(part, ["uri", "image_key"]) for part in images.parts()), face_ids)
    named: dict[str, list[str]] = {}
    for name, said in names:
        named.setdefault(name, []).extend(_found(known, faces, [said]))
    camps = [(str(identities), list(named.values()))]
    for where, line in corrections:
        match line if isinstance(line, dict) and len(line) == 1 else None:
            case {"exclude": [_, *_] as some}:
                known.excluded.update(_found(known, faces, some))
            case {"merge": [_, _, *_] as some}:
                known.merged.append(_found(known, faces, some))
            case {"split": [_, _, *_] as parts} if all(isinstance(part, list) and part for part in parts):
                camps.append((where, [_found(known, faces, part) for part in parts]))
            case _:
                raise Failure(f'{where} is none of {{"merge": [FACE, FACE, …]}}, {{"split": [[FACE, …], [FACE, …]]}} and '
                              '{"exclude": [FACE, …]}: mend it')
    together = DisjointSet()
    for groups in (groups for _, groups in camps):
        for group in groups:
            _unite(together, group)
    known.one = DisjointSet(together)
    for group in (*together.subsets(), *known.merged):
        _unite(known.one, list(group))
    numbers = {face: number for number, subset in enumerate(sorted(map(sorted, together.subsets()))) for face in subset}
    known.person = numbers
    known.names = {numbers[face]: name for name, its in named.items() for face in its}
    of_one: dict[str, set[int]] = {}
    for number, (where, groups) in enumerate(camps):
        first_of: dict[str, str] = {}
        for face in (group[0] for group in groups if group):
            if (person := known.one[face]) in first_of:
                raise Failure(f"{where} tells faces apart that are said to be one person elsewhere, {first_of[person]} and "
                              f"{face}: mend one of the two")
            first_of[person] = face
            of_one.setdefault(person, set()).add(number)
    known.camps = {face: of_one[known.one[face]] for face in known.one if known.one[face] in of_one}
    return known


def _strings(line: Any) -> Iterator[str]:
    """What may name a face, in a line of JSON."""
    if isinstance(line, dict | list):
        for inner in line.values() if isinstance(line, dict) else line:
            yield from _strings(inner)
    else:
        yield str(line)


def _unite(people: DisjointSet, faces: list[str]) -> None:
    for face in faces:
        people.add(face)
        people.merge(faces[0], face)


def _found(known: Known, faces: _Faces, said: Iterable[Any]) -> list[str]:
    """The faces that are meant; what is not found is kept with the reason."""
    found = []
    for one in said:
        try:
            found.append(faces.find(str(one)))
        except LookupError as why:
            known.ignored.setdefault(why.args[0], []).append(str(one))
    return found


def _names(url: str) -> Iterator[tuple[str, str]]:
    """Names with what bears them: a face_id, a uri or an image_key. Raises Failure."""
    fs, path = filesystem(url)
    if fs.isdir(path):
        for found in sorted(fs.find(path)):
            folder, _, name = found[len(path.rstrip("/")) + 1:].partition("/")
            if name and posixpath.splitext(name)[1].lower() in EXTENSIONS:
                if not is_text(folder):
                    raise Failure(f"{as_text(found)}: the folder's name, which is a person's, is not UTF-8: rename it")
                yield folder, digests.of_bytes(fs.cat_file(found))
        return
    if posixpath.splitext(path)[1].lower() not in MANIFESTS:
        raise Failure(f"{url} is no folder and none of {', '.join(MANIFESTS)}: name one of these")
    for number, row in enumerate(read_rows(fs, path, "identity", ("face_id", "uri")), 1):
        said = isinstance(row, dict) and (row.get("face_id") or row.get("uri"))
        if not said or not row.get("identity") or not is_text(str(row["identity"])):
            raise Failure(f"{url}:{number} has no identity and face_id or uri that is text: mend it")
        yield str(row["identity"]), str(said)


def _corrections(workdir: str) -> Iterator[tuple[str, Any]]:
    """Place and content of each line of the corrections file, if there is one. Raises Failure."""
    try:
        text = get(join(workdir, CORRECTIONS)).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{join(workdir, CORRECTIONS)}:{number}"
            try:
                yield where, json.loads(line)
            except ValueError:
                raise Failure(f"{where} is no JSON: mend it") from None


def anything_said(workdir: str, identities: str | None) -> bool:
    """Whether anything is said of a work directory's faces. Raises Failure."""
    return bool(identities) or next(_corrections(workdir), None) is not None


def merges_said(workdir: str) -> bool:
    """Whether people are to be made one by a work directory's corrections. Raises Failure."""
    return any(isinstance(line, dict) and "merge" in line for _, line in _corrections(workdir))


def known_digest(workdir: str, identities: str | None) -> str:
    """Of all that is said: what identities depend on beside faces and options. Raises Failure."""
    return digests.of(list(_names(identities)) if identities else [], [line for _, line in _corrections(workdir)])
