"""Average linkage of clusters that many homes keep (`transforms.homes`), level by level.

A level is a span of mean similarity. What is ready to merge above its lower end falls into small groups, each the
neighbourhood of the least id around; every group comes together in one home and is linked there by `transforms.stars`:

    begin: newcomers are clusters; those that stand from an earlier run answer them
    -> propose: the least id among a cluster and whom it may merge with -> gather: bodies, to the home of their group
    -> merge -> settle: clusters are gone, or have grown -> answer: neighbours look at those again -> propose, a level down

What waits, because a group ended before it, is ready at the next level too. Before vectors were normalized (`transforms.space`)
F on 100 thousand generated faces, seed 3, was 0.956 with 128 numbers and 0.992 with 512, where all clusters that one process
holds went down the ladder together 0.957 and 0.992."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from transforms.cells import Cells, by_cell, compare_cell
from transforms.clusters import Answer, ask, clusters_of, look, records_of, renew_links, send_asks, sums_of
from transforms.homes import Home, Step
from transforms.regions import means_of, to_regions
from transforms.rows import (
    Rows,
    added,
    distinct,
    once,
    replaced,
    rows_of,
    take,
    together,
)
from transforms.similarity import MOST, UNIT, BestEdges
from transforms.sorting import order_by, unique
from transforms.stars import Merging, Pairs

WIDTH = 0.2
"""Of a level, as a cosine. On 20 thousand generated faces of 128 numbers, seeds 3 to 7, F is 0.9759 with 0.1, 0.9754 with 0.2,
0.9749 with 0.3; on 100 thousand, seeds 3 and 4, 0.9723, 0.9723 and 0.9714; with 512 numbers the same to 0.0001. 250 thousand
take 46 s with 0.2, 53 s with 0.1."""
WIDER = 0.4
"""The same where a few newcomers are linked to clusters that last: dlib's faces take 68 steps instead of 80. Of 91 to 100
thousand faces, seed 3, 1 % more at a time, F is within 0.0001 of what levels of 0.1 give each of the eight times that they
last, with 128 numbers and with 512."""
HOPS = 3
"""From the least id of a group to its farthest cluster. Of the faces above, F is 0.9755, 0.9754 and 0.9760 with 2, 3 and 4 on
20 thousand, 0.9721, 0.9723 and 0.9721 on 100 thousand."""
LAST = 3
"""Levels at the lower end, for what had to wait. Of 1500 sets of 4 to 120 faces, as tests/test_graph.py makes them, something
is left to merge in 642 after 1, in 24 after 2, in none after 3."""


def steps(least: float, whole: float | None, cells: Callable[[], Cells], known: bool, lasting: bool = False) -> Iterator[Step]:
    """What makes people of faces. `least`: the mean scaled similarity of a merge, a cosine. `whole`: clusters whose mean scaled
    similarity reaches it are compared too, inside of `cells`, though no edge connects them: a burst of more pictures than a
    face keeps edges fills the edges of all its faces. `known`: whether some persons are. `lasting`: whether homes
    keep clusters of an earlier run (`LASTING`), and the newcomers' links to faces of these come as "inherited"."""
    yield Begin()
    if lasting:
        yield from (PassOn(), Answer())
    if known:
        yield from join_known()
    width = WIDER if lasting else WIDTH
    yield from _down(1.0, least, width)
    if whole is not None:
        yield from (SendMeans(cells), CompareMeans(whole), Offer(), Answer())
        yield from _down(whole, least, width)


def join_known() -> Iterator[Step]:
    """Makes those one who are known to be one person."""
    yield from (GatherPersons(), Merge(np.inf), Settle(), Answer())


def _down(highest: float, least: float, width: float) -> Iterator[Step]:
    above = range(int(np.ceil((highest - least) / width)) - 1, 0, -1)
    for low in [*(least + level * width for level in above), *[least] * LAST]:
        yield Propose(low)
        for _ in range(HOPS - 2):
            yield Spread()
        yield from (Gather(), Merge(low), Settle(), Answer())
    yield Propose(np.inf)  # takes the answers in


class Begin:
    """Every face that comes is a cluster, beside those that there are, and asks whom of these it is like."""

    def __call__(self, home: Home) -> None:
        new = home.came("newcomers")
        ids = new["id"]
        order = np.argsort(np.concatenate([home.keeps("faces")["id"], ids]))
        for name, columns in (("faces", ("id", "face", "sure")), ("vectors", ("vector",)), ("cells", ("cells",))):
            home.kept[name] = take(together([home.keeps(name), {column: new[column] for column in columns}]), order)
        alone = {"id": ids, "size": np.ones_like(ids), "half": new["half"], "person": new["person"]}
        home.kept["clusters"] = added(home.keeps("clusters"), alone)
        home.kept["members"] = added(home.keeps("members"), {"id": ids, "face": ids})
        home.kept["marks"] = added(home.keeps("marks"), distinct(home.came("marks"), "id", "mark"))
        home.kept["links"] = added(home.keeps("links"), distinct(home.came("replies"), "id", "other"))
        home.kept["merges"] = distinct(home.came("merges"), "id", "merge")
        ask(home, home.came("inherited"))


