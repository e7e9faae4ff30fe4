"""`OUT/report.html`: what a finished dataset holds, to look at. One file without scripts that needs no network.

Takes OUT alone: `dataset.json`, `funnel.json`, the shards. The same dataset gives the same bytes."""
from __future__ import annotations

import base64
import io
import json
import math
import tarfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import dataset
from pipeline.funnel import Step, bottleneck
from schemas.reject import REASONS
from transforms import pictures
from transforms.failure import Failure
from transforms.parts import filesystem, get, join, put

MAX_SAMPLES = 24
"""Samples with pictures in a report."""
TARGET_SIDE, REFERENCE_SIDE = 480, 176
"""Longest side of a thumbnail, pixels."""
QUALITY = 80
"""Of a thumbnail's JPEG: about 35 kB a target, so that a report stays below 6 MB with ten references a sample."""
TAG = 22
"""Side of a box's number tag, pixels of the thumbnail."""
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
    seen = survey(output, about["shards"])
    environment = jinja2.Environment(loader=jinja2.PackageLoader("pipeline", ""), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html.jinja").render(
        about=about, seen=seen, groups=read_groups(output, seen), funnel=[funnel_rows(step) for step in steps],
        limits=bottleneck(steps),
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

@dataclass(frozen=True, order=True)
class Candidate:
    """A sample that may be shown; the least sure one sorts first."""

    margin: float
    """The least of its references'."""
    key: str
    shard: str
    """Path of the shard, relative to the dataset, without extension."""

    @property
    def config(self) -> str:
        return self.shard.partition("/")[0]


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
        _count(self.people, pc.struct_field(references, "identity"))
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


def survey(output: str, shards: Iterable[Mapping[str, Any]]) -> Survey:
    """The numbers of all samples. `shards`: rows of `dataset.json`. Raises Failure."""
    seen = Survey()
    for shard in shards:
        name = f"{shard['path']}.parquet"
        try:
            table = pq.read_table(io.BytesIO(get(join(output, name))))
            if len(table):
                seen.add(shard["path"], table)
        except FileNotFoundError:
            raise Failure(f"{output} lacks {name}: `verify` tells what else is missing") from None
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise Failure(f"{name} of {output} cannot be read ({_line(error)}): `verify` tells what is wrong") from None
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


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of all, which may be none."""
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _count(counter: Counter[Any], values: pa.ChunkedArray) -> None:
    counter.update({row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()})


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _split_order(split: str) -> tuple[bool, str]:
    return split != "train", split


def pick(candidates: Iterable[Candidate], limit: int) -> dict[str, list[Candidate]]:
    """Config -> the samples to show: configs take turns until `limit`, each with its least sure sample first."""
    waiting: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates):
        waiting.setdefault(candidate.config, []).append(candidate)
    turns = sorted((turn, _config_order(config), candidate) for config, queue in waiting.items()
                   for turn, candidate in enumerate(queue))
    picked: dict[str, list[Candidate]] = {config: [] for config in sorted(waiting, key=_config_order)}
    for _, _, candidate in turns[:limit]:
        picked[candidate.config].append(candidate)
    return {config: queue for config, queue in picked.items() if queue}


def _config_order(config: str) -> int:
    """refs-10 comes after refs-2."""
    return int(config.removeprefix("refs-"))


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


def percent(part: float, whole: float) -> float:
    """Share in percent, to a hundredth; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


# Plots: places in percent of the plotting area, so that text keeps its size at any width.

@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    height: float
    series: int
    tip: str


@dataclass(frozen=True)
class Mark:
    """A tick or a bound."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A bar chart."""

    title: str
    says: str
    axis: str
    bars: list[Bar]
    x_ticks: list[Mark]
    y_ticks: list[Mark]
    bounds: list[Mark]
    legend: list[str]
    """Names of the series, where there are several."""


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
                               for config in sorted(seen.by_config, key=_config_order)}),
        categories("References of a person", "How evenly people are used: few on the right is good.",
                   "references of one person", "people", doubling(seen.people.values())),
        pixel_histogram("Face in the target", "Shorter side of its box. Small faces teach little.", "faces",
                        seen.target_sides),
        pixel_histogram("Face in the reference", "Shorter side of its box.", "faces", seen.reference_sides),
        pixel_histogram("Target", "Shorter side of the picture as it is written.", "targets", seen.picture_sides),
    ]


