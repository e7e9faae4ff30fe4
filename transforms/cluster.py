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

from schemas.embedder import Bounds, Embedder
from schemas.identity import IDENTITIES
from schemas.table import vectors
from transforms import digests, face_models, progress
from transforms.distinct import by_part, distinct_images, of_distinct
from transforms.linkage import cluster_faces
from transforms.mates import same_person_twice
from transforms.naming import name_clusters
from transforms.parts import NotReady, Parts


@dataclass(frozen=True)
class ClusterOptions:
    join: float | None = field(default=None, metadata={
        "least": -2, "most": 2,
        "help": "least mean similarity, scaled by how crowded a face's surroundings are, at which two groups of faces become "
                "one person; default: the face model's own"})


def embedder_of(workdir: str) -> Embedder:
    """The embedding model that made a work directory's faces. Raises NotReady."""
    faces = Parts(workdir, "faces")
    names = faces.parts()
    if not names:
        raise NotReady(f"{faces.url} holds no parts")
    schema = faces.schema(names[0])
    return Embedder.from_json(schema.metadata[b"embedding_model"], schema.field("embedding").type.list_size)


VERSION = 1
"""Raised when the same faces and options give other identities."""


def identities_part(faces_part: str, faces_digest: str, options: ClusterOptions, bounds: Bounds) -> str:
    """Clustering is of all faces at once, so that each part depends on all of them, and on the embedder's bounds."""
    return f"{digests.of(faces_part, faces_digest, options.join, dataclasses.astuple(bounds), VERSION)}.parquet"


def earlier_names(workdir: str) -> dict[str, str]:
    """face_id -> identity of the work directory's earlier identities."""
    try:
        table = Parts(workdir, "identities").read_all(["face_id", "identity"])
    except NotReady:
        return {}
    known = table.filter(pc.is_valid(table["identity"]))
    return dict(zip(known["face_id"].to_pylist(), known["identity"].to_pylist(), strict=True))


def identify(faces: pa.Table, options: ClusterOptions, embedder: Embedder, earlier: dict[str, str]) -> pa.Table:
    """`faces` (face_id, image_key, embedding), one row a face, to the table of `identities`, same order."""
    bounds = face_models.bounds(embedder)
    if options.join is not None:
        bounds = dataclasses.replace(bounds, join=options.join)
    embeddings = vectors(faces["embedding"]).astype(np.float32)
    images = np.unique(faces["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    face_ids = faces["face_id"].to_pylist()
    exempt = same_person_twice(embeddings, images, bounds.strict_same_person)
    labels, similarity = cluster_faces(embeddings, face_ids, images, bounds, exempt)
    names = name_clusters(labels, face_ids, earlier)
    return pa.table({"face_id": faces["face_id"].combine_chunks(), "identity": pa.array(names, pa.string()),
                     "centroid_similarity": pa.array(similarity, pa.float32())}, schema=IDENTITIES)


class ClusterFaces(beam.DoFn):
    """All faces of a work directory at once."""

    def __init__(self, options: ClusterOptions) -> None:
        self.options = options

    def process(self, workdir: str) -> Iterator[str]:
        faces = Parts(workdir, "faces").read_all(["face_id", "image_key", "embedding"])
        distinct = of_distinct(faces, distinct_images(workdir, ["image_key"])).sort_by("face_id")
        identities = identify(distinct, self.options, embedder_of(workdir), earlier_names(workdir))
        rows_of = by_part(identities.append_column("part", distinct["part"]))
        digest, bounds = Parts(workdir, "faces").digest(), face_models.bounds(embedder_of(workdir))
        for part in Parts(workdir, "faces").parts():
            name = identities_part(part, digest, self.options, bounds)
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
