"""What faces and people are to each other in the end, in steps of `transforms.homes`.

    clusters: their sums, to their faces -> how like its mean each face is; who is unlike it belongs to nobody
    -> those whom a user makes one are one -> how large and how alike people are; who are too unlike each other to be one are
    nobody -> who is most like whom"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from transforms.cells import Cells, best_of_cells
from transforms.clusters import sums_of
from transforms.homes import Home, Step
from transforms.levels import Merge, Settle, send_bodies
from transforms.regions import cells_of, to_regions
from transforms.rows import Kind, once, take
from transforms.similarity import add_to, directions, products, squares
from transforms.space import Space
from transforms.stars import chunks


def kinds(dimensions: int, spill: int) -> dict[str, Kind]:
    """All tables, of vectors of so many numbers and faces in so many cells."""
    number, real, flag = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_)
    vector = np.dtype((np.int16, dimensions))
    return {
        # kept
        "results": {"id": number, "face": number, "head": number, "similarity": real, "lost": flag},
        "people": {"id": number, "size": number, "similarity": real, "nearest": number, "value": real},
        # sent
        "means_of": {"id": number, "sum": np.dtype((np.int32, dimensions))},
        "heads_of": {"id": number, "head": number},
        "unions": {"head": number, "merge": number},
        "tied": {"id": number, "group": number},
        "tallies": {"id": number, "face": number, "similarity": real, "sure": flag},
        "lost": {"id": number, "vector": vector},
        "dissolved": {"id": number},
        "portraits": {"id": number, "region": number, "cells": np.dtype((np.int64, spill)), "vector": vector},
        "resemblances": {"id": number, "other": number, "value": real},
    }


def steps(cells: Callable[[], Cells], space: Callable[[], Space], outlier: float, cohesion: float, merges: bool
          ) -> Iterator[Step]:
    """`space`: that all vectors are in; `outlier`: the least cosine of a face to the mean of those it was put together with;
    `cohesion`: the least mean of these; `merges`: whether a user makes some people one."""
    yield from (Tell(), Judge(space, outlier))
    if merges:
        yield from (NameMerges(), Tie(), GatherTied(), Merge(np.inf), Settle(), Tell(), Judge(space, outlier))
    yield from (Tally(), Portray(cells, space, cohesion), ComparePortraits(), Resemble())


class Tell:
    """A cluster tells its faces whose they are."""

    def __call__(self, home: Home) -> None:
        members = home.keeps("members")
        home.send("heads_of", members["face"], {"id": members["face"], "head": members["id"]})
        first, _ = once(members["id"], home.home_of(members["face"]))
        ids = members["id"][first]
        home.send("means_of", members["face"][first], {"id": ids, "sum": sums_of(home, ids)})


@dataclass(frozen=True)
class Judge:
    """How like its mean each face is. Who was once found to be unlike it is nobody's, unless it is known who that is."""

    space: Callable[[], Space]
    outlier: float

    def __call__(self, home: Home) -> None:
        faces, told, means = home.keeps("faces"), home.came("heads_of"), home.came("means_of")
        head = told["head"][np.argsort(told["id"])]  # each face is told once, and all are
        means = take(means, np.argsort(means["id"]))
        whose = np.searchsorted(means["id"], head)
        space, vectors = self.space(), home.keeps("vectors")["vector"]
        middles = np.empty((len(means["id"]), vectors.shape[1]), np.int16)
        for rows in chunks(*middles.shape):
            middles[rows] = space.restore(directions(means["sum"][rows]).astype(np.int16))
        similarity = np.empty(len(head))
        for rows in chunks(*vectors.shape):
            some, theirs = space.restore(vectors[rows]), middles[whose[rows]]
            dots = np.einsum("nd,nd->n", some, theirs, dtype=np.float64)
            similarity[rows] = dots / np.maximum(np.sqrt(squares(some) * squares(theirs)), 1.0)  # 0 where faces cancel out
        before = home.kept.get("results")
        lost = (similarity < self.outlier) & ~faces["sure"] if before is None else before["lost"]
        home.kept["results"] = {"id": faces["id"], "face": faces["face"], "head": head, "similarity": similarity, "lost": lost}


class NameMerges:
    """Faces whose people a user makes one tell one home whose they are: of such faces there are few."""

    def __call__(self, home: Home) -> None:
        merges, results = home.keeps("merges"), home.keeps("results")
        head = results["head"][np.searchsorted(results["id"], merges["id"])]
        home.send("unions", np.zeros_like(head), {"head": head, "merge": merges["merge"]})


