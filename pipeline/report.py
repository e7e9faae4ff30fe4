"""`OUT/report.html`: what a finished dataset holds, to look at. One file without scripts that needs no network.

Takes OUT alone: `dataset.json`, `funnel.json`, the shards. The same dataset gives the same bytes."""
from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import dataset
from pipeline.charts import Plot, categories, doubling, histogram, joined, percent, pixel_histogram
from pipeline.contact_sheet import MAX_SAMPLES, TAG, Candidate, Place, config_order, read_groups, read_people
from pipeline.funnel import Step, bottleneck
from schemas.reject import REASONS
from transforms.failure import Failure, in_a_line
from transforms.parts import get, join, put

MAX_ROWS = 40
"""Of a table of unlimited length (licences, shards); the rest is in `dataset.json`."""
KEPT_ARE = {
    "images": "pictures that can be read",
    "crops": "faces good enough to be cut out as a reference; the others still count in a target",
    "identities": "faces that belong to somebody",
    "samples": "pictures that became a target",
    "shards": "samples that were written",
}
"""What a step's kept things are."""


def report(output: str) -> str:
    """Write `report.html` beside the shards of a finished dataset; its URL. Raises Failure."""
    url = join(output, "report.html")
    put(url, render(output).encode("utf-8", "replace"))  # a lone surrogate, possible in JSON, is not worth a failure
    return url


def render(output: str) -> str:
    """The report of a finished dataset as HTML. Raises Failure."""
    about, steps = dataset.read(output), read_steps(output)
    least_sure = about.get("least_sure", [])  # an earlier version's dataset has none
    seen = survey(output, about["shards"], {row[name] for row in least_sure for name in ("identity", "nearest")})
    environment = jinja2.Environment(loader=jinja2.PackageLoader("pipeline", ""), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html.jinja").render(
        about=about, seen=seen, people=read_people(output, least_sure, seen.places),
        groups=read_groups(output, seen.candidates, seen.by_config),
        funnel=[funnel_rows(step) for step in steps], limits=bottleneck(steps),
        plots=plots(seen, about), splits=sorted({shard["split"] for shard in about["shards"]}, key=_split_order),
        licenses=seen.licenses.most_common(MAX_ROWS), max_rows=MAX_ROWS, tag=TAG)


