"""How far a stage is, as seen in this process, and what it has to say: for people, never for accounts.

What is counted and said in an element function reaches whoever started the job as Beam's metrics too, from workers anywhere."""
from __future__ import annotations

import sys
import threading
from collections import Counter

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricResults, MetricsFilter

NAMESPACE, LINES = "umo-dataset", "lines"
"""Of the metrics: a counter for each stage, and a set of what was said."""
_DONE: Counter[str] = Counter()
_SAID: set[str] = set()
_LOCK = threading.Lock()


def advance(stage: str, count: int = 1) -> None:
    """Say that `count` more things of the stage are done."""
    with _LOCK:
        _DONE[stage] += count
    Metrics.counter(NAMESPACE, stage).inc(count)


def done(stage: str) -> int:
    """Things of the stage done so far, as far as is known here."""
    with _LOCK:
        return _DONE[stage]


def taken() -> dict[str, int]:
    """What is done of each stage, counted from 0 again: for another process to add."""
    with _LOCK:
        counts = dict(_DONE)
        _DONE.clear()
        return counts


def reset(stage: str) -> None:
    """Start counting anew."""
    with _LOCK:
        _DONE[stage] = 0


def tell(text: str, end: str = "\n") -> None:
    """Write a line to standard error, in place of a live line that stands there on a terminal."""
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)


def tell_user(text: str) -> None:
    """From an element function: tell it here, and whoever started the job."""
    with _LOCK:
        _SAID.add(text)
    Metrics.string_set(NAMESPACE, LINES).add(text)
    tell(text)


def listen() -> None:
    """A job begins: what earlier ones said may be said again."""
    with _LOCK:
        _SAID.clear()


def hear(metrics: MetricResults) -> None:
    """A job is over: count and tell what workers of other processes did and said."""
    found = metrics.query(MetricsFilter().with_namespace(NAMESPACE))
    counts = Counter[str]()
    for counter in found[MetricResults.COUNTERS]:  # one for each step of the pipeline
        counts[counter.key.metric.name] += counter.result
    lines = set[str]().union(*(said.result for said in found[MetricResults.STRINGSETS]))
    with _LOCK:
        for stage, count in counts.items():
            _DONE[stage] = max(_DONE[stage], count)
        lines -= _SAID
    for line in sorted(lines):
        tell(line)