class PassOn:
    """What newcomers ask a face of an earlier run goes on to its cluster."""

    def __call__(self, home: Home) -> None:
        asks, results = home.came("asks"), home.keeps("results")
        other = results["head"][np.searchsorted(results["id"], asks["other"])]
        home.kept.pop("results", None)
        send_asks(home, {**asks, "other": other}, other, *records_of(home))


@dataclass(frozen=True)
class Propose:
    """Every cluster that may merge names the least id that it sees."""

    low: float

    def __call__(self, home: Home) -> None:
        if home.letters or "instead" in home.kept:
            look(home)
            renew_links(home)
        links = home.keeps("links")
        ready = np.flatnonzero((links["average"] >= self.low * UNIT) & ~links["forbidden"])
        if len(ready):
            ids, other = links["id"][ready], links["other"][ready]
            active, row = np.unique(ids, return_inverse=True)
            group = active.copy()
            np.minimum.at(group, row, other)
            home.kept["ready"], home.kept["groups"] = {"id": ids, "other": other}, {"id": active, "group": group}
            home.send("groups", other, {"id": other, "group": group[row]})


def _hear(home: Home) -> Rows:
    """The groups by what neighbours say, who are all in one themselves."""
    groups, said = home.keeps("groups"), home.came("groups")
    group = groups["group"].copy()
    np.minimum.at(group, np.searchsorted(groups["id"], said["id"]), said["group"])
    return {"id": groups["id"], "group": group}


class Spread:
    """What the neighbours have named goes on to theirs."""

    def __call__(self, home: Home) -> None:
        if "groups" in home.kept:
            home.kept["groups"] = groups = _hear(home)
            ready = home.keeps("ready")
            home.send("groups", ready["other"], {"id": ready["other"],
                                                 "group": groups["group"][np.searchsorted(groups["id"], ready["id"])]})


class Gather:
    """Whoever may merge goes to the home of the group, with all there is of it."""

    def __call__(self, home: Home) -> None:
        if "groups" in home.kept:
            send_bodies(home, _hear(home))
            del home.kept["groups"], home.kept["ready"]


class GatherPersons:
    """Faces of whom it is known who they are go to one home."""

    def __call__(self, home: Home) -> None:
        clusters = home.keeps("clusters")
        known = clusters["person"] >= 0
        send_bodies(home, {"id": clusters["id"][known], "group": clusters["person"][known]})


def send_bodies(home: Home, groups: Rows, one: bool = False) -> None:
    """Send clusters, by ascending id, with all there is of them to the home of their group. `one`: each group is a person."""
    ids, group, clusters = groups["id"], groups["group"], home.keeps("clusters")
    rows = np.searchsorted(clusters["id"], ids)
    bodies = {"group": group, "sum": sums_of(home, ids), **take(clusters, rows)}
    home.send("bodies", group, {**bodies, "person": group} if one else bodies)
    for name in ("marks", "links", "members"):
        its, at = rows_of(home.keeps(name), ids)
        home.send(name, group[at], take(home.keeps(name), its))


@dataclass(frozen=True)
class Merge:
    """Link the groups that came together; what has merged goes home."""

    low: float

    def __call__(self, home: Home) -> None:
        if not home.letters:
            return
        bodies = home.came("bodies")
        bodies = take(bodies, np.argsort(bodies["id"]))
        ids, group = bodies["id"], bodies["group"]
        marks, members, links = (take(rows, order_by(rows["id"]))
                                 for rows in map(home.came, ("marks", "members", "links")))
        clusters, = clusters_of((bodies, marks))
        row, other = np.searchsorted(ids, links["id"]), np.searchsorted(ids, links["other"])
        here = (ids[np.minimum(other, len(ids) - 1)] == links["other"])
        here[here] = group[row[here]] == group[other[here]]
        inside = here & (row < other)  # each pair has two links
        merging = Merging(clusters)
        merging.join_persons(bodies["person"])
        if self.low < np.inf:
            merging.descend(Pairs(row[inside], other[inside], links["average"][inside], links["forbidden"][inside]), self.low)
        label = merging.label
        gone = label != np.arange(len(ids))
        grown = np.zeros(len(ids), bool)
        grown[label[gone]] = True
        home.send("verdicts", ids[gone], {"id": ids[gone], "into": ids[label[gone]]})
        home.send("heads", ids[grown], {"id": ids[grown], "size": clusters.size[grown], "half": clusters.half[grown],
                                        "sum": clusters.sums[grown]})
        changed = np.flatnonzero(gone | grown)
        its, at = rows_of(marks, ids[changed])
        head, mark = ids[label[changed[at]]], marks["mark"][its]
        first, number = once(head, mark)
        count = np.bincount(number, marks["count"][its], len(first)).astype(np.int64)
        home.send("marks", head[first], {"id": head[first], "mark": mark[first], "count": count})
        its, at = rows_of(members, ids[changed])
        head = ids[label[changed[at]]]
        home.send("members", head, {"id": head, "face": members["face"][its]})
        out = (gone | grown)[row] & ~(here & (label[row] == label[np.where(here, other, 0)]))
        head = ids[label[row[out]]]
        home.send("inherited", head, {"id": head, "other": links["other"][out], "former": links["id"][out]})


