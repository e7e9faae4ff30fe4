"""Names of people that stay the same when faces come and go, in steps of `transforms.homes`.

    faces: what their people were called before -> people: what they would like to be called -> names: whose they are
    -> people that want one name in a circle, in one home -> faces and neighbours are told

A name that is known beforehand comes first. Any other is taken over from earlier identities by the greatest number of common
faces, one to one, ties by name, then by the person's least face_id. Who inherits none is named by the digest of the least
face_id (contract, section 2), and a number where an earlier identity has that name: it once began with the same face and has
gone on without it."""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import digests
from transforms.failure import Failure
from transforms.homes import Home, Step
from transforms.known import CAMP, CORRECTIONS, PERSON
from transforms.rows import TEXT, Kind, Rows, codes, distinct, once, take

NAMED, DESCRIBED, PARTED, JOINED = "named", "described", "parted", "joined"
"""Tables that are kept in the end: faces with their names, people by theirs, and earlier people with the names that their faces
have now, or people with the names that theirs had, where there are several."""


def kinds() -> dict[str, Kind]:
    """All tables."""
    number, real, flag = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_)
    named = {"id": number, "name": TEXT}
    counted = {**named, "count": number}
    return {
        # sent first
        "called": {"id": number, "face_id": TEXT},  # faces
        "before": named,  # what faces were called
        "existing": {"name": TEXT},  # kept too
        "known_as": named,  # faces
        "in_camps": {"id": number, "camp": number, "one": number, "face_id": TEXT},  # faces; who shares `one` is one person
        # kept
        "claims": counted,  # a person's faces that had the name
        "titles": {**named, "face_id": TEXT, "fallback": TEXT},  # "" where none is known; the least face_id
        "neighbours": {"id": number, "other": number},  # people to whom one is the nearest
        NAMED: {"face": number, "name": TEXT, "similarity": real},
        DESCRIBED: {"name": TEXT, "size": number, "similarity": real, "nearest": TEXT, "value": real, "earlier": TEXT},
        PARTED: {"name": TEXT, "other": TEXT, "count": number},
        JOINED: {"name": TEXT, "other": TEXT, "count": number},
        # sent
        "leasts": {"id": number, "face_id": TEXT},
        "wanted": {**counted, "face_id": TEXT, "first": flag},
        "candidates": named,
        "given": {"name": TEXT},
        "granted": named,
        "refused": named,
        "fallback": named,
        "undecided": {**counted, "face_id": TEXT},
        "answers": named,  # to faces, by their person
        "nearest_names": named,
        "fates": {"name": TEXT, "other": TEXT, "count": number},
    }


def steps() -> Iterator[Step]:
    """From `people.steps` and the letters above to the names of all."""
    yield from (Remember(), Want(), Grant(), Wait(), Decide(), Entitle(), Enrol())


NUMBERED = re.compile(r"-\d+$")


def near(names: Iterable[str]) -> np.ndarray:
    """By which the home of names is found, int64 [n]: those that differ by a number at the end have one."""
    return digests.numbers(NUMBERED.sub("", name) for name in names)


def letters_before(ids: np.ndarray, names: np.ndarray) -> Iterator[tuple[str, np.ndarray, Rows]]:
    """What earlier identities come in as: names str [n] of faces int64 [n]."""
    yield "before", ids, {"id": ids, "name": names}
    existing = np.unique(names)
    yield "existing", near(existing), {"name": existing}


def letters_said(said: pa.Table) -> Iterator[tuple[str, np.ndarray, Rows]]:
    """What is said beforehand comes in as, from `known.said_of`."""
    rows = said.filter(pc.and_(pc.equal(said["what"], PERSON), pc.is_valid(said["name"])))
    ids = rows["id"].to_numpy()
    yield "known_as", ids, {"id": ids, "name": rows["name"].to_numpy(zero_copy_only=False)}
    rows = said.filter(pc.equal(said["what"], CAMP))
    ids = rows["id"].to_numpy()
    yield "in_camps", ids, {"id": ids, "camp": rows["number"].to_numpy(), "one": rows["one"].to_numpy(),
                            "face_id": rows["face_id"].to_numpy(zero_copy_only=False)}


class Remember:
    """Faces tell their person what they are called, and what that person has been called."""

    def __call__(self, home: Home) -> None:
        home.kept["existing"] = distinct(home.came("existing"), "name")
        results, called = home.keeps("results"), home.came("called")
        stays = np.flatnonzero(~results["lost"])
        ids, head = results["id"][stays], results["head"][stays]
        called = take(called, np.flatnonzero(np.isin(called["id"], ids)))
        called = take(called, np.argsort(called["id"]))  # as results are
        order = np.lexsort((codes(called["face_id"]), head))
        first = order[np.diff(head[order], prepend=-1) != 0]
        home.send("leasts", head[first], {"id": head[first], "face_id": called["face_id"][first]})
        before = _of_people(home.came("before"), ids, head)
        claims = _added_up({**before, "count": np.ones(len(before["id"]), np.int64)}, "id", "name")
        home.send("claims", claims["id"], claims)
        for name in ("known_as", "in_camps"):
            said = _of_people(home.came(name), ids, head)
            home.send(name, said["id"], said)


