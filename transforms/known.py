"""What a user says of faces beforehand: names, and corrections made by hand.

Names (`--identities`) come from a folder that holds a folder of pictures for each person, or from a .jsonl, .csv or .parquet
file with the columns `identity` and `face_id` or `uri`. Corrections stand in `W/corrections.jsonl`, and hold on every run; each
line is one of

    {"merge": [FACE, FACE, …]}           these are one person
    {"split": [[FACE, …], [FACE, …]]}    these are different people
    {"exclude": [FACE, …]}               these belong to nobody

where FACE is a face_id, or the uri of a picture that shows one face."""
from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from transforms import digests
from transforms.failure import Failure
from transforms.manifests import read_rows
from transforms.parts import filesystem, get, join
from transforms.pictures import EXTENSIONS

CORRECTIONS = "corrections.jsonl"


@dataclass
class Known:
    """What is said of faces, by face_id."""

    person: dict[str, int] = field(default_factory=dict)
    """Face -> number: of one person the same, of different people different ones."""
    names: dict[int, str] = field(default_factory=dict)
    """Number -> name, for those who have one."""
    merged: list[list[str]] = field(default_factory=list)
    """Faces whose people are one, whatever else they are."""
    excluded: set[str] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)
    """Why something that was said is not used -> how often."""


class _Faces:
    """Finds the face that a user means."""

    def __init__(self, images: pa.Table, face_ids: Iterable[str]) -> None:
        """`images`: uri and image_key of every image, copies too."""
        self.image_of = dict(zip(images["uri"].to_pylist(), images["image_key"].to_pylist(), strict=True))
        self.faces: dict[str, list[str]] = {}
        for face_id in face_ids:
            self.faces.setdefault(face_id.partition(":")[0], []).append(face_id)

    def find(self, said: str) -> str:
        """face_id of a face_id, an image_key or a uri. Raises LookupError, with the reason."""
        if said in self.faces.get(said.partition(":")[0], ()):
            return said
        faces = self.faces.get(said) or self.faces.get(self.image_of.get(said, ""), [])
        if len(faces) == 1:
            return faces[0]
        raise LookupError(f"the picture shows {len(faces)} faces" if faces else "there is no such face")


def read_known(workdir: str, identities: str | None, images: pa.Table, face_ids: list[str]) -> Known:
    """All that is said of a work directory's faces. Raises Failure where a file cannot be read or contradicts itself.

    `identities`: URL of a folder or a file, see above; `images`: uri and image_key of every image, copies too."""
    known, faces = Known(), _Faces(images, face_ids)
    numbers: dict[str, int] = {}
    for name, said in _names(identities) if identities else ():
        for face in _found(known, faces, [said]):
            number = numbers.setdefault(name, len(numbers))
            if known.person.setdefault(face, number) != number:
                raise Failure(f"{identities} calls {face} both {known.names[known.person[face]]} and {name}: mend it")
            known.names[number] = name
    for where, line in _corrections(workdir):
        match line:
            case {"exclude": [*some]}:
                known.excluded.update(_found(known, faces, some))
            case {"merge": [*some]}:
                known.merged.append(_found(known, faces, some))
            case {"split": [*parts]} if len(parts) > 1 and all(isinstance(part, list) for part in parts):
                _split(known, [_found(known, faces, part) for part in parts], where)
            case _:
                raise Failure(f'{where} is none of {{"merge": […]}}, {{"split": [[…], […]]}} and {{"exclude": […]}}: mend it')
    return known


def _found(known: Known, faces: _Faces, said: Iterable[Any]) -> list[str]:
    """The faces that are meant; what is not found is counted."""
    found = []
    for one in said:
        try:
            found.append(faces.find(str(one)))
        except LookupError as why:
            known.ignored[why.args[0]] += 1
    return found


def _split(known: Known, parts: list[list[str]], where: str) -> None:
    """Say that the faces of each part are one person, and those of different parts different people. Raises Failure where
    something else was said before."""
    seen: set[int] = set()
    for part in filter(None, parts):
        numbers = {known.person[face] for face in part if face in known.person}
        number = min(numbers) if numbers else max([*known.person.values(), -1]) + 1
        if len(numbers) > 1 or number in seen:
            raise Failure(f"{where} contradicts what is said elsewhere of the same faces: mend one of the two")
        seen.add(number)
        known.person.update(dict.fromkeys(part, number))


def _names(url: str) -> Iterator[tuple[str, str]]:
    """Names with what bears them: a face_id, a uri or an image_key. Raises Failure."""
    fs, path = filesystem(url)
    if fs.isdir(path):
        for found in sorted(fs.find(path)):
            folder, _, name = found[len(path.rstrip("/")) + 1:].partition("/")
            if name and posixpath.splitext(name)[1].lower() in EXTENSIONS:
                yield folder, digests.of_bytes(fs.cat_file(found))
        return
    for number, row in enumerate(read_rows(fs, path, "identity", ("face_id", "uri")), 1):
        said = isinstance(row, dict) and (row.get("face_id") or row.get("uri"))
        if not said or not row.get("identity"):
            raise Failure(f"{url}:{number} has no identity and face_id or uri: mend it")
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


def known_digest(workdir: str, identities: str | None) -> str:
    """Of all that is said: what identities depend on beside faces and options. Raises Failure."""
    return digests.of(list(_names(identities)) if identities else [], [line for _, line in _corrections(workdir)])
