"""Put faces together that are one person, where there are too many to do so in one process.

Takes blocks whose faces were compared (`transforms.compare`) · Gives names of parts of linked, two a home · Rejects nobody

    what is said beforehand; blocks: faces and edges, to their homes -> steps of `transforms.linkage` -> whose each face is,
    and what people there are"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.embedder import Bounds
from transforms import digests, levels, progress
from transforms.blocks import ROW_BITS, Block, from_binary
from transforms.cells import Cells
from transforms.compare import Compared, number_of
from transforms.homes import FOLDER, KEPT, PRESENT, Home, Mail, Step, TakeSteps, post
from transforms.known import read_known
from transforms.linkage import Clustered, all_kinds, all_steps
from transforms.mates import exclusive_images
from transforms.parts import Parts
from transforms.rows import Kind, Rows, empty, from_table, together
from transforms.similarity import without
from transforms.survey import Table, table_part

FACES = 1 << 17
"""Of a home, about: a choice. Their sums, of 512 numbers, take 256 MiB."""
RESULTS, PEOPLE = "results", "people"
"""Tables of which homes keep what comes out."""


@dataclass(frozen=True)
class CellsOf:
    """The cells of a work directory, read by who needs them: not part of a pipeline."""

    workdir: str
    state: str

    def __call__(self) -> Cells:
        return Table.read(self.workdir, table_part(self.state)).cells


@dataclass(frozen=True)
class Linking:
    """How the compared faces of a work directory are linked."""

    workdir: str
    compared: Compared
    bounds: Bounds
    state: str
    """Of the faces and of what is said of them."""
    identities: str | None
    """See `transforms.known`."""
    known: bool
    """Whether anything is said."""
    merges: bool
    """Whether people are to be made one."""
    homes: int

    @cached_property
    def steps(self) -> list[Step]:
        return list(all_steps(self.bounds, CellsOf(self.workdir, self.compared.state), self.known, self.merges))

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        return all_kinds(CellsOf(self.workdir, self.compared.state)())

    def part(self, home: int, name: str) -> str:
        """The part of linked with a table of a home."""
        return f"{digests.of(self.state, home, name)}.parquet"

    def clustered(self, faces: pa.Table) -> Clustered:
        """All faces as people. `faces`: see `Compared.faces`."""
        results, people = self._kept(RESULTS), self._kept(PEOPLE)
        row = number_of(results["face"], self.compared.starts(self.workdir))
        return Clustered.of(faces["id"].to_numpy(), row, results, people)

    def _kept(self, name: str) -> Rows:
        """A table of all homes; one that keeps no row has left no part."""
        linked = Parts(self.workdir, "linked")
        parts = sorted({self.part(home, name) for home in range(self.homes)} & linked.existing())
        return together([empty(self.kinds[name]), *(from_table(linked.read(part), self.kinds[name]) for part in parts)])


PERSON, CAMP, MERGE, EXCLUDED = "person", "camp", "merge", "excluded"
"""What may be said of a face: see `transforms.known.Known`."""


class SayWho(beam.DoFn):
    """Write what is said of faces beforehand, if anything is."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, workdir: str) -> Iterator[str]:
        if not self.linking.known:
            yield ""
            return
        face_ids = self.linking.compared.faces(workdir)["face_id"].to_pylist()
        known = read_known(workdir, self.linking.identities, face_ids)
        said = [*((face, PERSON, person) for face, person in known.person.items()),
                *((face, CAMP, camp) for face, camps in known.camps.items() for camp in camps),
                *((face, MERGE, merge) for merge, faces in enumerate(known.merged) for face in faces),
                *((face, EXCLUDED, 0) for face in known.excluded)]
        part = f"{digests.of(self.linking.state, 'said')}.parquet"
        ids = digests.numbers(face for face, _, _ in said)
        Parts(workdir, FOLDER).write(part, pa.table({"id": ids, "what": pa.array([what for _, what, _ in said], pa.string()),
                                                     "number": pa.array([number for _, _, number in said], pa.int64())}))
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
        mean = Table.read(workdir, table_part(linking.compared.state)).mean
        home.send("newcomers", ids[here], {
            "id": ids[here], "face": here | block.number << ROW_BITS, "half": about["half"].to_numpy()[here],
            "person": person[here], "sure": (person[here] >= 0) | np.isin(ids[here], merged),
            "vector": without(from_binary(rows["vector"]), mean)[here]})
        images = np.unique(rows["image_key"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
        images = exclusive_images(images, about["exempt"].to_numpy())
        seen = here[images[here] >= 0]
        home.send("marks", ids[seen], levels.marks_of_images(ids[seen], images[seen] | block.number << ROW_BITS))
        (in_camp, camp), present = said.of(CAMP), ids[here]
        its = np.isin(in_camp, present)
        home.send("marks", in_camp[its], levels.marks_of_camps(in_camp[its], camp[its]))
        its = np.isin(merged, present)
        home.send("merges", merged[its], {"id": merged[its], "merge": merge[its]})
        face, other, other_ids = (edges[column].to_numpy() for column in ("face", "other", "other_id"))
        row = face & (1 << ROW_BITS) - 1
        apart = _in_one_camp(ids[row], other_ids, in_camp, camp)
        inside = np.flatnonzero(other >> ROW_BITS == block.number)
        image, mate = images[row[inside]], images[other[inside] & (1 << ROW_BITS) - 1]
        apart[inside] |= (image == mate) & (image >= 0)
        good = ~np.isin(ids[row], excluded) & ~np.isin(other_ids, excluded)
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


class Publish(beam.DoFn):
    """Write what came out, of a home."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, element: tuple[int, Mail]) -> Iterator[str]:
        home, mail = element
        if mail.what == KEPT and mail.name in (RESULTS, PEOPLE):
            workdir, part = self.linking.workdir, self.linking.part(home, mail.name)
            Parts(workdir, "linked").write(part, Parts(workdir, FOLDER).read_batches(mail.part, [mail.batch]))
            yield part


@dataclass
class LinkFaces(beam.PTransform):
    """Blocks of compared faces become parts of linked; gives their names."""

    linking: Linking

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[str]:
        linking = self.linking
        said = (blocks.pipeline
                | "Work directory" >> beam.Create([linking.workdir])
                | "Say who" >> beam.ParDo(SayWho(linking)))
        everyone = [(home, Mail(PRESENT, "", "", 0)) for home in range(linking.homes)]
        faces = blocks | "Lay out" >> beam.ParDo(LayOut(linking), beam.pvalue.AsSingleton(said))
        return ((faces, blocks.pipeline | "Everyone" >> beam.Create(everyone))
                | "To all homes" >> beam.Flatten()
                | "Link" >> TakeSteps(linking.workdir, linking.state, linking.steps, linking.homes, linking.kinds)
                | "Publish" >> beam.ParDo(Publish(linking)))
