"""How well `cluster` tells people apart, in what time and memory, on generated faces whose people are known.

    python -m benchmarks.identities [--sets 100000x512 100000x128] [--seeds 100 101 102] [--rivals infomap faiss edges]
                                    [--keep FOLDER]

A set is FACESxDIMENSIONS, made for each seed by `../shared/bench/make_embeddings.py`; the stage runs on it as a user runs it.
Seeds 0 to 9 are for tuning, bounds were chosen on them; all others are the acceptance. Scores are of all faces, one that
belongs to nobody being a cluster of its own; `look F` is BCubed among the faces of the look-alike group alone.

Rivals (`benchmarks.rivals`), none if left alone. infomap: Infomap's communities of the stage's own graph, no two faces of one
image together; `lead` is how far the stage's F is above theirs. faiss: `cost` is the time of the whole stage over that of
IndexIVFFlat's train, add and search, in the same run on the same cores. edges: of each face's ten strongest edges, the share
that the stage works with, and the share of faces with one at least. `growth`, where a set of a quarter of the faces was run
too, is the ratio of their times.

Goals are for the mean of the seeds, `lead`'s for each of them."""
from __future__ import annotations

import argparse
import contextlib
import operator
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import processes, rivals
from schemas.crop import crops_schema
from schemas.image import IMAGES, Image
from schemas.reject import REJECTS
from schemas.table import to_table
from transforms.cluster import embedder_of
from transforms.parts import LEDGER, PHOTOS, Parts
from transforms.scoring import bcubed, pairwise

MAKER = Path(__file__).parents[2] / "shared" / "bench" / "make_embeddings.py"
LOOK_ALIKE = 5
"""The last of the generator's six groups in both profiles: 18 % of the people, around the longest mean of their own."""
MADE = ("grid", "cells", "crowding", "edges", "clusters", "identities", "people")
"""Folders that the stage fills."""
GIB = 2**30


@dataclass(frozen=True)
class FaceSet:
    """How many faces, and how long their embeddings are."""

    faces: int
    dimensions: int

    @staticmethod
    def of(text: str) -> FaceSet:
        """From `FACESxDIMENSIONS`. Raises ValueError."""
        faces, dimensions = map(int, text.split("x"))
        return FaceSet(faces, dimensions)

    def __str__(self) -> str:
        return f"{self.faces}x{self.dimensions}"


Figures = dict[str, float]
"""A column's name -> what was measured."""
COLUMNS = {"F": ".4f", "P": ".4f", "R": ".4f", "pairs P": ".4f", "pairs R": ".4f", "look F": ".4f", "infomap F": ".4f",
           "lead": ".4f", "edges": ".3f", "one edge": ".3f", "seconds": ".0f", "processor s": ".0f", "GiB": ".2f",
           "faiss s": ".0f", "cost": ".2f", "growth": ".1f"}
SIGNS = {">": operator.gt, ">=": operator.ge, "<=": operator.le}
GOALS: dict[FaceSet, dict[str, tuple[str, float]]] = {
    FaceSet(100_000, 512): {"F": (">=", 0.990), "pairs P": (">=", 0.995)},
    FaceSet(100_000, 128): {"F": (">=", 0.955), "look F": (">=", 0.84)},
    FaceSet(1_000_000, 512): {"F": (">=", 0.975), "pairs P": (">=", 0.99), "edges": (">=", 0.90), "one edge": (">=", 0.98),
                              "cost": ("<=", 0.5), "GiB": ("<=", 5), "growth": ("<=", 5)},
    FaceSet(1_000_000, 128): {"F": (">=", 0.925), "cost": ("<=", 0.5), "GiB": ("<=", 2), "growth": ("<=", 5)},
}
"""Of the issue "Identities". Beside them any set of up to `LEAD_UP_TO` faces is to have a lead."""
LEAD_UP_TO = 100_000


def make(faces: FaceSet, seed: int, workdir: Path) -> None:
    """Faces, and as much of the other folders that `extract` fills as `cluster` reads, unless all that is there."""
    if (workdir / "images" / LEDGER).exists():
        return
    processes.python(str(MAKER), str(workdir), "--faces", str(faces.faces), "--dim", str(faces.dimensions),
                     "--seed", str(seed))
    parts = Parts(str(workdir), "faces").parts()
    empty = {"rejects": REJECTS, "crops": crops_schema(embedder_of(str(workdir)))}
    for part in parts:
        for folder, schema in empty.items():
            Parts(str(workdir), folder).write(part, to_table([], schema))
        keys = pc.unique(Parts(str(workdir), "faces").read(part, ["image_key"])["image_key"]).to_pylist()
        rows = [Image(key, key, "", None, None, None, "generated", 1, 1, 0, None, None) for key in keys]
        Parts(str(workdir), "images").write(part, to_table(rows, IMAGES))
    for folder in (*empty, "images"):
        Parts(str(workdir), folder).commit({PHOTOS: parts})