def histogram(title: str, says: str, axis: str, series: Mapping[str, np.ndarray], low: float, high: float, step: float,
              bounds: Mapping[str, float | None], decimals: int = 2) -> Plot:
    """Values in bins of `step` from `low` to `high`; with several series each one is shown in percent of itself."""
    edges = low + step * np.arange(max(1, math.ceil(round((high - low) / step, 6))) + 1)
    span = edges[-1] - edges[0]
    counts = {name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] for name, values in series.items()}
    several = len(series) > 1
    heights = {name: [percent(one, found.sum()) if several else float(one) for one in found.tolist()]
               for name, found in counts.items()}
    top = nice_top(max(max(found) for found in heights.values()))
    bars = [Bar(percent(edges[at] - low, span), percent(step, span), percent(height, top), place,
                f"{name}: {counts[name][at]:,} from {edges[at]:.{decimals}f} to {edges[at + 1]:.{decimals}f}"
                + (f" ({height:.1f} %)" if several else ""))
            for place, (name, found) in enumerate(heights.items()) for at, height in enumerate(found) if height]
    every = next(every for every in (1, 2, 4, 5, 10, 20) if (len(edges) - 1) / every <= 7)
    aligned = round(low / step)  # ticks on whole multiples, wherever the axis begins
    ticks = [Mark(percent(edge - low, span), f"{edge:.{max(0, decimals - 1)}f}".replace("-", "−"))
             for at, edge in enumerate(edges.tolist()) if (aligned + at) % every == 0]
    return Plot(title, says, axis, bars, ticks, y_ticks(top, " %" if several else ""),
                [Mark(percent(value - low, span), f"{text} {value:g}") for text, value in bounds.items()
                 if value is not None and low <= value <= high], list(series) if several else [])


def pixel_histogram(title: str, says: str, unit: str, arrays: Sequence[np.ndarray]) -> Plot:
    """Lengths in pixels from 0, in at most 24 bins."""
    values = joined(arrays)
    longest = max(1.0, float(values.max(initial=0)))
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000) if longest / step <= 24)
    return histogram(title, says, "pixels", {unit: values}, 0.0, math.ceil(longest / step) * step, step, {}, 0)


def categories(title: str, says: str, axis: str, unit: str, counts: Mapping[str, int]) -> Plot:
    """One bar a name, in the order given."""
    width = percent(1, max(len(counts), 4))  # few bars are not stretched over the whole width
    top = nice_top(max(counts.values(), default=0))
    bars = [Bar(round((place + 0.15) * width, 2), round(0.7 * width, 2), percent(count, top), 0,
                f"{name}: {count:,} {unit}")
            for place, (name, count) in enumerate(counts.items())]
    ticks = [Mark(round((place + 0.5) * width, 2), name) for place, name in enumerate(counts)]
    return Plot(title, says, axis, bars, ticks, y_ticks(top, ""), [], [])


def doubling(values: Iterable[int]) -> dict[str, int]:
    """How many values are 1, 2, 3–4, 5–8, 9–16, …, up to the largest."""
    buckets = Counter((value - 1).bit_length() for value in values)
    names = ["1", "2", *(f"{2 ** (bits - 1) + 1}–{2 ** bits}" for bits in range(2, max(buckets, default=0) + 1))]
    return {names[bits]: buckets[bits] for bits in range(max(buckets, default=-1) + 1)}


def nice_top(value: float) -> float:
    """The least of 1, 2, 4, 6, 8, 10, 20, … that is not below `value`, and at least 2: halves are whole."""
    scale = 10.0 ** math.floor(math.log10(max(value, 1)))
    return max(2.0, next(scale * step for step in (1, 2, 4, 6, 8, 10) if scale * step >= value))


def y_ticks(top: float, unit: str) -> list[Mark]:
    return [Mark(percent(value, top), f"{value:,.0f}{unit}") for value in (0, top / 2, top)]


# Samples with their pictures, from the shards' tars.

@dataclass(frozen=True)
class Box:
    """A face in a thumbnail, pixels of the thumbnail."""

    number: int
    """Of the reference, from 1."""
    x: float
    y: float
    width: float
    height: float
    tag_x: float
    tag_y: float
    """Upper left corner of the number's tag."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail with the faces that references stand for."""

    data_uri: str
    width: int
    height: int
    boxes: list[Box]


@dataclass(frozen=True)
class ReferenceShown:
    number: int
    picture: Picture
    identity: str
    uri: str
    similarity: float
    margin: float
    least: bool
    """Its margin is the sample's smallest."""


@dataclass(frozen=True)
class Cell:
    """An entry of the similarity matrix."""

    value: float
    assigned: bool


