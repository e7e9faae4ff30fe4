"""What homes keep of clusters, and how one cluster looks at another that another home keeps.

A cluster that has grown asks those whom it is linked to: its record goes to their homes, which answer with the mean similarity
to it as it is now, and both ends have a new link instead of the old."""
from __future__ import annotations

import numpy as np
import scipy.sparse

from transforms.homes import Home
from transforms.rows import Kind, Rows, distinct, empty, once, replaced, rows_of, take, together
from transforms.sorting import unique
from transforms.stars import Clusters


def kinds(dimensions: int, spill: int) -> dict[str, Kind]:
    """All tables, of vectors of so many numbers and faces in so many cells."""
    number, real, flag = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_)
    body = {"id": number, "size": number, "half": number, "sum": np.dtype((np.int32, dimensions))}
    return {
        # kept, by ascending id
        "clusters": {"id": number, "size": number, "half": number, "person": number},
        "sums": {"id": number, "sum": body["sum"]},  # of clusters of several faces
        "marks": {"id": number, "mark": number, "count": number},  # faces in an image that keeps them apart, and in camps
        "links": {"id": number, "other": number, "average": real, "forbidden": flag},  # of both ends
        "members": {"id": number, "face": number},  # ids of faces
        "faces": {"id": number, "face": number, "sure": flag},  # and their numbers; whether it is known whose they are
        "vectors": {"vector": np.dtype((np.int16, dimensions))},  # in the order of the faces
        "cells": {"cells": np.dtype((np.int32, spill))},  # of them, too
        "merges": {"id": number, "merge": number},
        # kept from one step to the next
        "ready": {"id": number, "other": number},
        "groups": {"id": number, "group": number},
        "gone": {"id": number, "into": number},
        "grown": {"id": number},
        "looked": {"id": number, "other": number, "average": real, "forbidden": flag},
        "instead": {"id": number, "other": number},
        # sent, beside some of the above
        "newcomers": {"id": number, "face": number, "half": number, "person": number, "sure": flag,
                      "vector": np.dtype((np.int16, dimensions)), "cells": np.dtype((np.int32, spill))},
        "bodies": {**body, "group": number, "person": number},
        "heads": body,
        "inherited": {"id": number, "other": number, "former": number},
        "verdicts": {"id": number, "into": number},
        "records": body,
        "asks": {"id": number, "other": number, "former": number},
        "replies": {"id": number, "other": number, "average": real, "forbidden": flag},
        "means": {"id": number, "region": number, "half": number, "mean": np.dtype((np.int16, dimensions)),
                  "cells": np.dtype((np.int64, spill))},
        "found": {"id": number, "other": number},
    }


def sums_of(home: Home, ids: np.ndarray) -> np.ndarray:
    """Of clusters int64 [n], int32 [n, D]: of one face alone it is its vector, and not kept twice."""
    sums, result = home.keeps("sums"), np.empty((len(ids), *home.kinds["sums"]["sum"].shape), np.int32)
    several, at = rows_of(sums, ids)
    result[at] = sums["sum"][several]
    alone = np.ones(len(ids), bool)
    alone[at] = False
    result[alone] = vectors_of(home, ids[alone])
    return result


def vectors_of(home: Home, ids: np.ndarray) -> np.ndarray:
    """Of clusters int64 [n] of one face each, int16 [n, D]."""
    return home.keeps("vectors")["vector"][np.searchsorted(home.keeps("faces")["id"], ids)]


def marks_of_images(ids: np.ndarray, images: np.ndarray) -> Rows:
    """What keeps faces of one image apart; arguments int64 [n]."""
    return {"id": ids, "mark": images, "count": np.ones(len(ids), np.int64)}


def marks_of_camps(ids: np.ndarray, camps: np.ndarray) -> Rows:
    """What keeps people apart who are said to be two; arguments int [n]."""
    return {"id": ids, "mark": -1 - camps.astype(np.int64), "count": np.ones(len(ids), np.int64)}


def ask(home: Home, asks: Rows) -> None:
    """Send the records of clusters to those whom they ask to look at them."""
    send_asks(home, asks, asks["other"], _bodies(home, asks["id"]), home.keeps("marks"))


