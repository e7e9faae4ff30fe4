"""Group embedded faces into people.

Takes the URL of a work directory · Gives names of finished parts of identities, one a part of faces · Rejects nobody: a
face that belongs to nobody is a row whose identity is null"""
from __future__ import annotations

import dataclasses
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
from transforms.distinct import by_part, distinct_images, of_distinct
from transforms.failure import Failure
from transforms.known import CORRECTIONS, Known, known_digest, read_known
from transforms.linkage import cluster_faces, exclusive_images
from transforms.mates import same_person_twice
from transforms.naming import changes, name_clusters
from transforms.parts import NotReady, Parts
from transforms.people import describe
from transforms.similarity import GRID, centred, on_grid


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
    exempt = exempt_of(embeddings, images, bounds)
    used = np.array([face not in known.excluded for face in face_ids], bool)
    rows = np.flatnonzero(used)
    place = {face_ids[row]: at for at, row in enumerate(rows.tolist())}
    persons = np.array([known.person.get(face, -1) for face in place], np.int64)
    said = [(at, camp) for face, at in place.items() for camp in known.camps.get(face, ())]
    camps = scipy.sparse.csr_matrix((np.ones(len(said), np.int64), tuple(np.array(said, np.int64).reshape(-1, 2).T)),
                                    (len(place), 1 + max((camp for _, camp in said), default=0)))
    merged = [np.array([place[face] for face in faces if face in place], np.int64) for faces in known.merged]
    labels, similarity = np.full(len(face_ids), -1), np.zeros(len(face_ids), np.float32)
    labels[rows], similarity[rows] = cluster_faces(embeddings[rows], list(place), images[rows], bounds, exempt[rows], persons,
                                                   camps, merged)
    names = name_clusters(labels, face_ids, earlier, _given(labels[rows], list(place), known))
    return pa.table({"face_id": faces["face_id"].combine_chunks(), "identity": pa.array(names, pa.string()),
                     "centroid_similarity": pa.array(similarity, pa.float32())}, schema=IDENTITIES)


def exempt_of(embeddings: np.ndarray, images: np.ndarray, bounds: Bounds) -> np.ndarray:
    """bool [N]: `same_person_twice`, of vectors without a mean that all share: with it, the faces of any picture would be one
    person. On 20 thousand generated faces of 128 numbers, whose mean has a length of 0.92, that is so for 98 % of them.

    embeddings: float32 [N, D], unit rows; images: int [N], the same number for the faces of one image."""
    mates = exclusive_images(images, np.zeros(len(images), bool))
    faces = centred(on_grid(embeddings), mates, bounds.small_join)
    return same_person_twice(faces / np.float32(GRID), images, bounds.strict_same_person)


def _given(labels: np.ndarray, face_ids: list[str], known: Known) -> dict[int, str]:
    """Label -> the name that its person has beforehand. Raises Failure where people who are said to be two have one label."""
    person_of: dict[tuple[int, int], str] = {}
    given: dict[int, str] = {}
    for label, face in zip(labels.tolist(), face_ids, strict=True):
        for camp in known.camps.get(face, ()):
            if known.one[person_of.setdefault((label, camp), face)] != known.one[face]:
                raise Failure(f"{CORRECTIONS} merges the people of {face} and {person_of[label, camp]}, who are said to be "
                              "two: mend one of the two")
        if (name := known.names.get(known.person.get(face, -1))) is not None:
            given[label] = name
    return given


class ClusterFaces(beam.DoFn):
    """All faces of a work directory at once."""

    def __init__(self, options: ClusterOptions, state: str) -> None:
        self.options, self.state = options, state

    def process(self, workdir: str) -> Iterator[str]:
        faces = Parts(workdir, "faces").read_all(["face_id", "image_key", "embedding"])
        distinct = of_distinct(faces, distinct_images(workdir, ["image_key"])).sort_by("face_id")
        known = read_known(workdir, self.options.identities, Parts(workdir, "images").read_all(["uri", "image_key"]),
                           distinct["face_id"].to_pylist())
        for why, said in sorted(known.ignored.items()):
            progress.tell(f"{said[0]} and {len(said) - 1} others are not used: {why}" if len(said) > 1 else
                          f"{said[0]} is not used: {why}")
        earlier = earlier_names(workdir)
        identities = identify(distinct, self.options, embedder_of(workdir), earlier, known)
        for line in changes(identities, earlier):
            progress.tell(line)
        people = describe(vectors(distinct["embedding"]).astype(np.float32), identities["centroid_similarity"].to_numpy(),
                          identities["identity"].to_pylist(),
                          [earlier.get(face) for face in identities["face_id"].to_pylist()])
        progress.tell(summary(people))
        rows_of = by_part(identities.append_column("part", distinct["part"]))
        bounds = face_models.bounds(embedder_of(workdir))
        Parts(workdir, "people").write(people_part(self.state, self.options, bounds), people)
        for part in Parts(workdir, "faces").parts():
            name = identities_part(part, self.state, self.options, bounds)
            mine = rows_of[part].drop_columns(["part"]) if part in rows_of else identities.slice(0, 0)
            Parts(workdir, "identities").write(name, mine.combine_chunks())
            progress.advance("cluster")
            yield name


@dataclass
class ClusterIdentities(beam.PTransform):
    """Work directories become parts of identities."""

    options: ClusterOptions
    state: str
    """`state_of_faces`, which names what is made."""

    def expand(self, workdirs: beam.PCollection[str]) -> beam.PCollection[str]:
        return workdirs | "Cluster" >> beam.ParDo(ClusterFaces(self.options, self.state))