def scores(labels: np.ndarray, truth: pa.Table) -> Figures:
    """Figures of labels [N], for the rows of `truth`."""
    people = truth["identity"].to_pylist()
    alike = np.flatnonzero(truth["look"].to_numpy() == LOOK_ALIKE)
    by_face, by_pair = bcubed(labels, people), pairwise(labels, people)
    return {"F": by_face.f, "P": by_face.precision, "R": by_face.recall, "pairs P": by_pair.precision,
            "pairs R": by_pair.recall, "look F": bcubed(labels[alike], [people[row] for row in alike]).f}


def labels_of(workdir: str, face_ids: pa.ChunkedArray) -> np.ndarray:
    """What the stage says of the faces, int64 [N], -1 where that is nobody."""
    identities = Parts(workdir, "identities").read_all(["face_id", "identity"]).sort_by("face_id")
    if not identities["face_id"].equals(face_ids):
        raise ValueError(f"{workdir} has identities of {len(identities)} faces, or of others than the {len(face_ids)} made")
    names = identities["identity"].combine_chunks().dictionary_encode()
    return pc.fill_null(names.indices, -1).to_numpy().astype(np.int64)


def measure(workdir: str, against: Sequence[str]) -> Figures:
    """Run the stage from the start, score it, and run its rivals."""
    for folder in MADE:
        Parts(workdir, folder).discard()
    used = processes.python("-m", "pipeline", "cluster", "--workdir", workdir)
    truth = pq.read_table(Path(workdir, "truth.parquet")).sort_by("face_id")
    figures = {**scores(labels_of(workdir, truth["face_id"]), truth), "seconds": used.seconds,
               "processor s": used.processor_seconds, "GiB": max(used.peaks) / GIB}
    for rival in against:
        output = processes.python("-m", "benchmarks.rivals", rival, workdir).output
        if rival == "infomap":
            figures["infomap F"] = scores(np.load(Path(workdir, rivals.LABELS)), truth)["F"]
            figures["lead"] = figures["F"] - figures["infomap F"]
        elif rival == "faiss":
            figures["faiss s"] = float(output)
            figures["cost"] = figures["seconds"] / figures["faiss s"]
        else:
            figures["edges"], figures["one edge"] = map(float, output.split())
    return figures


def mean(runs: Sequence[Figures]) -> Figures:
    """Of all runs; of their leads the least."""
    return {name: float(min(run[name] for run in runs) if name == "lead" else np.mean([run[name] for run in runs]))
            for name in runs[0]}


def verdicts(faces: FaceSet, means: Figures) -> Iterator[str]:
    """A line for each goal of a set that was measured."""
    goals = GOALS.get(faces, {}) | ({"lead": (">", 0.0)} if faces.faces <= LEAD_UP_TO else {})
    for name, (sign, bound) in goals.items():
        if name in means:
            reached = "reached" if SIGNS[sign](means[name], bound) else "NOT REACHED"
            yield f"{faces}  {name} {means[name]:{COLUMNS[name]}} {sign} {bound:g}: {reached}"


def row(faces: object, seed: object, cells: Sequence[str]) -> str:
    return f"| {faces!s:<12} | {seed!s:<4} | " + " | ".join(f"{cell:>{max(6, len(name))}}"
                                                           for name, cell in zip(COLUMNS, cells, strict=True)) + " |"


def cells(figures: Figures) -> list[str]:
    return [f"{figures[name]:{form}}" if name in figures else "" for name, form in COLUMNS.items()]


@contextlib.contextmanager
def place(keep: Path | None, name: str) -> Iterator[Path]:
    """A work directory, which stays if it is below `keep`."""
    if keep:
        yield keep / name
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=FaceSet.of, nargs="+", default=[FaceSet(100_000, 512), FaceSet(100_000, 128)],
                        metavar="FACESxDIMENSIONS", help="default: 100000x512 100000x128")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102], help="default: 100 101 102")
    parser.add_argument("--rivals", nargs="+", choices=rivals.RIVALS, default=[], help="default: none")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of generated sets, to be used again; default: none")
    values = parser.parse_args()
    if not MAKER.exists():
        raise SystemExit(f"there is no {MAKER}, which makes the faces")
    if absent := rivals.missing(values.rivals):
        raise SystemExit(f"a rival is not installed: pip install {' '.join(absent)}")
    print(row("set", "seed", list(COLUMNS)), row("---", "---", ["---"] * len(COLUMNS)), sep="\n")
    means: dict[FaceSet, Figures] = {}
    for faces in sorted(values.sets, key=lambda one: one.faces):
        runs = []
        for seed in values.seeds:
            with place(values.keep, f"{faces}-{seed}") as folder:
                make(faces, seed, folder)
                runs.append(measure(str(folder), values.rivals))
            print(row(faces, seed, cells(runs[-1])), flush=True)
        means[faces] = mean(runs)
        quarter = FaceSet(faces.faces // 4, faces.dimensions)
        if quarter in means:
            means[faces]["growth"] = means[faces]["seconds"] / means[quarter]["seconds"]
        print(row(faces, "mean", cells(means[faces])), flush=True)
    print(*(line for faces, figures in means.items() for line in verdicts(faces, figures)), sep="\n")


if __name__ == "__main__":
    main()
