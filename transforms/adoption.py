"""Faces left alone join the person whom they are most like on the whole, in steps of `transforms.homes`.

A mean over several faces of a person is surer than one edge, so that none is asked for.

    lone faces and clusters, to the regions of their cells -> whom each lone face is most like -> which wants to join whom
    -> of two faces of one image the more similar joins"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from transforms.blocks import ROW_BITS
from transforms.cells import Cells, best_of_cells
from transforms.clusters import sums_of, vectors_of
from transforms.homes import Home, Step
from transforms.levels import Settle
from transforms.regions import cells_of, means_of, to_regions
from transforms.rows import Kind, Rows, once, rows_of, take, together
from transforms.similarity import UNIT, add_to
from transforms.sorting import unique

ADOPTERS = 4
"""Faces of a cluster that a lone face may join without a strong edge. With 3 or 6 F is the same to 0.0005 on 20 thousand
generated faces, seeds 3 and 4."""


def kinds(dimensions: int, spill: int) -> dict[str, Kind]:
    """What is sent, of vectors of so many numbers and faces in so many cells."""
    number, real = np.dtype(np.int64), np.dtype(np.float64)
    place = {"id": number, "region": number, "cells": np.dtype((np.int64, spill)), "half": number}
    return {
        "lone": {**place, "vector": np.dtype((np.int16, dimensions))},
        "several": {**place, "size": number, "sum": np.dtype((np.int32, dimensions))},
        "wishes": {"id": number, "other": number, "size": number, "value": real, "second": real},
        "applications": {"id": number, "into": number, "value": real, "half": number,
                         "vector": np.dtype((np.int16, dimensions))},
    }


def steps(cells: Callable[[], Cells], least: float, lead: float, first: int = 0) -> Iterator[Step]:
    """The mean scaled similarity of a face to those it joins must reach `least`, and be `lead` above that to any other cluster
    of two or more that shares a cell with it; both cosines. `first`: of the blocks whose faces may join."""
    yield from (SendLone(cells, first), CompareLone(), Apply(least, lead), Admit(), Settle())


@dataclass(frozen=True)
class SendLone:
    """Faces alone of whom nothing is said, and clusters of several, to the regions of their cells."""

    cells: Callable[[], Cells]
    first: int

    def __call__(self, home: Home) -> None:
        clusters, sums, marks = home.keeps("clusters"), home.keeps("sums")["sum"], home.keeps("marks")
        said = (clusters["person"] >= 0) | np.isin(clusters["id"], marks["id"][marks["mark"] < 0])
        cells, faces, alone = self.cells(), home.keeps("faces"), clusters["size"] == 1
        new = np.isin(clusters["id"], faces["id"][faces["face"] >> ROW_BITS >= self.first])
        lone, several = take(clusters, alone & new & ~said), take(clusters, ~alone)
        for name, some, middle in (("lone", lone, vectors_of(home, lone["id"])),
                                   ("several", several, means_of(sums, several["size"]))):
            for rows, place in to_regions(cells, cells_of(home, cells, some["id"], middle)):
                own = {"vector": middle[rows]} if name == "lone" else {"size": some["size"][rows], "sum": sums[rows]}
                home.send(name, place["region"], {**place, **own, "id": some["id"][rows], "half": some["half"][rows]})


class CompareLone:
    """In each region, the best two clusters of each lone face."""

    def __call__(self, home: Home) -> None:
        lone, several = home.came("lone"), home.came("several")
        for region in np.unique(lone["region"]):
            ours, theirs = (take(rows, np.flatnonzero(rows["region"] == region)) for rows in (lone, several))
            theirs = take(theirs, np.argsort(theirs["id"]))

            def averages(some: np.ndarray, whose: np.ndarray, ours: Rows = ours, theirs: Rows = theirs) -> np.ndarray:
                """Mean scaled similarity of faces [n] to clusters [m], float64 [n, m]."""
                dots = ours["vector"][some].astype(np.float64) @ theirs["sum"][whose].T.astype(np.float64)
                return (dots - theirs["half"][whose]) / theirs["size"][whose] - ours["half"][some][:, None]

            best = best_of_cells(ours["cells"], theirs["cells"], averages)
            found = np.flatnonzero(best.column >= 0)
            other = best.column[found]
            home.send("wishes", ours["id"][found], {"id": ours["id"][found], "other": theirs["id"][other],
                                                    "size": theirs["size"][other], "value": best.value[found],
                                                    "second": best.second[found]})


@dataclass(frozen=True)
class Apply:
    """A lone face that is like one cluster, and like no other, asks to join it."""

    least: float
    lead: float

    def __call__(self, home: Home) -> None:
        wishes = home.came("wishes")
        wishes = take(wishes, np.lexsort((wishes["other"], -wishes["value"], wishes["id"])))
        first, whose = once(wishes["id"])
        best = take(wishes, first)
        rest = np.where(wishes["other"] == best["other"][whose], wishes["second"], wishes["value"])
        second = np.full(len(first), -np.inf)
        np.maximum.at(second, whose, rest)
        lead = best["value"] - second
        sure = (best["value"] >= self.least * UNIT) & (lead >= self.lead * UNIT) & (best["size"] >= ADOPTERS)
        best, clusters, marks = take(best, sure), home.keeps("clusters"), home.keeps("marks")
        row = np.searchsorted(clusters["id"], best["id"])
        home.send("applications", best["other"], {
            "id": best["id"], "into": best["other"], "value": best["value"], "half": clusters["half"][row],
            "vector": vectors_of(home, best["id"])})
        its, at = rows_of(marks, best["id"])
        home.send("marks", best["other"][at], take(marks, its))


class Admit:
    """Of two faces of one image the more similar joins; nobody joins an image mate."""

    def __call__(self, home: Home) -> None:
        asking, theirs = home.came("applications"), home.came("marks")
        if not len(asking["id"]):
            return
        asking = take(asking, np.lexsort((asking["id"], -asking["value"])))
        order = np.argsort(asking["id"])
        asks = order[np.searchsorted(asking["id"][order], theirs["id"])]  # the application that each mark is of
        theirs, asks = take(theirs, np.argsort(asks, kind="stable")), np.sort(asks)
        clusters, marks, members = home.keeps("clusters"), home.keeps("marks"), home.keeps("members")
        centres = unique(asking["into"])
        its, at = rows_of(marks, centres)
        both = np.concatenate([centres[at], asking["into"][asks]]), np.concatenate([marks["mark"][its], theirs["mark"]])
        first = np.zeros(len(both[0]), bool)
        first[once(*both)[0]] = True  # the earliest of each centre and image
        late = np.zeros(len(asking["id"]), bool)
        late[asks[~first[len(its):]]] = True
        admitted = take(asking, ~late)
        home.send("verdicts", admitted["id"], {"id": admitted["id"], "into": admitted["into"]})
        grown, place = np.unique(admitted["into"], return_inverse=True)
        row = np.searchsorted(clusters["id"], grown)
        size, half, sums = clusters["size"][row], clusters["half"][row], sums_of(home, grown)
        np.add.at(size, place, 1)
        np.add.at(half, place, admitted["half"])
        add_to(sums, place, admitted["vector"])
        home.send("heads", grown, {"id": grown, "size": size, "half": half, "sum": sums})
        stayed, new = rows_of(marks, grown)[0], ~late[asks]
        for name, old, more in (
                ("marks", take(marks, stayed), {**take(theirs, new), "id": asking["into"][asks[new]]}),
                ("members", take(members, rows_of(members, grown)[0]), {"id": admitted["into"], "face": admitted["id"]})):
            rows = together([old, more])
            home.send(name, rows["id"], rows)
