"""Clusters that last from one run to the next: linking goes on from them when a few more faces have come.

What was put together stays together then; newcomers join, or bring two together, or are somebody new. That holds as long as
the table of cells does (`compare.GROWTH`), so that what one run has got wrong is linked anew when the set has grown by that."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from transforms import digests
from transforms.compare import Compared
from transforms.homes import CLUSTERS, KEPT, LASTING, Mail, folder_of
from transforms.parts import PHOTOS, NotReady, Parts, get, put

TABLES = ("clusters", "sums", "marks", "links", "members", "faces", "vectors", "cells", "results")
"""Of `clusters.kinds` and `people.kinds`: what linking goes on from."""


@dataclass(frozen=True)
class Lasting:
    """What homes keep of a work directory's faces when they are linked, to go on from."""

    state: str
    """Names the parts."""
    homes: int
    blocks: int
    """How many there were: faces of later ones are newcomers."""

    @staticmethod
    def of(workdir: str, compared: Compared, how: str) -> Lasting | None:
        """Where linking goes on from, if faces of the first blocks were linked `how` these are to be, and others have come: the
        same faces are linked anew, for the same result."""
        clusters = Parts(workdir, CLUSTERS)
        try:
            record = clusters.options()
            whole = set(clusters.parts()) <= clusters.existing()
        except NotReady:
            return None
        before, now = record["blocks"], [list(block.parts) for block in compared.blocks]
        more = now[:len(before)] == before != now
        if not (whole and more and (record["how"], record["table"]) == (how, compared.table)):
            return None
        return Lasting(record["state"], record["homes"], len(before))

    def mails(self, workdir: str) -> Iterator[tuple[int, Mail]]:
        """What homes are told to begin with."""
        listed = set(Parts(workdir, CLUSTERS).parts())
        for home in range(self.homes):
            for table in TABLES:
                if (part := self.part(home, table)) in listed:
                    yield home, Mail(LASTING, table, part, 0)

    def part(self, home: int, table: str) -> str:
        return f"{digests.of(self.state, home, table)}.arrow"

    def keep(self, workdir: str, home: int, mails: Iterable[Mail]) -> None:
        """Let what a home keeps in the end last."""
        for mail in mails:
            if mail.what in (KEPT, LASTING) and mail.name in TABLES:
                data = get(folder_of(workdir, mail).part_url(mail.part))
                put(Parts(workdir, CLUSTERS).part_url(self.part(home, mail.name)), data)

    def commit(self, workdir: str, compared: Compared, how: str) -> None:
        """Say that all is there, and remove what lasted before."""
        clusters = Parts(workdir, CLUSTERS)
        parts = {self.part(home, table) for home in range(self.homes) for table in TABLES}
        record: dict[str, Any] = {"state": self.state, "homes": self.homes, "how": how, "table": compared.table,
                                  "blocks": [list(block.parts) for block in compared.blocks]}
        clusters.commit({PHOTOS: parts & clusters.existing()}, compared.made_from, record)
