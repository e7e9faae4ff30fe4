"""Group embedded faces into people.

Takes the URL of a work directory · Gives names of finished parts of identities, one a part of faces · Rejects nobody: a
face that belongs to nobody is a row whose identity is null"""
from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from schemas.embedder import Bounds, Embedder
from schemas.identity import IDENTITIES
from schemas.table import vectors
from transforms import digests, face_models, progress
from transforms.compare import Compared
from transforms.distinct import by_part, distinct_images, of_distinct
from transforms.failure import Failure
from transforms.known import CORRECTIONS, Known, known_digest, read_known
from transforms.link import Linking
from transforms.linkage import Clustered, Graph, cluster_faces
from transforms.naming import changes, name_clusters
from transforms.parts import NotReady, Parts
from transforms.people import describe


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


def embedder_of(workdir: str) -> Embedder:
    """The embedding model that made a work directory's faces. Raises NotReady."""
    faces = Parts(workdir, "faces")
    names = faces.parts()
    if not names:
        raise NotReady(f"{faces.url} holds no parts")
    schema = faces.schema(names[0])
    return Embedder.from_json(schema.metadata[b"embedding_model"], schema.field("embedding").type.list_size)


VERSION = 4
"""Raised when the same faces and options give other identities."""


def identities_part(faces_part: str, state: str, options: ClusterOptions, bounds: Bounds) -> str:
    """Clustering is of all faces at once, so that each part depends on all of them, on the embedder's bounds, and on what is
    known beforehand: `state` is a digest of the faces and of that."""
    return f"{digests.of(faces_part, state, options.join, dataclasses.astuple(bounds), VERSION)}.parquet"


def people_part(state: str, options: ClusterOptions, bounds: Bounds) -> str:
    """All identities stand in one part."""
    return identities_part("people", state, options, bounds)


def summary(people: pa.Table) -> str:
    """How many identities there are, and which are the least sure."""
    if not len(people):
        return "0 identities"
    line = f"{len(people)} identities, {int(pc.sum(pc.equal(people['faces'], 1)).as_py())} of them of one face"
    if len(people) > 1:
        two = people.sort_by([("nearest_similarity", "descending"), ("identity", "ascending")]).slice(0, 1).to_pylist()[0]
        line += (f"; the two most alike: {two['identity']} and {two['nearest']} (cosine of their means "
                 f"{two['nearest_similarity']:.2f})")
    return line


def state_of_faces(workdir: str, options: ClusterOptions) -> str:
    """A digest of all that identities are made from, but options and bounds. Raises Failure."""
    return digests.of(Parts(workdir, "faces").digest(), known_digest(workdir, options.identities))


def earlier_names(workdir: str) -> dict[str, str]:
    """face_id -> identity of the work directory's earlier identities."""
    try:
        table = Parts(workdir, "identities").read_all(["face_id", "identity"])
    except NotReady:
        return {}
    known = table.filter(pc.is_valid(table["identity"]))
    return dict(zip(known["face_id"].to_pylist(), known["identity"].to_pylist(), strict=True))


