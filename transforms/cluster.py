"""Group embedded faces into people.

Takes the URL of a work directory with no more faces than one home keeps (`transforms.link`) · Gives names of finished parts of
identities, one a part of faces · Rejects nobody: a face that belongs to nobody is a row whose identity is null"""
from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import apache_beam as beam
import numpy as np
import pyarrow as pa
import scipy.sparse

from schemas.embedder import Bounds, Embedder
from schemas.table import vectors
from transforms import clusters, digests, face_models, naming, people, progress
from transforms.compare import Compared
from transforms.distinct import distinct_images, of_distinct
from transforms.graph import Graph, cluster_faces
from transforms.homes import run_here
from transforms.identities import (
    IdentityParts,
    Summary,
    earlier_parts,
    identities_of,
    people_of,
    read_earlier,
    write_identities,
)
from transforms.known import Known, known_digest, read_known, said_of, tell_ignored
from transforms.naming import DESCRIBED, JOINED, NAMED, PARTED
from transforms.parts import NotReady, Parts
from transforms.rows import TEXT, Rows, together


@dataclass(frozen=True)
class ClusterOptions:
    join: float | None = field(default=None, metadata={
        "least": -2, "most": 2,
        "help": "least mean similarity, scaled by how crowded a face's surroundings are, at which two groups of faces become "
                "one person; default: the face model's own"})
    identities: str | None = field(default=None, metadata={
        "metavar": "PATH",
        "help": "names known beforehand: a folder with a folder of pictures for each person, or a .jsonl, .csv or .parquet "
                "file with the columns identity and face_id or uri; default: nobody is known. Corrections by hand stand in "
                "W/corrections.jsonl (README, \"Who is who\")", "recorded": False})
    cluster_processes: int = field(default=0, metadata={
        "least": 0, "recorded": False,
        "help": "child processes that compare and link faces where there are too many for one, on DirectRunner; with 1 there "
                "are none, this process does it; default: one a core"})

    def processes(self) -> int:
        return self.cluster_processes or os.cpu_count() or 1


def embedder_of(workdir: str) -> Embedder:
    """The embedding model that made a work directory's faces. Raises NotReady."""
    faces = Parts(workdir, "faces")
    names = faces.parts()
    if not names:
        raise NotReady(f"{faces.url} holds no parts")
    schema = faces.schema(names[0])
    return Embedder.from_json(schema.metadata[b"embedding_model"], schema.field("embedding").type.list_size)


def bounds_of(workdir: str, options: ClusterOptions) -> Bounds:
    """The bounds of a work directory's embedder, as far as the options leave them. Raises NotReady."""
    bounds = face_models.bounds(embedder_of(workdir))
    return bounds if options.join is None else dataclasses.replace(bounds, join=options.join)


def identity_parts(workdir: str, options: ClusterOptions) -> IdentityParts:
    """Where identities of a work directory's faces stand: they depend on all faces, on the embedder's bounds, and on what is
    known beforehand. Raises Failure."""
    known, bounds = known_digest(workdir, options.identities), dataclasses.astuple(bounds_of(workdir, options))
    return IdentityParts(digests.of(Parts(workdir, "faces").digest(), known, bounds))


def whole_graph(workdir: str, bounds: Bounds) -> tuple[pa.Table, Graph]:
    """face_id and part of each face of a work directory, and the graph of these faces: of no more than one cell holds."""
    faces = Parts(workdir, "faces").read_all(["face_id", "image_key", "embedding"])
    distinct = of_distinct(faces, distinct_images(workdir, ["image_key"])).sort_by("face_id")
    return distinct.select(["face_id", "part"]), graph_of(distinct, bounds)