def _of_people(told: Rows, ids: np.ndarray, head: np.ndarray) -> Rows:
    """What is told of faces, as told of their people: of ids int64 [n], ascending, whose people are int64 [n], of no others."""
    told = take(told, np.flatnonzero(np.isin(told["id"], ids)))
    return {**told, "id": head[np.searchsorted(ids, told["id"])]}


def _added_up(rows: Rows, *columns: str) -> Rows:
    """Each combination of columns once, with the sum of its counts."""
    first, number = once(*(rows[name] for name in columns))
    return {**take(rows, first), "count": np.bincount(number, rows["count"], len(first)).astype(np.int64)}


def _first_choices(claims: Rows) -> np.ndarray:
    """Of claims of people, by ascending id, the rows int64 [m] of what each was called most."""
    order = np.lexsort((codes(claims["name"]), -claims["count"], claims["id"]))
    return order[np.diff(claims["id"][order], prepend=-1) != 0]


class Want:
    """People say which names they want, and what they will be called if they get none.

    Raises Failure where a correction joins people who are known to be two."""

    def __call__(self, home: Home) -> None:
        _check(home.came("in_camps"))
        titles = home.came("leasts")
        titles = take(titles, np.lexsort((codes(titles["face_id"]), titles["id"])))
        titles = take(titles, once(titles["id"])[0])
        claims, known = _added_up(home.came("claims"), "id", "name"), distinct(home.came("known_as"), "id")
        names = np.full(len(titles["id"]), "", TEXT)
        names[np.searchsorted(titles["id"], known["id"])] = known["name"]
        home.kept["titles"] = {**titles, "name": names, "fallback": np.full(len(names), "", TEXT)}
        home.kept["claims"] = claims
        people = home.keeps("people")
        social = np.flatnonzero(people["nearest"] >= 0)
        home.send("neighbours", people["nearest"][social], {"id": people["nearest"][social], "other": people["id"][social]})
        home.send("given", near(known["name"]), {"name": known["name"]})
        first = np.zeros(len(claims["id"]), bool)
        first[_first_choices(claims)] = True
        wanted = {**claims, "face_id": titles["face_id"][np.searchsorted(titles["id"], claims["id"])], "first": first}
        wanted = take(wanted, ~np.isin(wanted["id"], known["id"]))
        home.send("wanted", near(wanted["name"]), wanted)
        open_ = np.flatnonzero(names == "")
        own = _own_names(titles["face_id"][open_])
        home.send("candidates", near(own), {"id": titles["id"][open_], "name": own})


def _own_names(face_ids: np.ndarray) -> np.ndarray:
    """What people are called who inherit no name, str [n], by their least face_ids."""
    return np.array([digests.of(face_id) for face_id in face_ids], TEXT)


def _check(in_camps: Rows) -> None:
    rows = take(in_camps, np.lexsort((codes(in_camps["face_id"]), in_camps["one"], in_camps["camp"], in_camps["id"])))
    same = (np.diff(rows["id"]) == 0) & (np.diff(rows["camp"]) == 0)
    for at in np.flatnonzero(same & (np.diff(rows["one"]) != 0)):
        one, other = rows["face_id"][at + 1], rows["face_id"][at]
        raise Failure(f"{CORRECTIONS} merges the people of {one} and {other}, who are said to be two: mend one of the two")


class Grant:
    """A name goes to whom it belongs most, if that person wants no other name more; what is given beforehand to nobody else."""

    def __call__(self, home: Home) -> None:
        home.kept["neighbours"] = home.came("neighbours")
        wanted, given = home.came("wanted"), set(home.came("given")["name"])
        wanted = take(wanted, np.lexsort((codes(wanted["face_id"]), -wanted["count"], codes(wanted["name"]))))
        best, number = once(wanted["name"])  # the first row of each
        free = np.array([name not in given for name in wanted["name"][best]], bool)
        settled = wanted["first"][best] | ~free
        granted, refused = np.zeros(len(number), bool), settled[number]
        granted[best[settled & free]] = True
        refused &= ~granted
        for name, some in (("granted", granted), ("refused", refused)):
            home.send(name, wanted["id"][some], {"id": wanted["id"][some], "name": wanted["name"][some]})
        candidates, taken = home.came("candidates"), given | set(home.keeps("existing")["name"])
        home.kept.pop("existing", None)
        lost = np.flatnonzero([name in taken for name in candidates["name"]])
        other = np.array([_numbered(name, taken) for name in candidates["name"][lost]], TEXT)
        home.send("fallback", candidates["id"][lost], {"id": candidates["id"][lost], "name": other})


