"""Bar charts of the report: places in percent of the plotting area, so that text keeps its size at any width."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


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


def percent(part: float, whole: float) -> float:
    """Share in percent, to a hundredth; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of all, which may be none."""
    return np.concatenate(arrays) if arrays else np.zeros(0)
