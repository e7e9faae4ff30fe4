"""What `cluster` is held against by `benchmarks.identities`, each in a process of its own.

    python -m benchmarks.rivals infomap|faiss|edges W

infomap: labels of the faces in the order of their ids, into W/infomap.npy. faiss: prints seconds. edges: prints two shares."""
from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse

from schemas.embedder import Bounds
from schemas.table import vectors
from transforms import face_models
from transforms.cluster import embedder_of, exempt_of
from transforms.linkage import MOST, exclusive_images
from transforms.parts import Parts
from transforms.similarity import UNIT, Cohort, Edges, centred, hash_order, on_grid, products, strong_edges

RIVALS = {"infomap": "infomap", "faiss": "faiss-cpu", "edges": None}
"""Name -> the distribution that brings the module of that name, if it takes one."""
LABELS = "infomap.npy"
ROUNDS = 20
"""Of two means, at most."""
LISTS, PROBES, NEIGHBOURS = 4096, 32, 80
"""Of faiss (issue "Identities")."""
SAMPLE, STRONGEST, ROWS = 2048, 10, 64
"""Faces whose strongest edges are looked for everywhere; how many of them; rows of a block, 256 MiB at a million faces."""


def missing(rivals: Sequence[str]) -> list[str]:
    """Distributions that the rivals need and that are not installed."""
    return [package for rival in rivals if (package := RIVALS[rival]) and not importlib.util.find_spec(rival)]


@dataclass(frozen=True)
class Graph:
    """What `transforms.linkage.cluster_faces` stands on before it links; rows by face_id."""

    face_ids: list[str]
    faces: np.ndarray
    """float32 [N, D], on the grid"""
    half: np.ndarray
    """int64 [N], `Cohort.crowding`"""
    images: np.ndarray
    """int64 [N], `exclusive_images`"""
    edges: Edges
    bounds: Bounds

    @staticmethod
    def of(workdir: str) -> Graph:
        table = Parts(workdir, "faces").read_all(["face_id", "image_key", "embedding"]).sort_by("face_id")
        bounds, face_ids = face_models.bounds(embedder_of(workdir)), table["face_id"].to_pylist()
        images = np.unique(table["image_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
        embeddings = vectors(table["embedding"])
        images = exclusive_images(images, exempt_of(embeddings, images, bounds))
        faces = centred(on_grid(embeddings), images, bounds.small_join)
        persons, camps = np.full(len(faces), -1), scipy.sparse.csr_matrix((len(faces), 0), dtype=np.int64)  # nothing is known
        half = Cohort.of(faces, face_ids, images, persons, camps, bounds.small_join).crowding(faces)
        return Graph(face_ids, faces, half, images, strong_edges(faces, half, bounds.edge, MOST), bounds)

    def similarities(self) -> np.ndarray:
        """Scaled similarity of each edge, float64 [E], a cosine."""
        first, second = self.edges.first, self.edges.second
        cosine = np.empty(len(first))
        for some in np.array_split(np.arange(len(first)), len(first) // ROWS**2 + 1):
            cosine[some] = np.einsum("ed,ed->e", self.faces[first[some]], self.faces[second[some]])
        return (cosine - self.half[first] - self.half[second]) / UNIT


def communities(graph: Graph) -> np.ndarray:
    """Labels int64 [N] of Infomap's two-level communities of the graph, weighted by scaled similarity."""
    from infomap import Infomap

    search = Infomap(two_level=True, seed=1)
    search.add_nodes(range(len(graph.faces)))
    search.add_links(np.column_stack([graph.edges.first, graph.edges.second, graph.similarities()]))
    module_of = search.run().modules()
    return np.array([module_of[row] for row in range(len(graph.faces))], np.int64)


def split(graph: Graph, label: np.ndarray) -> np.ndarray:
    """Labels int64 [N] in which no two faces of one image are together: a community that has such is halved, again and
    again. Kinder than to let the less similar of them stand alone: F 0.975 for 0.973, and 0.974 before any split, on
    20000x512, seed 3."""
    order = np.argsort(label, kind="stable")
    waiting = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    result, done = np.empty(len(label), np.int64), 0
    while waiting:
        rows = waiting.pop()
        mated = graph.images[rows] >= 0
        images, count = np.unique(graph.images[rows][mated], return_counts=True)
        if count.max(initial=1) > 1:
            one, other = np.flatnonzero(graph.images[rows] == images[count.argmax()])[:2]
            side = halved(graph.faces[rows], one, other)
            waiting += [rows[side], rows[~side]]
        else:
            result[rows] = done
            done += 1
    return result


def halved(faces: np.ndarray, one: int, other: int) -> np.ndarray:
    """bool [n]: the faces on the side of `other`, by two means that start from two faces."""
    side = np.arange(len(faces)) == other
    direction = faces[other] - faces[one]
    for _ in range(ROUNDS):
        nearer = faces @ direction > 0
        if nearer.all() or not nearer.any():
            break
        side = nearer
        means = [faces[half].mean(axis=0) for half in (side, ~side)]
        direction = means[0] / np.linalg.norm(means[0]) - means[1] / np.linalg.norm(means[1])
    return side


def search_seconds(workdir: str) -> float:
    """Seconds that faiss takes to train, fill and ask an inverted file of all faces, on all cores."""
    import faiss

    embeddings = vectors(Parts(workdir, "faces").read_all(["embedding"])["embedding"])
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    start = time.monotonic()
    dimensions = embeddings.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, LISTS, faiss.METRIC_INNER_PRODUCT)
    index.train(embeddings)
    index.add(embeddings)
    index.nprobe = PROBES
    index.search(embeddings, NEIGHBOURS)
    return time.monotonic() - start


def edges_found(graph: Graph) -> tuple[float, float]:
    """Of a sample of faces: the share of their strongest edges, up to ten each, that the graph has; and the share of faces
    with such edges of which it has one at least."""
    count, least = len(graph.faces), np.float32(np.ceil(graph.bounds.edge * UNIT))
    have = graph.edges.first * count + graph.edges.second
    strong, found = [], []
    sample = hash_order(graph.face_ids)[:SAMPLE]
    for rows in np.split(sample, range(ROWS, len(sample), ROWS)):
        similarity = products(graph.faces[rows], graph.faces) - graph.half[rows, None].astype(np.float32)
        similarity -= graph.half[None, :].astype(np.float32)
        similarity[np.arange(len(rows)), rows] = -np.inf
        others = np.argpartition(similarity, count - STRONGEST, axis=1)[:, count - STRONGEST:]
        strong.append(np.take_along_axis(similarity, others, axis=1) >= least)
        found.append(np.isin(np.minimum(rows[:, None], others) * count + np.maximum(rows[:, None], others), have))
    wanted, held = np.concatenate(strong), np.concatenate(strong) & np.concatenate(found)
    return float(held.sum() / wanted.sum()), float(held.any(axis=1).sum() / wanted.any(axis=1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("workdir")
    values = parser.parse_args()
    if absent := missing([values.rival]):
        raise SystemExit(f"{values.rival} is not installed: pip install {' '.join(absent)}")
    if values.rival == "faiss":
        print(search_seconds(values.workdir))
        return
    graph = Graph.of(values.workdir)
    if values.rival == "edges":
        print(*edges_found(graph))
    else:
        np.save(Path(values.workdir, LABELS), split(graph, communities(graph)))


if __name__ == "__main__":
    main()