def graph_of(faces: pa.Table, bounds: Bounds) -> Graph:
    """The graph of `faces` (face_id, image_key, embedding), one row a face, in that order."""
    images = np.unique(faces["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    return Graph.of(vectors(faces["embedding"]), faces["face_id"].to_pylist(), images, bounds)


def clustered(face_ids: list[str], graph: Graph, bounds: Bounds, known: Known) -> Mapping[str, Rows]:
    """What is kept in the end of the faces of a graph as people (`people.kinds`), numbered as they stand, but for those who are
    nobody's from the start."""
    rows = np.array([row for row, face in enumerate(face_ids) if face not in known.excluded], np.int64)
    concerned = known.person.keys() | known.camps.keys() | {face for faces in known.merged for face in faces}
    place = {face_ids[row]: at for at, row in enumerate(rows.tolist()) if face_ids[row] in concerned}
    persons = np.full(len(rows), -1)
    for face in place.keys() & known.person.keys():
        persons[place[face]] = known.person[face]
    said = [(place[face], camp) for face, its in known.camps.items() if face in place for camp in its]
    camps = scipy.sparse.csr_matrix((np.ones(len(said), np.int64), tuple(np.array(said, np.int64).reshape(-1, 2).T)),
                                    (len(rows), 1 + max((camp for _, camp in said), default=0)))
    merged = [np.array([place[face] for face in faces if face in place], np.int64) for faces in known.merged]
    kept = cluster_faces(graph.of_rows(rows), bounds, persons, camps, merged)
    return {**kept, "results": {**kept["results"], "face": rows[kept["results"]["face"]]}}


def named(face_ids: list[str], ids: np.ndarray, kept: Mapping[str, Rows], known: Known,
          earlier: Iterable[tuple[np.ndarray, np.ndarray]]) -> Mapping[str, Rows]:
    """What is kept when all have names (`naming.kinds`). ids: int64 [N]; earlier: ids of faces, and what they were called.

    Raises Failure where a correction joins people who are known to be two."""
    letters: dict[str, list[Rows]] = {"called": [{"id": ids, "face_id": np.array(face_ids, TEXT)}]}
    some = (naming.letters_before(*its) for its in earlier)
    for name, _, rows in chain(naming.letters_said(said_of(known)), *some):
        letters.setdefault(name, []).append(rows)
    return run_here(naming.steps(), people.kinds(0, 0) | clusters.kinds(0, 0) | naming.kinds(),
                    {name: together(tables) for name, tables in letters.items()}, kept)


class ClusterFaces(beam.DoFn):
    """All faces of a work directory at once."""

    def __init__(self, options: ClusterOptions, parts: IdentityParts, compared: Compared | None) -> None:
        self.options, self.parts, self.compared = options, parts, compared

    def process(self, workdir: str) -> Iterator[str]:
        bounds = bounds_of(workdir, self.options)
        faces, graph = self.compared.graph(workdir) if self.compared else whole_graph(workdir, bounds)
        face_ids = faces["face_id"].to_pylist()
        known = read_known(workdir, self.options.identities, [faces["face_id"]])
        tell_ignored(known)
        earlier = [read_earlier(workdir, part) for part in earlier_parts(workdir)]
        kept = named(face_ids, graph.ids, clustered(face_ids, graph, bounds, known), known, earlier)
        for line in Summary.of(kept[DESCRIBED], kept[PARTED], kept[JOINED]).lines():
            progress.tell_user(line)
        Parts(workdir, "people").write(self.parts.people(), people_of(kept[DESCRIBED]))
        identities = identities_of(face_ids, kept[NAMED]["face"], kept[NAMED]).append_column("part", faces["part"])
        for name in write_identities(workdir, self.parts, Parts(workdir, "faces").parts(), identities):
            progress.advance("cluster")
            yield name


@dataclass
class ClusterIdentities(beam.PTransform):
    """Work directories become parts of identities."""

    options: ClusterOptions
    parts: IdentityParts
    compared: Compared | None
    """Where the faces were compared beforehand, because there are more than one cell holds."""

    def expand(self, workdirs: beam.PCollection[str]) -> beam.PCollection[str]:
        return workdirs | "Cluster" >> beam.ParDo(ClusterFaces(self.options, self.parts, self.compared))