def _numbered(name: str, taken: set[str]) -> str:
    return next(other for number in count(2) if (other := f"{name}-{number}") not in taken)


class Wait:
    """Who got no name, and may still get one, goes to one home: of such there are few, among whom faces have changed places."""

    def __call__(self, home: Home) -> None:
        titles = _with(home.keeps("titles"), "name", home.came("granted"))
        home.kept["titles"] = titles = _with(titles, "fallback", home.came("fallback"))
        claims, refused = home.keeps("claims"), home.came("refused")
        _, number = once(*(np.concatenate([refused[name], claims[name]]) for name in ("id", "name")))
        gone = np.isin(number[len(refused["id"]):], number[:len(refused["id"])])
        waiting = take(claims, np.isin(claims["id"], titles["id"][titles["name"] == ""]) & ~gone)
        face_ids = titles["face_id"][np.searchsorted(titles["id"], waiting["id"])]
        home.send("undecided", np.zeros(len(face_ids), np.int64), {**waiting, "face_id": face_ids})


def _with(titles: Rows, column: str, named: Rows) -> Rows:
    """Titles with names that came in, as one of their columns."""
    names = titles[column].copy()
    names[np.searchsorted(titles["id"], named["id"])] = named["name"]
    return {**titles, column: names}


class Decide:
    """Of those who wait, the most common faces first."""

    def __call__(self, home: Home) -> None:
        rows = home.came("undecided")
        order = np.lexsort((codes(rows["face_id"]), codes(rows["name"]), -rows["count"]))
        name_of: dict[int, str] = {}
        gone: set[str] = set()
        for person, name in zip(rows["id"][order].tolist(), rows["name"][order], strict=True):
            if person not in name_of and name not in gone:
                name_of[person] = name
                gone.add(name)
        ids = np.array(list(name_of), np.int64)
        home.send("granted", ids, {"id": ids, "name": np.array(list(name_of.values()), TEXT)})


class Entitle:
    """Everybody has a name, and tells it to the own faces, to whom one is nearest, and to the names that the faces had."""

    def __call__(self, home: Home) -> None:
        titles, claims = _with(home.keeps("titles"), "name", home.came("granted")), home.keeps("claims")
        new = np.flatnonzero(titles["name"] == "")
        fallback = titles["fallback"][new]
        titles["name"][new] = np.where(fallback == "", _own_names(titles["face_id"][new]), fallback)
        home.kept["titles"] = titles

        def name_of(ids: np.ndarray) -> np.ndarray:
            return titles["name"][np.searchsorted(titles["id"], ids)]

        members = home.keeps("members")
        members = take(members, np.isin(members["id"], titles["id"]))
        first, _ = once(members["id"], home.home_of(members["face"]))
        home.send("answers", members["face"][first], {"id": members["id"][first], "name": name_of(members["id"][first])})
        neighbours = home.keeps("neighbours")
        home.kept.pop("neighbours", None)
        home.send("nearest_names", neighbours["other"], {"id": neighbours["other"], "name": name_of(neighbours["id"])})
        fates = {"name": claims["name"], "other": name_of(claims["id"]), "count": claims["count"]}
        home.send("fates", near(claims["name"]), fates)
        home.kept[JOINED] = _several({"name": fates["other"], "other": fates["name"], "count": fates["count"]})


def _several(fates: Rows) -> Rows:
    """Of names that have several others, by name and share."""
    fates = take(fates, np.lexsort((codes(fates["other"]), -fates["count"], codes(fates["name"]))))
    _, number = once(fates["name"])
    return take(fates, np.bincount(number, minlength=1)[number] > 1)


class Enrol:
    """What is told of faces and of people, all by names."""

    def __call__(self, home: Home) -> None:
        results, told = home.keeps("results"), home.came("answers")
        told = take(told, np.argsort(told["id"]))
        names = np.full(len(results["id"]), None, TEXT)
        stays = np.flatnonzero(~results["lost"])
        names[stays] = told["name"][np.searchsorted(told["id"], results["head"][stays])]
        home.kept[NAMED] = {"face": results["face"], "name": names, "similarity": results["similarity"]}
        people, titles, claims = (home.keeps(name) for name in ("people", "titles", "claims"))
        home.kept[DESCRIBED] = {
            "name": titles["name"], "size": people["size"], "similarity": people["similarity"], "value": people["value"],
            "nearest": _by_id(people["id"], home.came("nearest_names")),
            "earlier": _by_id(people["id"], take(claims, _first_choices(claims)))}
        home.kept[PARTED] = _several(home.came("fates"))


def _by_id(ids: np.ndarray, named: Rows) -> np.ndarray:
    """Names of ids int64 [n], ascending, None where there is none."""
    names = np.full(len(ids), None, TEXT)
    names[np.searchsorted(ids, named["id"])] = named["name"]
    return names