def read_steps(output: str) -> list[Step]:
    """The account of `funnel.json`. Raises Failure."""
    try:
        rows = json.loads(get(join(output, "funnel.json")))
        steps = [Step(row["step"], row["stage"], row["unit"], row["in"], row["kept"], row["dropped"]) for row in rows]
    except FileNotFoundError:
        raise Failure(f"{output} holds no funnel.json: run write again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"funnel.json of {output} is not an account ({error}): run write again") from None
    unknown = sorted({reason for step in steps for reason in step.dropped} - REASONS.keys())
    if unknown:
        raise Failure(f"funnel.json of {output} names the reason {unknown[0]}, which this version does not know: "
                      "use the version that wrote it")
    return steps


# Numbers of all samples, from the shards' Parquet files.

@dataclass
class Survey:
    """What the samples of a dataset are like, one shard after another."""

    similarities: list[np.ndarray] = field(default_factory=list)
    """float64, of each reference with its own face."""
    other_similarities: list[np.ndarray] = field(default_factory=list)
    """float64, of each reference with every other face of its target."""
    margins: list[np.ndarray] = field(default_factory=list)
    target_sides: list[np.ndarray] = field(default_factory=list)
    """float64, shorter side of each reference's face in the target as it is written, pixels."""
    reference_sides: list[np.ndarray] = field(default_factory=list)
    """float64, the same in the reference."""
    picture_sides: list[np.ndarray] = field(default_factory=list)
    """int64, shorter side of each target as it is written, pixels."""
    measures: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"id_sim": [], "id_conf": [], "mimr": []})
    """One value a sample."""
    people: Counter[str] = field(default_factory=Counter)
    """Identity -> its references."""
    wanted: set[str] = field(default_factory=set)
    """Identities of whom a reference is looked for."""
    places: dict[str, Place] = field(default_factory=dict)
    """One that was found -> its first reference."""
    by_config: Counter[str] = field(default_factory=Counter)
    bystanders: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    """Of targets and references, each use counted; '' where unknown."""
    candidates: list[Candidate] = field(default_factory=list)
    """The `MAX_SAMPLES` least sure ones of each shard."""

    def add(self, shard: str, table: pa.Table) -> None:
        """Take in the Parquet of one shard, whose samples have the same number of references."""
        references = pc.list_flatten(table["references"])

        def of_references(name: str) -> np.ndarray:
            return np.asarray(pc.struct_field(references, name).to_numpy())

        margins = of_references("margin")
        self.margins.append(margins)
        self.similarities.append(of_references("similarity"))
        self.other_similarities.append(others(table["similarity_matrix"].to_pylist(), table["assignment"].to_pylist()))
        self.target_sides.append(sides(pc.struct_field(references, "target_face_box")))
        self.reference_sides.append(sides(pc.struct_field(references, "face_box")))
        self.picture_sides.append(np.minimum(*(pc.struct_field(table["target"], name).to_numpy()
                                               for name in ("width", "height"))))
        for name, values in self.measures.items():
            values.append(table[name].to_numpy())
        identities = pc.struct_field(references, "identity")
        _count(self.people, identities)
        for name in self.wanted - self.places.keys():
            if (at := pc.index(identities, name).as_py()) >= 0:
                sample, number = divmod(at, len(references) // len(table))
                self.places[name] = Place(shard, table["key"][sample].as_py(), number)
        _count(self.bystanders, table["bystanders"])
        _count(self.sources, table["source"])
        _count(self.licenses, pc.struct_field(references, "license"))
        _count(self.licenses, pc.struct_field(table["target"], "license"))
        least = margins.reshape(len(table), -1).min(axis=1).tolist()
        found = sorted(Candidate(margin, key, shard)
                       for margin, key in zip(least, table["key"].to_pylist(), strict=True))
        self.by_config[found[0].config] += len(found)
        self.candidates += found[:MAX_SAMPLES]

    def mean(self, name: str) -> float | None:
        """Of one of `measures` over all samples; None without samples."""
        values = joined(self.measures[name])
        return float(values.mean()) if len(values) else None


def survey(output: str, shards: Iterable[Mapping[str, Any]], wanted: set[str]) -> Survey:
    """The numbers of all samples. `shards`: rows of `dataset.json`. Raises Failure."""
    seen = Survey(wanted=wanted)
    for shard in shards:
        name = f"{shard['path']}.parquet"
        try:
            table = pq.read_table(io.BytesIO(get(join(output, name))))
            if len(table):
                seen.add(shard["path"], table)
        except FileNotFoundError:
            raise Failure(f"{output} lacks {name}: `verify` tells what else is missing") from None
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise Failure(f"{name} of {output} cannot be read ({in_a_line(error)}): `verify` tells what is wrong") from None
    return seen


def others(matrices: Iterable[Sequence[Sequence[float]]], assignments: Iterable[Sequence[int]]) -> np.ndarray:
    """float64: every entry of the samples' similarity matrices but each reference's own face."""
    return np.array([value for matrix, assignment in zip(matrices, assignments, strict=True)
                     for row, own in zip(matrix, assignment, strict=True)
                     for face, value in enumerate(row) if face != own], np.float64)


def sides(boxes: pa.ChunkedArray) -> np.ndarray:
    """float64: the shorter side of each known box x0 y0 x1 y1."""
    flat = np.asarray(pc.list_flatten(boxes).to_numpy(), np.float64).reshape(-1, 4)
    return np.minimum(flat[:, 2] - flat[:, 0], flat[:, 3] - flat[:, 1])


def _count(counter: Counter[Any], values: pa.ChunkedArray) -> None:
    counter.update({row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()})


def _split_order(split: str) -> tuple[bool, str]:
    return split != "train", split


# The funnel.

@dataclass(frozen=True)
class FunnelRow:
    """What became of some of the things that came into a step."""

    count: int
    means: str
    reason: str
    """'' for what was kept."""
    cure: str
    start: float
    """Where its bar begins, percent of what came in: the bars of a step stand end to end."""
    share: float
    """Percent of what came in."""


@dataclass(frozen=True)
class FunnelStep:
    """A step with its rows: what was kept, then the largest reasons."""

    step: Step
    rows: list[FunnelRow]


def funnel_rows(step: Step) -> FunnelStep:
    """A step as it is shown."""
    fates = [("", step.kept), *sorted(step.dropped.items(), key=lambda item: (-item[1], item[0]))]
    rows, start = [], 0
    for reason, count in fates:
        means, cure = (REASONS[reason].means, REASONS[reason].cure) if reason else (KEPT_ARE.get(step.step, "kept"), "")
        rows.append(FunnelRow(count, means, reason, cure, percent(start, step.came_in), percent(count, step.came_in)))
        start += count
    return FunnelStep(step, rows)


def plots(seen: Survey, about: Mapping[str, Any]) -> list[Plot]:
    """All plots, the most telling one first. `about`: `dataset.json`."""
    bounds = about["models"]["faces"].get("bounds", {})
    own, other, margins = (joined(one) for one in (seen.similarities, seen.other_similarities, seen.margins))
    low = math.floor(min([0.0, *own.tolist(), *other.tolist()]) * 10) / 10
    margin = about["options"].get("pair", {}).get("min_margin")
    return [
        histogram("Similarity of a reference to the faces of its target",
                  "Its own face should lie between the bounds, all others far to the left. Each colour sums to 100 %.",
                  "cosine similarity", {"its own face": own, "the others’ faces": other}, low, 1.0, 0.05,
                  {"same person from": bounds.get("same_person"), "near copy above": bounds.get("near_copy")}),
        histogram("Margin of a reference",
                  "How clearly its own face beats the second best: 1 is beyond doubt, 0 a tie.",
                  "margin (ID-Conf of one reference)", {"references": margins}, 0.0, 1.0, 0.05,
                  {"kept from": bounds.get("margin") if margin is None else margin}),
        categories("People with a reference", "Samples by number of references: the configs.", "references of a sample",
                   "samples", {config.removeprefix("refs-"): seen.by_config[config]
                               for config in sorted(seen.by_config, key=config_order)}),
        categories("References of a person", "How evenly people are used: few on the right is good.",
                   "references of one person", "people", doubling(seen.people.values())),
        pixel_histogram("Face in the target", "Shorter side of its box. Small faces teach little.", "faces",
                        seen.target_sides),
        pixel_histogram("Face in the reference", "Shorter side of its box.", "faces", seen.reference_sides),
        pixel_histogram("Target", "Shorter side of the picture as it is written.", "targets", seen.picture_sides),
    ]
