"""Put faces together that are one person, where there are too many to do so in one process.

Takes blocks whose faces were compared (`transforms.compare`) · Gives names of finished parts of identities · Rejects nobody

    what is said beforehand; blocks that were not linked before: faces and edges, to their homes, which may keep clusters of an
    earlier run (`transforms.lasting`) -> steps of `transforms.graph`
    -> `transforms.identities`"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.embedder import Bounds
from schemas.table import vectors
from transforms import digests, naming, progress
from transforms.blocks import ROW_BITS, Block, from_binary
from transforms.cells import Cells
from transforms.clusters import marks_of_camps, marks_of_images
from transforms.compare import Compared
from transforms.graph import all_kinds, all_steps
from transforms.homes import CLUSTERS, FOLDER, PRESENT, Home, Mail, Step, TakeSteps, post
from transforms.identities import VERSION, IdentityParts, NamePeople, Naming
from transforms.in_child import InChild
from transforms.known import (
    CAMP,
    EXCLUDED,
    MERGE,
    PERSON,
    anything_said,
    merges_said,
    read_known,
    said_of,
    tell_ignored,
)
from transforms.lasting import Lasting
from transforms.mates import exclusive_images
from transforms.parts import Parts
from transforms.rows import Kind
from transforms.space import Space
from transforms.survey import Table, table_part

FACES = 1 << 16
"""Of a home, about. Twice as many take 1.81 GiB, two homes at a time, where these take 1.30, in the same time (250 thousand
generated faces of 128 numbers)."""


@dataclass(frozen=True)
class TableOf:
    """The table of a work directory, read by who needs it: not part of a pipeline."""

    workdir: str
    state: str

    def cells(self) -> Cells:
        return Table.read(self.workdir, table_part(self.state)).cells

    def space(self) -> Space:
        return Table.read(self.workdir, table_part(self.state)).space


@dataclass(frozen=True)
class Linking:
    """How the compared faces of a work directory are linked."""

    workdir: str
    compared: Compared
    bounds: Bounds
    parts: IdentityParts
    identities: str | None
    """See `transforms.known`."""
    known: bool
    """Whether anything is said."""
    merges: bool
    """Whether people are to be made one."""
    homes: int
    before: Lasting | None
    """What linking goes on from."""

    @staticmethod
    def of(workdir: str, compared: Compared, bounds: Bounds, parts: IdentityParts, identities: str | None,
           homes: int) -> Linking:
        """Goes on from an earlier run, in its homes, where nothing is said of any face."""
        known = anything_said(workdir, identities)
        before = None if known else Lasting.of(workdir, compared, how(bounds))
        return Linking(workdir, compared, bounds, parts, identities, known, merges_said(workdir),
                       before.homes if before else homes, before)

    @property
    def state(self) -> str:
        """Names what passes."""
        return digests.of(self.parts.state, "links")

    @property
    def after(self) -> Lasting | None:
        """What the next run goes on from."""
        return None if self.known else Lasting(digests.of(self.state, CLUSTERS), self.homes, len(self.compared.blocks))

    @property
    def first(self) -> int:
        """Number of the first block whose faces were not linked before."""
        return self.before.blocks if self.before else 0

    @cached_property
    def steps(self) -> list[Step]:
        table = TableOf(self.workdir, self.compared.state)
        return list(all_steps(self.bounds, table.cells, table.space, self.known, self.merges, self.first))

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        return all_kinds(TableOf(self.workdir, self.compared.state).cells()) | naming.kinds()

    @property
    def naming(self) -> Naming:
        return Naming(self.workdir, self.compared.state, self.parts, self.homes, self.kinds, self.after)

    def commit(self) -> None:
        """The next run may go on from here, when people have names."""
        if self.after:
            self.after.commit(self.workdir, self.compared, how(self.bounds))
        else:
            Parts(self.workdir, CLUSTERS).discard()


def how(bounds: Bounds) -> str:
    """Of what clusters depend on beside faces."""
    return digests.of(dataclasses.astuple(bounds), VERSION)


class SayWho(beam.DoFn):
    """Write what is said of faces beforehand, if anything is."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, workdir: str) -> Iterator[str]:
        if not self.linking.known:
            yield ""
            return
        known = read_known(workdir, self.linking.identities, self.linking.compared.face_ids(workdir))
        tell_ignored(known)
        part = f"{digests.of(self.linking.state, 'said')}.parquet"
        Parts(workdir, FOLDER).write(part, said_of(known))
        yield part