class Tie:
    """Who is made one by a chain of merges is one."""

    def __call__(self, home: Home) -> None:
        if home.letters:
            unions = home.came("unions")
            (heads, head), (_, merge) = (np.unique(unions[name], return_inverse=True) for name in ("head", "merge"))
            shape = (len(heads) + merge.max() + 1,) * 2
            links = scipy.sparse.coo_matrix((np.ones(len(head)), (head, len(heads) + merge)), shape)
            one = connected_components(links, directed=False)[1][:len(heads)]
            first, number = once(one)  # heads ascend
            home.send("tied", heads, {"id": heads, "group": heads[first][number]})


class GatherTied:
    """They come together."""

    def __call__(self, home: Home) -> None:
        tied = home.came("tied")
        send_bodies(home, take(tied, np.argsort(tied["id"])), one=True)


class Tally:
    """Faces tell their cluster how like it they are; who is nobody's leaves it."""

    def __call__(self, home: Home) -> None:
        results = home.keeps("results")
        stays, lost = np.flatnonzero(~results["lost"]), np.flatnonzero(results["lost"])
        home.send("tallies", results["head"][stays], {"id": results["head"][stays], "face": results["id"][stays],
                                                      "similarity": results["similarity"][stays],
                                                      "sure": home.keeps("faces")["sure"][stays]})
        home.send("lost", results["head"][lost], {"id": results["head"][lost],
                                                  "vector": home.keeps("vectors")["vector"][lost]})


@dataclass(frozen=True)
class Portray:
    """How many faces each person has, and how alike; the direction of their mean, to the regions of its cells. Who are hardly
    alike, and of none of whom anything is known, are not one person, and their faces nobody's."""

    cells: Callable[[], Cells]
    space: Callable[[], Space]
    cohesion: float

    def __call__(self, home: Home) -> None:
        tallies, lost, clusters = home.came("tallies"), home.came("lost"), home.keeps("clusters")
        tallies = take(tallies, np.lexsort((tallies["face"], tallies["id"])))
        sums = sums_of(home, clusters["id"])
        add_to(sums, np.searchsorted(clusters["id"], lost["id"]), -lost["vector"])
        ids, whose, size = np.unique(tallies["id"], return_inverse=True, return_counts=True)
        similarity = np.bincount(whose, tallies["similarity"], len(ids)) / size
        one = (similarity >= self.cohesion) | (np.bincount(whose, tallies["sure"], len(ids)) > 0)
        dissolved = tallies["face"][~one[whose]]
        home.send("dissolved", dissolved, {"id": dissolved})
        ids, size, similarity = ids[one], size[one], similarity[one]
        row = np.searchsorted(clusters["id"], ids)
        home.kept["people"] = {"id": ids, "size": size, "similarity": similarity, "nearest": np.full(len(ids), -1),
                               "value": np.zeros(len(ids))}
        middle = np.empty((len(ids), sums.shape[1]), np.int16)
        for some in chunks(*middle.shape):
            middle[some] = directions(sums[row[some]])
        cells, cosines = self.cells(), self.space().restore(middle)
        for rows, place in to_regions(cells, cells_of(home, cells, ids, middle)):
            home.send("portraits", place["region"], {**place, "id": ids[rows], "vector": cosines[rows]})


class ComparePortraits:
    """In each region, who is most like each person. Faces of those who are no person are nobody's."""

    def __call__(self, home: Home) -> None:
        results = home.keeps("results")
        home.kept["results"] = {**results, "lost": results["lost"] | np.isin(results["id"], home.came("dissolved")["id"])}
        portraits = home.came("portraits")
        for region in np.unique(portraits["region"]):
            its = take(portraits, np.flatnonzero(portraits["region"] == region))
            its = take(its, np.argsort(its["id"]))
            portrait = its["vector"].astype(np.float32)

            def cosine(some: np.ndarray, others: np.ndarray, vectors: np.ndarray = portrait) -> np.ndarray:
                found = products(vectors[some], vectors[others])
                found[some[:, None] == others[None, :]] = -np.inf
                return found

            best = best_of_cells(its["cells"], its["cells"], cosine)
            known = np.flatnonzero(best.column >= 0)
            home.send("resemblances", its["id"][known], {"id": its["id"][known], "other": its["id"][best.column[known]],
                                                         "value": best.value[known]})


class Resemble:
    """Of those who are most like a person in some region, the most like; nobody is most like the only one."""

    def __call__(self, home: Home) -> None:
        found, people = home.came("resemblances"), home.keeps("people")
        found = take(found, np.lexsort((found["other"], -found["value"], found["id"])))
        best = take(found, once(found["id"])[0])
        row = np.searchsorted(people["id"], best["id"])
        nearest, value = people["nearest"].copy(), people["value"].copy()
        nearest[row], value[row] = best["other"], best["value"]
        home.kept["people"] = {**people, "nearest": nearest, "value": value}
