"""Group embedded faces into people.

Takes the URL of a work directory · Gives names of finished parts of identities, one a part of faces · Rejects nobody: a
face that belongs to nobody is a row whose identity is null"""
from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.embedder import Bounds, Embedder
from schemas.identity import IDENTITIES
from schemas.table import vectors
from transforms import digests, face_models, progress
from transforms.distinct import by_part, distinct_images, of_distinct
from transforms.failure import Failure
from transforms.known import CORRECTIONS, Known, known_digest, read_known
from transforms.linkage import cluster_faces
from transforms.mates import same_person_twice
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


VERSION = 2
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


def identify(faces: pa.Table, options: ClusterOptions, embedder: Embedder, earlier: dict[str, str], known: Known) -> pa.Table:
    """`faces` (face_id, image_key, embedding), one row a face, to the table of `identities`, same order.

    Raises Failure where a correction joins people who are known to be two."""
    bounds = face_models.bounds(embedder)
    if options.join is not None:
        bounds = dataclasses.replace(bounds, join=options.join)
    embeddings = vectors(faces["embedding"]).astype(np.float32)
    images = np.unique(faces["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    face_ids = faces["face_id"].to_pylist()
    exempt = same_person_twice(embeddings, images, bounds.strict_same_person)
    used = np.array([face not in known.excluded for face in face_ids], bool)
    rows = np.flatnonzero(used)
    place = {face_ids[row]: at for at, row in enumerate(rows.tolist())}
    persons = np.array([known.person.get(face_ids[row], -1) for row in rows.tolist()], np.int64)
    merged = [np.array([place[face] for face in faces if face in place], np.int64) for faces in known.merged]
    labels, similarity = np.full(len(face_ids), -1), np.zeros(len(face_ids), np.float32)
    labels[rows], similarity[rows] = cluster_faces(embeddings[rows], list(place), images[rows], bounds, exempt[rows], persons,
                                                   merged)
    names = name_clusters(labels, face_ids, earlier, _given(labels[rows], persons, known))
    return pa.table({"face_id": faces["face_id"].combine_chunks(), "identity": pa.array(names, pa.string()),
                     "centroid_similarity": pa.array(similarity, pa.float32())}, schema=IDENTITIES)


def _given(labels: np.ndarray, persons: np.ndarray, known: Known) -> dict[int, str]:
    """Label -> the name that its person has beforehand. Raises Failure where people who are known to be two have one label."""
    person_of: dict[int, int] = {}
    for label, person in zip(labels.tolist(), persons.tolist(), strict=True):
        if person >= 0 and person_of.setdefault(label, person) != person:
            two = sorted(known.names.get(one, "somebody without a name") for one in (person, person_of[label]))
            raise Failure(f"{CORRECTIONS} merges {' and '.join(two)}, who are said to be two: mend one of the two")
    return {label: known.names[person] for label, person in person_of.items() if person in known.names}


class ClusterFaces(beam.DoFn):
    """All faces of a work directory at once."""

    def __init__(self, options: ClusterOptions) -> None:
        self.options = options

    def process(self, workdir: str) -> Iterator[str]:
        faces = Parts(workdir, "faces").read_all(["face_id", "image_key", "embedding"])
        distinct = of_distinct(faces, distinct_images(workdir, ["image_key"])).sort_by("face_id")
        known = read_known(workdir, self.options.identities, Parts(workdir, "images").read_all(["uri", "image_key"]),
                           distinct["face_id"].to_pylist())
        for why, count in sorted(known.ignored.items()):
            print(f"of what is said of faces beforehand, {count} could not be used: {why}", file=sys.stderr)
        earlier = earlier_names(workdir)
        identities = identify(distinct, self.options, embedder_of(workdir), earlier, known)
        for line in changes(identities, earlier):
            print(line, file=sys.stderr)
        people = describe(vectors(distinct["embedding"]).astype(np.float32), identities["centroid_similarity"].to_numpy(),
                          identities["identity"].to_pylist())
        print(summary(people), file=sys.stderr)
        rows_of = by_part(identities.append_column("part", distinct["part"]))
        state, bounds = state_of_faces(workdir, self.options), face_models.bounds(embedder_of(workdir))
        Parts(workdir, "people").write(people_part(state, self.options, bounds), people)
        for part in Parts(workdir, "faces").parts():
            name = identities_part(part, state, self.options, bounds)
            mine = rows_of[part].drop_columns(["part"]) if part in rows_of else identities.slice(0, 0)
            Parts(workdir, "identities").write(name, mine.combine_chunks())
            progress.advance("cluster")
            yield name


@dataclass
class ClusterIdentities(beam.PTransform):
    """Work directories become parts of identities."""

    options: ClusterOptions

    def expand(self, workdirs: beam.PCollection[str]) -> beam.PCollection[str]:
        return workdirs | "Cluster" >> beam.ParDo(ClusterFaces(self.options))