@dataclass(frozen=True)
class SampleShown:
    """A sample as the report shows it."""

    about: Mapping[str, Any]
    """`KEY.json` (contract, section 4)."""
    target: Picture
    references: list[ReferenceShown]
    rows: list[list[Cell]]
    owners: list[int]
    """Number of the reference of each face of the target by ascending x0, 0 for none."""


@dataclass(frozen=True)
class Group:
    """The samples shown of one config."""

    config: str
    samples: int
    shown: list[SampleShown]


def read_groups(output: str, seen: Survey) -> list[Group]:
    """The samples to show, by config, least sure first. Raises Failure."""
    picked = pick(seen.candidates, MAX_SAMPLES)
    keys: dict[str, set[str]] = {}
    for chosen in (chosen for queue in picked.values() for chosen in queue):
        keys.setdefault(chosen.shard, set()).add(chosen.key)
    shown = {}
    for shard, wanted in keys.items():
        for key, members in read_members(output, shard, wanted).items():
            try:
                shown[shard, key] = show(members)
            except (KeyError, ValueError, pictures.BadPicture) as error:
                raise Failure(f"sample {key} in {shard}.tar of {output} is damaged ({_line(error)}): `verify` tells "
                              "what else is") from None
    return [Group(config, seen.by_config[config], [shown[chosen.shard, chosen.key] for chosen in queue])
            for config, queue in picked.items()]


def show(members: Mapping[str, bytes]) -> SampleShown:
    """One sample with thumbnails. Raises KeyError, ValueError or BadPicture for a damaged one."""
    about = json.loads(members["json"])
    whole = {name: pictures.decode(members[name], pictures.UNLIMITED)
             for name in ("target.jpg", *(one["member"] for one in about["references"]))}
    references = about["references"]
    least = min(one["margin"] for one in references)
    shown = [ReferenceShown(number, thumbnail(whole[one["member"]], REFERENCE_SIDE, {number: one["face_box"]}),
                            one["identity"], one["uri"], one["similarity"], one["margin"], one["margin"] == least)
             for number, one in enumerate(references, 1)]
    target = thumbnail(whole["target.jpg"], TARGET_SIDE,
                       {number: one["target_face_box"] for number, one in enumerate(references, 1)})
    matrix, assignment = about["similarity_matrix"], about["assignment"]
    rows = [[Cell(value, face == own) for face, value in enumerate(row)]
            for row, own in zip(matrix, assignment, strict=True)]
    number_of = {face: number for number, face in enumerate(assignment, 1)}
    return SampleShown(about, target, shown, rows, [number_of.get(face, 0) for face in range(len(matrix[0]))])


def read_members(output: str, shard: str, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
    """Key -> extension -> bytes of the named samples' members, in one pass that ends behind the last.

    Raises Failure."""
    fs, path = filesystem(join(output, f"{shard}.tar"))
    found: dict[str, dict[str, bytes]] = {}
    try:
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if key in keys and (data := tar.extractfile(member)):
                    found.setdefault(key, {})[extension] = data.read()
                elif len(found) == len(keys):
                    break
    except FileNotFoundError:
        raise Failure(f"{output} lacks {shard}.tar: `verify` tells what else is missing") from None
    except tarfile.TarError as error:
        raise Failure(f"{shard}.tar of {output} cannot be read ({_line(error)}): copy it again") from None
    missing = sorted(set(keys) - found.keys())
    if missing:
        raise Failure(f"{shard}.tar of {output} lacks the sample {missing[0]} of its Parquet file: write it again")
    return found


def thumbnail(picture: PIL.Image.Image, longest: int, boxes: Mapping[int, Sequence[float]]) -> Picture:
    """A small copy, and what of the boxes (number -> x0 y0 x1 y1, the picture's pixels) lies inside it."""
    small = pictures.resize(picture, longest)
    width, height = small.size
    across, down = width / picture.width, height / picture.height
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    placed = []
    for number, (x0, y0, x1, y1) in boxes.items():
        left, right = (round(min(max(value * across, 1.5), width - 1.5), 1) for value in (x0, x1))
        upper, lower = (round(min(max(value * down, 1.5), height - 1.5), 1) for value in (y0, y1))
        placed.append(Box(number, left, upper, round(right - left, 1), round(lower - upper, 1),
                          round(max(0, min(left - 1.5, width - TAG)), 1),
                          round(upper - TAG if upper >= TAG else max(0, min(upper - 1.5, height - TAG)), 1)))
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height, placed)