@dataclass(frozen=True)
class Said:
    """What is said of faces, by ids int64 [n], each with a number int64 [n]."""

    rows: pa.Table | None

    def of(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        if self.rows is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        its = self.rows.filter(pc.equal(self.rows["what"], what))
        return its["id"].to_numpy(), its["number"].to_numpy()


class LayOut(beam.DoFn):
    """Send the faces of a block and their edges home."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, block: Block, part: str) -> Iterator[tuple[int, Mail]]:
        linking, workdir, name = self.linking, self.linking.workdir, block.name(self.linking.compared.state)
        rows = Parts(workdir, "grid").read(name, ["id", "image_key", "vector"])
        about, edges = Parts(workdir, "crowding").read(name), Parts(workdir, "edges").read(name)
        said = Said(Parts(workdir, FOLDER).read(part) if part else None)
        ids, home = rows["id"].to_numpy(), Home(linking.homes, linking.kinds)
        excluded, (merged, merge), (known, its_person) = said.of(EXCLUDED)[0], said.of(MERGE), said.of(PERSON)
        here = np.flatnonzero(~np.isin(ids, excluded))
        order = np.argsort(ids)
        person = np.full(len(ids), -1)
        ours = np.isin(known, ids)
        person[order[np.searchsorted(ids[order], known[ours])]] = its_person[ours]
        space = Table.read(workdir, table_part(linking.compared.state)).space
        home.send("newcomers", ids[here], {
            "id": ids[here], "face": here | block.number << ROW_BITS, "half": about["half"].to_numpy()[here],
            "person": person[here], "sure": (person[here] >= 0) | np.isin(ids[here], merged),
            "vector": space.project(space.centred(from_binary(rows["vector"])[here])), "cells": vectors(about["cells"])[here]})
        images = np.unique(rows["image_key"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
        images = exclusive_images(images, about["exempt"].to_numpy())
        seen = here[images[here] >= 0]
        home.send("marks", ids[seen], marks_of_images(ids[seen], images[seen] | block.number << ROW_BITS))
        (in_camp, camp), present = said.of(CAMP), ids[here]
        its = np.isin(in_camp, present)
        home.send("marks", in_camp[its], marks_of_camps(in_camp[its], camp[its]))
        its = np.isin(merged, present)
        home.send("merges", merged[its], {"id": merged[its], "merge": merge[its]})
        face, other, other_ids = (edges[column].to_numpy() for column in ("face", "other", "other_id"))
        row = face & (1 << ROW_BITS) - 1
        apart = _in_one_camp(ids[row], other_ids, in_camp, camp)
        inside = np.flatnonzero(other >> ROW_BITS == block.number)
        image, mate = images[row[inside]], images[other[inside] & (1 << ROW_BITS) - 1]
        apart[inside] |= (image == mate) & (image >= 0)
        good = ~np.isin(ids[row], excluded) & ~np.isin(other_ids, excluded)
        early = other >> ROW_BITS < linking.first
        asks = {"id": ids[row][good & early], "other": other_ids[good & early], "former": ids[row][good & early]}
        home.send("inherited", asks["id"], asks)
        good &= ~early
        link = {"average": edges["similarity"].to_numpy()[good].astype(np.float64), "forbidden": apart[good]}
        for ends, others in ((ids[row][good], other_ids[good]), (other_ids[good], ids[row][good])):
            home.send("replies", ends, {"id": ends, "other": others, **link})
        yield from post(home, Parts(workdir, FOLDER), digests.of(linking.state, "block", block.number))
        progress.advance("link")


def _in_one_camp(first: np.ndarray, second: np.ndarray, ids: np.ndarray, camps: np.ndarray) -> np.ndarray:
    """bool [E]: faces int64 [E] and [E] have a camp in common, of the camps int64 [n] of ids int64 [n]."""
    both = np.zeros(len(first), bool)
    for camp in np.unique(camps):
        its = ids[camps == camp]
        both |= np.isin(first, its) & np.isin(second, its)
    return both


@dataclass
class LinkFaces(beam.PTransform):
    """Blocks of compared faces become parts of identities; gives their names."""

    linking: Linking
    earlier: Sequence[str]
    """Parts of earlier identities."""

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[str]:
        linking = self.linking
        said = (blocks.pipeline
                | "Work directory" >> beam.Create([linking.workdir])
                | "Say who" >> beam.ParDo(SayWho(linking)))
        everyone = [(home, Mail(PRESENT, "", "", 0)) for home in range(linking.homes)]
        everyone += linking.before.mails(linking.workdir) if linking.before else []
        newcomers = blocks | "Newcomers" >> beam.Filter(lambda block, first: block.number >= first, linking.first)
        faces = newcomers | "Lay out" >> beam.ParDo(InChild(LayOut(linking)), beam.pvalue.AsSingleton(said))
        kept = ((faces, blocks.pipeline | "Everyone" >> beam.Create(everyone))
                | "To all homes" >> beam.Flatten()
                | "Link" >> TakeSteps(linking.workdir, linking.state, linking.steps, linking.homes, linking.kinds))
        return (blocks, kept, said) | "Name people" >> NamePeople(linking.naming, self.earlier)