def _bodies(home: Home, ids: np.ndarray) -> Rows:
    """Of clusters, each once, by ascending id."""
    ids, clusters = unique(ids), home.keeps("clusters")
    return {"sum": sums_of(home, ids), **take(clusters, np.searchsorted(clusters["id"], ids))}


def send_asks(home: Home, asks: Rows, near: np.ndarray, records: Rows, marks: Rows) -> None:
    """Send asks near ids int64 [n], and once to each home the record of who asks; `records` and `marks` by ascending id."""
    home.send("asks", near, asks)
    first, _ = once(asks["id"], home.home_of(near))
    ids, near = asks["id"][first], near[first]
    home.send("records", near, take(records, np.searchsorted(records["id"], ids)))
    its, at = rows_of(marks, ids)
    home.send("marks", near[at], take(marks, its))


class Answer:
    """Look at those who ask, and let them know; who is gone passes on what was asked."""

    def __call__(self, home: Home) -> None:
        asks, gone, grown = home.came("asks"), home.keeps("gone"), home.keeps("grown")
        home.kept.pop("gone", None)
        home.kept.pop("grown", None)
        if not home.letters:
            return
        lost = np.isin(asks["other"], gone["id"])
        if lost.any():
            passed = take(asks, lost)
            passed["other"] = gone["into"][np.searchsorted(gone["id"], passed["other"])]
            send_asks(home, passed, passed["other"], *records_of(home))
        looked = look(home, ~lost)
        looked = take(looked, ~np.isin(looked["id"], grown["id"]))  # who has grown asks itself
        home.send("replies", looked["other"], {**looked, "id": looked["other"], "other": looked["id"]})


def records_of(home: Home) -> tuple[Rows, Rows]:
    """Records and marks that came in, each once, by ascending id."""
    return distinct(home.came("records"), "id"), distinct(home.came("marks"), "id", "mark")


def look(home: Home, some: np.ndarray | None = None) -> Rows:
    """New links to those who ask, all or `some`, bool [n], to stand instead of those to their former ids."""
    asks = home.came("asks") if some is None else take(home.came("asks"), some)
    if not len(asks["id"]):
        return empty(home.kinds["looked"])
    (records, marks), first = records_of(home), once(asks["other"], asks["id"])[0]
    ids, others = asks["other"][first], asks["id"][first]
    ours = _bodies(home, ids)
    mine = take(home.keeps("marks"), rows_of(home.keeps("marks"), ours["id"])[0])
    own, other = clusters_of((ours, mine), (records, marks))
    row, its = np.searchsorted(ours["id"], ids), np.searchsorted(records["id"], others)
    looked = {"id": ids, "other": others, "average": own.average(row, other, its), "forbidden": own.forbidden(row, other, its)}
    home.kept["looked"] = together([home.keeps("looked"), looked])
    home.kept["instead"] = together([home.keeps("instead"), {"id": asks["other"], "other": asks["former"]}])
    return looked


def renew_links(home: Home) -> None:
    """Put what was looked at into the links, and what others have answered."""
    links, new = home.keeps("links"), together([home.keeps("looked"), home.came("replies")])
    gone = together([home.keeps("instead"), {"id": new["id"], "other": new["other"]}])
    touched, _ = rows_of(links, unique(gone["id"]))
    _, number = once(*(np.concatenate([gone[name], links[name][touched]]) for name in ("id", "other")))
    stale = np.isin(number[len(gone["id"]):], number[:len(gone["id"])])
    home.kept["links"] = replaced(links, touched[stale], distinct(new, "id", "other"))
    home.kept.pop("looked", None)
    home.kept.pop("instead", None)


def clusters_of(*some: tuple[Rows, Rows]) -> list[Clusters]:
    """Of bodies by ascending id, and the marks of each."""
    marks = unique(np.concatenate([its["mark"] for _, its in some]))
    camps, images = np.split(marks, [np.searchsorted(marks, 0)])
    result = []
    for bodies, its in some:
        row, image = np.searchsorted(bodies["id"], its["id"]), its["mark"] >= 0
        seen, said = (scipy.sparse.csr_matrix(
            (its["count"][which], (row[which], np.searchsorted(names, its["mark"][which]))), (len(bodies["id"]), len(names)))
            for which, names in ((image, images), (~image, camps)))
        result.append(Clusters(bodies["size"], bodies["half"], bodies["sum"], seen, said))
    return result