def graph_of(faces: pa.Table, bounds: Bounds) -> Graph:
    """The graph of `faces` (face_id, image_key, embedding), one row a face, in that order."""
    images = np.unique(faces["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    return Graph.of(vectors(faces["embedding"]), faces["face_id"].to_pylist(), images, bounds)


def clustered(face_ids: list[str], graph: Graph, bounds: Bounds, known: Known) -> Clustered:
    """The faces of a graph as people."""
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
    found = cluster_faces(graph.of_rows(rows), bounds, persons, camps, merged)
    label, similarity = np.full(len(face_ids), -1), np.zeros(len(face_ids), np.float32)
    label[rows], similarity[rows] = found.label, found.similarity
    return Clustered(label, similarity, found.people)


def identify(face_ids: list[str], found: Clustered, earlier: dict[str, str], known: Known) -> tuple[pa.Table, pa.Table]:
    """The tables of `identities`, a row a face in the order given, and of `people`.

    Raises Failure where a correction joins people who are known to be two."""
    concerned = known.person.keys() | known.camps.keys()
    said = {face: label for face, label in zip(face_ids, found.label.tolist(), strict=True) if face in concerned and label >= 0}
    names = name_clusters(found.label, face_ids, earlier, _given(said, known))
    identities = pa.table({"face_id": face_ids, "identity": pa.array(names, pa.string()),
                           "centroid_similarity": pa.array(found.similarity, pa.float32())}, schema=IDENTITIES)
    count = len(found.people["id"])
    name_of, before = [""] * count, [Counter[str]() for _ in range(count)]
    for face, name, label in zip(face_ids, names, found.label.tolist(), strict=True):
        if name is not None:
            name_of[label] = name
            if face in earlier:
                before[label][earlier[face]] += 1
    return identities, describe(found.people, name_of, before)


def _given(labels: dict[str, int], known: Known) -> dict[int, str]:
    """Label -> the name that its person has beforehand, from the labels of faces of whom something is said. Raises Failure
    where people who are said to be two have one label."""
    person_of: dict[tuple[int, int], str] = {}
    given: dict[int, str] = {}
    for face, label in labels.items():
        for camp in known.camps.get(face, ()):
            if known.one[person_of.setdefault((label, camp), face)] != known.one[face]:
                raise Failure(f"{CORRECTIONS} merges the people of {face} and {person_of[label, camp]}, who are said to be "
                              "two: mend one of the two")
        if (name := known.names.get(known.person.get(face, -1))) is not None:
            given[label] = name
    return given


class ClusterFaces(beam.DoFn):
    """All faces of a work directory at once."""

    def __init__(self, options: ClusterOptions, state: str, compared: Compared | None, linking: Linking | None) -> None:
        self.options, self.state, self.compared, self.linking = options, state, compared, linking

    def _found(self, workdir: str) -> tuple[pa.Table, Known, Clustered]:
        """face_id and part of each face, what is known of them beforehand, and what was found out."""
        if self.linking is not None:
            faces = self.linking.compared.faces(workdir)
            known = read_known(workdir, self.options.identities, faces["face_id"].to_pylist())
            return faces, known, self.linking.clustered(faces)
        bounds = bounds_of(workdir, self.options)
        faces, graph = self.compared.graph(workdir) if self.compared else whole_graph(workdir, bounds)
        face_ids = faces["face_id"].to_pylist()
        known = read_known(workdir, self.options.identities, face_ids)
        return faces, known, clustered(face_ids, graph, bounds, known)

    def process(self, workdir: str) -> Iterator[str]:
        faces, known, found = self._found(workdir)
        for why, said in sorted(known.ignored.items()):
            progress.tell(f"{said[0]} and {len(said) - 1} others are not used: {why}" if len(said) > 1 else
                          f"{said[0]} is not used: {why}")
        earlier = earlier_names(workdir)
        identities, people = identify(faces["face_id"].to_pylist(), found, earlier, known)
        for line in changes(identities, earlier):
            progress.tell(line)
        progress.tell(summary(people))
        rows_of = by_part(identities.append_column("part", faces["part"]))
        own = face_models.bounds(embedder_of(workdir))  # names of parts are made of these and of the options
        Parts(workdir, "people").write(people_part(self.state, self.options, own), people)
        for part in Parts(workdir, "faces").parts():
            name = identities_part(part, self.state, self.options, own)
            mine = rows_of[part].drop_columns(["part"]) if part in rows_of else identities.slice(0, 0)
            Parts(workdir, "identities").write(name, mine.combine_chunks())
            progress.advance("cluster")
            yield name


def whole_graph(workdir: str, bounds: Bounds) -> tuple[pa.Table, Graph]:
    """face_id and part of each face of a work directory, and the graph of these faces: of no more than one cell holds."""
    faces = Parts(workdir, "faces").read_all(["face_id", "image_key", "embedding"])
    distinct = of_distinct(faces, distinct_images(workdir, ["image_key"])).sort_by("face_id")
    return distinct.select(["face_id", "part"]), graph_of(distinct, bounds)


def bounds_of(workdir: str, options: ClusterOptions) -> Bounds:
    """The bounds of a work directory's embedder, as far as the options leave them. Raises NotReady."""
    bounds = face_models.bounds(embedder_of(workdir))
    return bounds if options.join is None else dataclasses.replace(bounds, join=options.join)


@dataclass
class ClusterIdentities(beam.PTransform):
    """Work directories become parts of identities."""

    options: ClusterOptions
    state: str
    """`state_of_faces`, which names what is made."""
    compared: Compared | None = None
    """Where the faces were compared beforehand, because there are more than one cell holds."""
    linking: Linking | None = None
    """Where they were linked beforehand too, because there are more than one home keeps."""

    def expand(self, workdirs: beam.PCollection[str]) -> beam.PCollection[str]:
        return workdirs | "Cluster" >> beam.ParDo(ClusterFaces(self.options, self.state, self.compared, self.linking))