class Settle:
    """Clusters are gone, or have grown; these tell the neighbours of all that they took in."""

    def __call__(self, home: Home) -> None:
        if not home.letters:
            return
        verdicts, heads = home.came("verdicts"), home.came("heads")
        changed = np.concatenate([verdicts["id"], heads["id"]])
        for name in ("marks", "members"):
            home.kept[name] = replaced(home.keeps(name), rows_of(home.keeps(name), changed)[0], home.came(name))
        clusters, stay = home.keeps("clusters"), np.ones(len(home.keeps("clusters")["id"]), bool)
        stay[np.searchsorted(clusters["id"], changed)] = False
        grown = {"id": heads["id"], "size": heads["size"], "half": heads["half"], "person": np.full(len(heads["id"]), -1)}
        both = together([take(clusters, stay), grown])
        order = np.argsort(both["id"])
        home.kept["clusters"] = take(both, order)
        sums = home.keeps("sums")
        home.kept["sums"] = replaced(sums, rows_of(sums, changed)[0], {"id": heads["id"], "sum": heads["sum"]})
        home.kept["gone"] = take(verdicts, np.argsort(verdicts["id"]))
        home.kept["grown"] = {"id": heads["id"]}
        links = home.keeps("links")
        its, _ = rows_of(links, changed)
        home.kept["instead"] = {"id": links["id"][its], "other": links["other"][its]}
        ask(home, home.came("inherited"))


@dataclass(frozen=True)
class SendMeans:
    """The mean of each cluster of several faces, to the regions of its cells; one alone has room for its edges."""

    cells: Callable[[], Cells]

    def __call__(self, home: Home) -> None:
        clusters, cells = home.keeps("clusters"), self.cells()
        several = np.flatnonzero(clusters["size"] > 1)
        mean = means_of(home.keeps("sums")["sum"], clusters["size"][several])
        for at, place in to_regions(cells, cells.nearest(mean)):
            rows = several[at]
            half = np.rint(clusters["half"][rows] / clusters["size"][rows]).astype(np.int64)
            home.send("means", place["region"], {**place, "id": clusters["id"][rows], "half": half, "mean": mean[at]})


@dataclass(frozen=True)
class CompareMeans:
    """Find clusters that are alike on the whole."""

    whole: float

    def __call__(self, home: Home) -> None:
        means = home.came("means")
        for region in np.unique(means["region"]):
            its = take(means, np.flatnonzero(means["region"] == region))
            its = take(its, np.argsort(its["id"]))
            best, fresh = BestEdges(len(its["id"]), self.whole, MOST), np.ones(len(its["id"]), bool)
            for _, rows in by_cell(its["cells"]):
                compare_cell(best, its["mean"], its["half"], rows, fresh, its["cells"].shape[1])
            edges = best.edges()
            for ours, theirs in ((edges.first, edges.second), (edges.second, edges.first)):
                home.send("found", its["id"][ours], {"id": its["id"][ours], "other": its["id"][theirs]})


class Offer:
    """Of two that were found alike, the lower id asks, unless they are linked."""

    def __call__(self, home: Home) -> None:
        if not home.letters:
            return
        found, links = home.came("found"), home.keeps("links")
        found = distinct(found, "id", "other")
        linked = take(links, rows_of(links, unique(found["id"]))[0])
        _, number = once(*(np.concatenate([found[name], linked[name]]) for name in ("id", "other")))
        new = take(found, ~np.isin(number[:len(found["id"])], number[len(found["id"]):]) & (found["id"] < found["other"]))
        ask(home, {**new, "former": new["id"]})
