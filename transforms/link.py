"""Put faces together that are one person, where there are too many to do so in one process.

Takes blocks whose faces were compared (`transforms.compare`) · Gives names of parts of linked, one a home · Rejects nobody

    what is said beforehand; blocks: faces and edges, to their homes -> steps of `transforms.levels` -> which faces are in
    which cluster"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.embedder import Bounds
from transforms import digests, levels, progress
from transforms.blocks import ROW_BITS, Block, from_binary
from transforms.cells import Cells
from transforms.compare import Compared, number_of
from transforms.homes import FOLDER, KEPT, PRESENT, Home, Kind, Mail, Step, TakeSteps, from_table, post
from transforms.known import read_known
from transforms.mates import exclusive_images
from transforms.parts import Parts
from transforms.similarity import without
from transforms.survey import Table, table_part

FACES = 1 << 17
"""Of a home, about: a choice. Their sums, of 512 numbers, take 256 MiB."""


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
    homes: int

    @cached_property
    def steps(self) -> list[Step]:
        return list(levels.steps(self.bounds.join, self.bounds.edge, CellsOf(self.workdir, self.compared.state), self.known))

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        cells = CellsOf(self.workdir, self.compared.state)()
        return levels.kinds(cells.centres.shape[1], cells)

    def parts(self) -> list[str]:
        """Names of the parts of linked, one a home."""
        return [f"{digests.of(self.state, home)}.parquet" for home in range(self.homes)]

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """The cluster of each face, as the row of one of its faces, int64 [N]; -1 for those who are excluded. `ids`: int64 [N],
        of all faces by block."""
        rows = pa.concat_tables([Parts(self.workdir, "linked").read(part) for part in self.parts()])
        order, label = np.argsort(ids), np.full(len(ids), -1)
        row = number_of(rows["face"].to_numpy(), self.compared.starts(self.workdir))
        label[row] = order[np.searchsorted(ids[order], rows["id"].to_numpy())]
        return label


class SayWho(beam.DoFn):
    """Write what is said of faces beforehand, if anything is."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, workdir: str) -> Iterator[str]:
        if not self.linking.known:
            yield ""
            return
        grid = Parts(workdir, "grid")
        face_ids = [face for part in self.linking.compared.parts()
                    for face in grid.read(part, ["face_id"])["face_id"].to_pylist()]
        known = read_known(workdir, self.linking.identities, face_ids)
        said = sorted(known.person.keys() | known.camps.keys() | known.excluded)
        part = f"{digests.of(self.linking.state, 'said')}.parquet"
        Parts(workdir, FOLDER).write(part, pa.table({
            "id": digests.numbers(said), "person": pa.array([known.person.get(face, -1) for face in said], pa.int64()),
            "camps": pa.array([sorted(known.camps.get(face, ())) for face in said], pa.list_(pa.int64())),
            "excluded": pa.array([face in known.excluded for face in said], pa.bool_())}))
        yield part


class LayOut(beam.DoFn):
    """Send the faces of a block and their edges home."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, block: Block, said: str) -> Iterator[tuple[int, Mail]]:
        linking, workdir = self.linking, self.linking.workdir
        name = block.name(linking.compared.state)
        rows = Parts(workdir, "grid").read(name, ["id", "image_key", "vector"])
        about, edges = Parts(workdir, "crowding").read(name), Parts(workdir, "edges").read(name)
        ids = rows["id"].to_numpy()
        images = np.unique(rows["image_key"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
        images = exclusive_images(images, about["exempt"].to_numpy())
        person_of, camps_of, excluded = _read_said(workdir, said)
        person = np.array([person_of.get(face, -1) for face in ids.tolist()], np.int64) if person_of else np.full(len(ids), -1)
        here = ~np.isin(ids, excluded)
        home = Home(linking.homes, linking.kinds)
        mean = Table.read(workdir, table_part(linking.compared.state)).mean
        number = np.arange(len(ids)) | block.number << ROW_BITS
        home.send("faces", ids[here], {"id": ids[here], "face": number[here], "half": about["half"].to_numpy()[here],
                                       "person": person[here], "vector": without(from_binary(rows["vector"]), mean)[here]})
        seen = np.flatnonzero((images >= 0) & here)
        home.send("marks", ids[seen], levels.marks_of_images(ids[seen], images[seen] | block.number << ROW_BITS))
        in_camps = [(face, camp) for face in ids[here].tolist() for camp in camps_of.get(face, ())]
        its = np.array(in_camps, np.int64).reshape(-1, 2)
        home.send("marks", its[:, 0], levels.marks_of_camps(its[:, 0], its[:, 1]))
        face, other, other_ids = (edges[column].to_numpy() for column in ("face", "other", "other_id"))
        row, mate = face & (1 << ROW_BITS) - 1, other & (1 << ROW_BITS) - 1
        inside = np.flatnonzero(other >> ROW_BITS == block.number)
        apart = np.zeros(len(face), bool)
        apart[inside] = (images[row[inside]] == images[mate[inside]]) & (images[row[inside]] >= 0)
        if camps_of:
            apart |= np.array([bool(set(camps_of.get(one, ())) & set(camps_of.get(two, ())))
                               for one, two in zip(ids[row].tolist(), other_ids.tolist(), strict=True)], bool)
        good = here[row] & ~np.isin(other_ids, excluded)
        link = {"average": edges["similarity"].to_numpy()[good].astype(np.float64), "forbidden": apart[good]}
        for ends, others in ((ids[row][good], other_ids[good]), (other_ids[good], ids[row][good])):
            home.send("replies", ends, {"id": ends, "other": others, **link})
        yield from post(home, Parts(workdir, FOLDER), digests.of(linking.state, "block", block.number))
        progress.advance("link")


def _read_said(workdir: str, part: str) -> tuple[dict[int, int], dict[int, list[int]], np.ndarray]:
    """Who is which person, and in which camps; and who is nobody, int64 [n]."""
    if not part:
        return {}, {}, np.zeros(0, np.int64)
    rows = Parts(workdir, FOLDER).read(part)
    ids = rows["id"].to_pylist()
    camps = {face: its for face, its in zip(ids, rows["camps"].to_pylist(), strict=True) if its}
    excluded = rows.filter(rows["excluded"])["id"].to_numpy()
    return dict(zip(ids, rows["person"].to_pylist(), strict=True)), camps, excluded


class Publish(beam.DoFn):
    """Write which faces are in the clusters of a home."""

    def __init__(self, linking: Linking) -> None:
        self.linking = linking

    def process(self, element: tuple[int, Mail]) -> Iterator[str]:
        home, mail = element
        if (mail.what, mail.name) == (KEPT, "members"):
            workdir = self.linking.workdir
            rows = from_table(Parts(workdir, FOLDER).read_batches(mail.part, [mail.batch]), self.linking.kinds["members"])
            part = self.linking.parts()[home]
            Parts(workdir, "linked").write(part, pa.table(rows))
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
