"""What `cluster` is held against by `benchmarks.identities`, each in a process of its own.

    python -m benchmarks.rivals infomap|faiss|edges W

infomap: labels of the faces in the order of their ids, into W/infomap.npy. faiss: prints seconds. edges: prints two shares."""
from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schemas.embedder import Bounds
from schemas.table import vectors
from transforms.blocks import few
from transforms.cluster import ClusterOptions, bounds_of, embedder_of, whole_graph
from transforms.compare import Compared
from transforms.graph import Graph
from transforms.parts import Parts
from transforms.similarity import UNIT, products

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


def graph_of(workdir: str, bounds: Bounds) -> tuple[list[str], Graph]:
    """face_ids, and what the stage links: rows in the same order."""
    compared = None if few(workdir, embedder_of(workdir)) else Compared.of(workdir, bounds)
    faces, graph = compared.graph(workdir) if compared else whole_graph(workdir, bounds)
    return faces["face_id"].to_pylist(), graph


def communities(graph: Graph) -> np.ndarray:
    """Labels int64 [N] of Infomap's two-level communities of the graph, weighted by scaled similarity."""
    from infomap import Infomap

    search = Infomap(two_level=True, seed=1)
    search.add_nodes(range(len(graph.faces)))
    search.add_links(np.column_stack([graph.edges.first, graph.edges.second, graph.edges.similarity / UNIT]))
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
    direction = (faces[other] - faces[one]).astype(np.float32)
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


def edges_found(graph: Graph, bounds: Bounds) -> tuple[float, float]:
    """Of a sample of faces: the share of their strongest edges, up to ten each, that the graph has; and the share of faces
    with such edges of which it has one at least."""
    count, least = len(graph.faces), np.float32(np.ceil(graph.space.edge(bounds) * UNIT))
    have = graph.edges.first * count + graph.edges.second
    strong, found = [], []
    sample = np.argsort(graph.ids)[-SAMPLE:]  # the first are centres of cells, and find more
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
    bounds = bounds_of(values.workdir, ClusterOptions())
    face_ids, graph = graph_of(values.workdir, bounds)
    if values.rival == "edges":
        print(*edges_found(graph, bounds))
    else:
        np.save(Path(values.workdir, LABELS), split(graph, communities(graph))[np.argsort(face_ids)])


if __name__ == "__main__":
    main()
