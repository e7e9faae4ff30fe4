"""Steps over rows of which no worker holds all: homes keep them, and send each other letters.

    step: what a home keeps, letters that came in -> what it keeps, letters that go out -> … (Malewicz et al., "Pregel: a system
    for large-scale graph processing", SIGMOD 2010, section 2)

A row's home follows from its id. Steps run in this process, where one home keeps everything, or on Beam, where each home is a
key and names of parts travel. A step that does not depend on the order of rows gives the same for any number of homes."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import apache_beam as beam
import numpy as np

from transforms import digests, progress
from transforms.in_child import InChild
from transforms.parts import Parts, remove
from transforms.rows import Kind, Rows, empty, from_table, take, to_table, together
from transforms.sorting import order_by


@dataclass
class Home:
    """What a step sees of the world."""

    homes: int
    """How many there are."""
    kinds: Mapping[str, Kind]
    """Of all tables, by name."""
    kept: MutableMapping[str, Rows] = field(default_factory=dict)
    letters: Mapping[str, Rows] = field(default_factory=dict)
    """What came in."""
    sent: dict[str, list[tuple[np.ndarray, Rows]]] = field(default_factory=dict)
    """What goes out: name -> the home of each row, and rows."""

    def came(self, name: str) -> Rows:
        """The letters of a name, none where none came."""
        return self.letters[name] if name in self.letters else empty(self.kinds[name])

    def keeps(self, name: str) -> Rows:
        return self.kept[name] if name in self.kept else empty(self.kinds[name])

    def home_of(self, ids: np.ndarray) -> np.ndarray:
        """The homes int64 [n] of ids int64 [n]: digests, so that no home keeps many more rows than others, or numbers from 0 of
        regions and persons, which are dealt out in turn."""
        return ids % self.homes

    def send(self, name: str, near: np.ndarray, rows: Rows) -> None:
        """Send rows to the homes of some ids int64 [n], one a row."""
        if len(near):
            self.sent.setdefault(name, []).append((self.home_of(near), rows))


Step = Callable[[Home], None]


def run_here(steps: Iterable[Step], kinds: Mapping[str, Kind], letters: Mapping[str, Rows],
             kept: Mapping[str, Rows] | None = None) -> Mapping[str, Rows]:
    """Take steps in this process, from the first letters and what is kept on; gives what is kept in the end."""
    home = Home(1, kinds, dict(kept or {}), letters)
    for step in steps:
        step(home)
        home = Home(1, kinds, home.kept, {name: together([rows for _, rows in sent]) for name, sent in home.sent.items()})
    return home.kept


# --- on Beam ---


FOLDER = "homes"
"""Of a work directory, while steps are taken: parts of what homes keep and send."""
KEPT, CAME, SENT, SPENT, PRESENT, LASTING = "kept", "came", "sent", "spent", "present", "lasting"
CLUSTERS = "clusters"
"""Folder of a work directory: parts of what homes kept when an earlier run ended."""


class Mail(NamedTuple):
    """What travels to a home, instead of rows."""

    what: str
    """`KEPT` or `CAME`; `SENT`, a part that others read now; `SPENT`, one that nobody reads any more; `PRESENT`, none: a home
    takes its first step though nothing came; `LASTING`, what an earlier run kept, which stays until this one has ended."""
    name: str
    """Of a table."""
    part: str
    batch: int
    """Number of the batch that is for this home."""


def folder_of(workdir: str, mail: Mail) -> Parts:
    """Where the part is that a mail tells of."""
    return Parts(workdir, CLUSTERS if mail.what == LASTING else FOLDER)


class _Shelf(MutableMapping[str, Rows]):
    """What a home keeps, read where it is asked for; says what was changed."""

    def __init__(self, names: Iterable[str], read: Callable[[str], Rows]) -> None:
        self.names, self.read = set(names), read
        self.open: dict[str, Rows] = {}
        self.changed: set[str] = set()

    def __getitem__(self, name: str) -> Rows:
        if name not in self.open:
            if name not in self.names:
                raise KeyError(name)
            self.open[name] = self.read(name)
        return self.open[name]

    def __setitem__(self, name: str, rows: Rows) -> None:
        self.open[name] = rows
        self.names.add(name)
        self.changed.add(name)

    def __delitem__(self, name: str) -> None:
        self.names.remove(name)
        self.open.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)


def post(home: Home, parts: Parts, stem: str) -> Iterator[tuple[int, Mail]]:
    """Leave what a home has sent in parts, which `stem` names; gives homes, and what each of them is to be told."""
    for name, sent in home.sent.items():
        to, rows = np.concatenate([homes for homes, _ in sent]), together([some for _, some in sent])
        order = order_by(to)
        table, part = to_table(take(rows, order)), f"{digests.of(stem, name)}.arrow"
        homes, starts = np.unique(to[order], return_index=True)
        sizes = np.diff(starts, append=len(to))
        parts.write_batches(part, [table.slice(*its) for its in zip(starts.tolist(), sizes.tolist(), strict=True)])
        for batch, one in enumerate(homes.tolist()):
            yield one, Mail(CAME, name, part, batch)


class TakeStep(beam.DoFn):
    """One step of one home. What it wrote and nobody reads any more is removed: a step begins when all homes have ended the one
    before."""

    def __init__(self, workdir: str, state: str, number: int, step: Step, homes: int, kinds: Mapping[str, Kind]) -> None:
        self.workdir, self.stem, self.step, self.homes, self.kinds = workdir, digests.of(state, number), step, homes, kinds

    def process(self, element: tuple[int, Iterable[Mail]]) -> Iterator[tuple[int, Mail]]:
        number, mails = element
        parts, stem, of = Parts(self.workdir, FOLDER), digests.of(self.stem, number), dict[str, list[Mail]]()
        for mail in sorted(mails):
            of.setdefault(mail.what, []).append(mail)
        kept, came = {mail.name: mail for what in (LASTING, KEPT) for mail in of.get(what, [])}, dict[str, list[Mail]]()
        for mail in of.get(CAME, []):
            came.setdefault(mail.name, []).append(mail)
        letters = {name: self._read(some) for name, some in came.items()}
        shelf = _Shelf(kept, lambda name: self._read([kept[name]]))
        home = Home(self.homes, self.kinds, shelf, letters)
        self.step(home)
        for mail in of.get(SPENT, []):
            remove(parts.part_url(mail.part))
        for mail in of.get(SENT, []):
            yield number, mail._replace(what=SPENT)
        for name, mail in kept.items():
            if name in shelf and name not in shelf.changed:
                yield number, mail
            elif mail.what == KEPT:
                yield number, mail._replace(what=SPENT)
        for name in sorted(shelf.changed & shelf.names):
            if len(table := to_table(shelf[name])):
                part = f"{digests.of(stem, KEPT, name)}.arrow"
                parts.write_batches(part, [table])
                yield number, Mail(KEPT, name, part, 0)
        sent = set()
        for to, mail in post(home, parts, stem):
            sent.add(mail._replace(what=SENT, batch=0))
            yield to, mail
        for mail in sorted(sent):
            yield number, mail
        progress.advance("link")

    def _read(self, mails: list[Mail]) -> Rows:
        return together([from_table(folder_of(self.workdir, mail).read_batches(mail.part, [mail.batch]), self.kinds[mail.name])
                         for mail in mails])


@dataclass
class TakeSteps(beam.PTransform):
    """Mails, by home, of the first letters become mails of what is kept in the end."""

    workdir: str
    state: str
    """Names what is made."""
    steps: Sequence[Step]
    homes: int
    kinds: Mapping[str, Kind]

    def expand(self, mails: beam.PCollection[tuple[int, Mail]]) -> beam.PCollection[tuple[int, Mail]]:
        for number, step in enumerate(self.steps):
            take_step = TakeStep(self.workdir, self.state, number, step, self.homes, self.kinds)
            mails = (mails | f"To homes {number}" >> beam.GroupByKey()
                     | f"{type(step).__name__} {number}" >> beam.ParDo(InChild(take_step)))
        return mails
