"""Tell whose each face is, when it is known which faces are one person.

Takes mails of what homes keep after `transforms.people` · Gives names of finished parts of identities, one a part of faces ·
Rejects nobody: a face that belongs to nobody is a row whose identity is null

    blocks: face_ids; earlier identities; what is said; to their homes -> steps of `transforms.naming` -> homes: people
    -> blocks: identities"""
from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.identity import IDENTITIES, PEOPLE
from transforms import digests, naming, progress
from transforms.blocks import ROW_BITS, Block
from transforms.compare import Batch, read_batches
from transforms.distinct import by_part
from transforms.homes import FOLDER, KEPT, Home, Mail, TakeSteps, post
from transforms.in_child import InChild
from transforms.lasting import Lasting
from transforms.naming import DESCRIBED, JOINED, NAMED, PARTED
from transforms.parts import NotReady, Parts
from transforms.rows import Kind, Rows, empty, from_table, once, to_table
from transforms.similarity import UNIT

VERSION = 10
"""Raised when the same faces and options give other identities."""
MOST = 20
"""Lines about people who were split, and about such as were merged: what a user reads."""


@dataclass(frozen=True)
class IdentityParts:
    """Names of parts of identities and people. Clustering is of all faces at once, so that each part depends on all of them."""

    state: str
    """Digest of all that identities are made from."""

    def of(self, faces_part: str) -> str:
        return f"{digests.of(faces_part, self.state, VERSION)}.parquet"

    def people(self, home: int = 0) -> str:
        """Of the people of a home; one that no face has come to leaves none."""
        return self.of(f"people {home}")


def earlier_parts(workdir: str) -> list[str]:
    """Names of parts of the work directory's earlier identities."""
    try:
        return Parts(workdir, "identities").parts()
    except NotReady:
        return []


def read_earlier(workdir: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the faces in a part of earlier identities int64 [n], and what they were called, str [n]."""
    table = Parts(workdir, "identities").read(part, ["face_id", "identity"])
    known = table.filter(pc.is_valid(table["identity"]))
    return digests.numbers(known["face_id"].to_pylist()), known["identity"].to_numpy(zero_copy_only=False)


def identities_of(face_ids: Sequence[str] | pa.ChunkedArray, row: np.ndarray, named: Rows) -> pa.Table:
    """The table `IDENTITIES` of N faces, in their order, from `naming.NAMED` about rows int64 [n] of them; all others belong to
    nobody."""
    names, similarity = np.full(len(face_ids), None, object), np.zeros(len(face_ids), np.float32)
    names[row], similarity[row] = named["name"], named["similarity"]
    return pa.table({"face_id": face_ids, "identity": pa.array(names, pa.string()), "centroid_similarity": similarity},
                    schema=IDENTITIES)


def people_of(described: Rows) -> pa.Table:
    """The table `PEOPLE`, one row an identity, by name, from `naming.DESCRIBED`."""
    nobody = described["nearest"] == np.array(None)
    return pa.table({
        "identity": described["name"], "faces": described["size"], "spread": 1 - described["similarity"],
        "nearest": pa.array(described["nearest"], pa.string()),
        "nearest_similarity": pa.array(described["value"] / UNIT, mask=nobody),
        "earlier": pa.array(described["earlier"], pa.string()),
    }, schema=PEOPLE).sort_by("identity")


@dataclass(frozen=True)
class Summary:
    """What a user is told of people: of some of them, adds up to that of all."""

    people: int
    alone: int
    """Of one face."""
    alike: tuple[float, str, str] | None
    """The negative cosine of their means, and the names, of the two most alike; None where there are no two."""
    changes: tuple[tuple[str, int, tuple[str, ...]], ...]
    """What has become of earlier people, how many there are, and lines about the first of them."""

    @staticmethod
    def of(described: Rows, parted: Rows, joined: Rows) -> Summary:
        """From what a home keeps of `naming`."""
        social = zip((-described["value"] / UNIT).tolist(), described["name"], described["nearest"], strict=True)
        alike = min((two for two in social if two[2] is not None), default=None)
        changes = tuple((verb, *_lines(verb, fates)) for verb, fates in (("split into", parted), ("merged from", joined)))
        return Summary(len(described["name"]), int((described["size"] == 1).sum()), alike, changes)

    def __add__(self, other: Summary) -> Summary:
        changes = tuple((verb, count + more, tuple(sorted(lines + others)[:MOST]))
                        for (verb, count, lines), (_, more, others) in zip(self.changes, other.changes, strict=True))
        alike = min((two for two in (self.alike, other.alike) if two), default=None)
        return Summary(self.people + other.people, self.alone + other.alone, alike, changes)

    def lines(self) -> Iterator[str]:
        for verb, count, lines in self.changes:
            yield from lines
            if count > len(lines):
                yield f"{count - len(lines)} more identities are {verb} others"
        if not self.people:
            yield "0 identities"
            return
        line = f"{self.people} identities, {self.alone} of them of one face"
        if self.alike:
            value, one, other = self.alike
            line += f"; the two most alike: {one} and {other} (cosine of their means {-value:.2f})"
        yield line


def _lines(verb: str, fates: Rows) -> tuple[int, tuple[str, ...]]:
    """How many people have changed, and lines about the first of them, from names with several others, by name and share."""
    starts = once(fates["name"])[0].tolist()
    lines = [f"identity {fates['name'][start]} is {verb} " +
             ", ".join(f"{fates['other'][row]} ({fates['count'][row]} faces)" for row in range(start, end))
             for start, end in islice(pairwise([*starts, len(fates["name"])]), MOST)]
    return len(starts), tuple(lines)


# --- on Beam ---


@dataclass(frozen=True)
class Naming:
    """How the people of a work directory are named."""

    workdir: str
    blocks_state: str
    """Names the parts of grid."""
    parts: IdentityParts
    homes: int
    kinds: dict[str, Kind]
    """Of all tables that homes keep."""
    lasting: Lasting | None
    """Where they go on from next time, if they may."""

    @property
    def state(self) -> str:
        """Names what passes."""
        return digests.of(self.parts.state, "names")

    def post(self, home: Home, stem: str) -> Iterator[tuple[int, Mail]]:
        return post(home, Parts(self.workdir, FOLDER), digests.of(self.state, stem))


class SendCalled(beam.DoFn):
    """Send the face_ids of a block to the homes of its faces."""

    def __init__(self, names: Naming) -> None:
        self.names = names

    def process(self, block: Block) -> Iterator[tuple[int, Mail]]:
        name = block.name(self.names.blocks_state)
        rows = Parts(self.names.workdir, "grid").read(name, ["id", "face_id"])
        home, ids = Home(self.names.homes, self.names.kinds), rows["id"].to_numpy()
        home.send("called", ids, {"id": ids, "face_id": rows["face_id"].to_numpy(zero_copy_only=False)})
        yield from self.names.post(home, name)
        progress.advance("link")


class SendEarlier(beam.DoFn):
    """Send what a part of earlier identities calls its faces to their homes, and the names to theirs."""

    def __init__(self, names: Naming) -> None:
        self.names = names

    def process(self, part: str) -> Iterator[tuple[int, Mail]]:
        home = Home(self.names.homes, self.names.kinds)
        for name, near, rows in naming.letters_before(*read_earlier(self.names.workdir, part)):
            home.send(name, near, rows)
        yield from self.names.post(home, part)
        progress.advance("link")


class SendSaid(beam.DoFn):
    """Send what is said of faces to their homes."""

    def __init__(self, names: Naming) -> None:
        self.names = names

    def process(self, part: str) -> Iterator[tuple[int, Mail]]:
        if part:
            home = Home(self.names.homes, self.names.kinds)
            for name, near, rows in naming.letters_said(Parts(self.names.workdir, FOLDER).read(part)):
                home.send(name, near, rows)
            yield from self.names.post(home, part)


BLOCKS, SUMMARIES = "blocks", "summaries"


class LeaveHome(beam.DoFn):
    """Write the people of a home; leave what its faces are called with their blocks."""

    def __init__(self, names: Naming) -> None:
        self.names = names

    def process(self, element: tuple[int, Iterable[Mail]]) -> Iterator[Any]:
        number, mails = element[0], list(element[1])
        kept = {mail.name: mail for mail in mails if mail.what == KEPT}
        folder = Parts(self.names.workdir, FOLDER)

        def read(name: str) -> Rows:
            if name not in kept:
                return empty(self.names.kinds[name])
            return from_table(folder.read_batches(kept[name].part, [kept[name].batch]), self.names.kinds[name])

        described, named = read(DESCRIBED), to_table(read(NAMED))
        Parts(self.names.workdir, "people").write(self.names.parts.people(number), people_of(described))
        yield beam.pvalue.TaggedOutput(SUMMARIES, Summary.of(described, read(PARTED), read(JOINED)))
        block = named["face"].to_numpy() >> ROW_BITS
        blocks, part = np.unique(block), f"{digests.of(self.names.state, number, NAMED)}.arrow"
        folder.write_batches(part, [named.filter(pa.array(block == one)) for one in blocks])
        for batch, one in enumerate(blocks.tolist()):
            yield one, (part, batch)
        if self.names.lasting:
            self.names.lasting.keep(self.names.workdir, number, mails)
        progress.advance("link")


class WriteBlock(beam.DoFn):
    """Write the identities of a block's faces."""

    def __init__(self, names: Naming) -> None:
        self.names = names

    def process(self, element: tuple[int, dict[str, list[Any]]]) -> Iterator[str]:
        _, found = element
        block: Block = found["blocks"][0]
        workdir, batches = self.names.workdir, list[Batch](found["batches"])
        rows = Parts(workdir, "grid").read(block.name(self.names.blocks_state), ["face_id", "part"])
        kind = self.names.kinds[NAMED]
        named = from_table(read_batches(Parts(workdir, FOLDER), batches), kind) if batches else empty(kind)
        identities = identities_of(rows["face_id"], named["face"] & (1 << ROW_BITS) - 1, named)
        part = pa.DictionaryArray.from_arrays(rows["part"].combine_chunks(), pa.array(block.parts))
        yield from write_identities(workdir, self.names.parts, block.parts, identities.append_column("part", part))
        progress.advance("link")


def write_identities(workdir: str, parts: IdentityParts, faces_parts: Iterable[str], identities: pa.Table) -> Iterator[str]:
    """Write a part of identities for each part of faces, of rows of `IDENTITIES` with a column `part`; gives their names."""
    rows_of = by_part(identities)
    for part in faces_parts:
        mine = rows_of.get(part, identities.slice(0, 0)).drop_columns(["part"])
        Parts(workdir, "identities").write(parts.of(part), mine.combine_chunks())
        yield parts.of(part)


class TellSummary(beam.DoFn):
    """Tell the user what came out."""

    def process(self, summary: Summary) -> Iterator[None]:
        for line in summary.lines():
            progress.tell_user(line)
        yield from ()


@dataclass
class NamePeople(beam.PTransform):
    """Blocks, mails of what their homes keep, and the name of the part of what is said become parts of identities."""

    names: Naming
    earlier: Sequence[str]
    """Parts of earlier identities."""

    def expand(self, found: tuple[beam.PCollection[Block], beam.PCollection[tuple[int, Mail]],
                                  beam.PCollection[str]]) -> beam.PCollection[str]:
        (blocks, mails, said), names = found, self.names
        letters = (mails, blocks | "Call" >> beam.ParDo(InChild(SendCalled(names))),
                   said | "Say" >> beam.ParDo(SendSaid(names)),
                   blocks.pipeline | "Earlier" >> beam.Create(self.earlier)
                   | "Once called" >> beam.ParDo(InChild(SendEarlier(names))))
        homes = (letters
                 | "To all" >> beam.Flatten()
                 | "Name" >> TakeSteps(names.workdir, names.state, list(naming.steps()), names.homes, names.kinds)
                 | "Kept" >> beam.GroupByKey()
                 | "Leave" >> beam.ParDo(InChild(LeaveHome(names))).with_outputs(SUMMARIES, main=BLOCKS))
        _ = (homes[SUMMARIES]
             | "Add up" >> beam.CombineGlobally(lambda some: functools.reduce(operator.add, some)).without_defaults()
             | "Tell" >> beam.ParDo(TellSummary()))
        return ({"blocks": blocks | "Block number" >> beam.Map(lambda block: (block.number, block)), "batches": homes[BLOCKS]}
                | "To blocks" >> beam.CoGroupByKey()
                | "Write" >> beam.ParDo(InChild(WriteBlock(names))))
