"""Names of identities that stay the same when faces come and go, and what became of those that do not."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import numpy as np
import pyarrow as pa

from transforms import digests


def name_clusters(labels: np.ndarray, face_ids: Sequence[str], earlier: Mapping[str, str],
                  given: Mapping[int, str]) -> list[str | None]:
    """The name of each face's identity; None for an outlier, label -1. `given`: label -> a name that is known beforehand.

    Any other name is taken over from `earlier`, face_id -> identity, by the greatest number of common faces, one to one, ties
    by name, then by the cluster's least face_id. Who inherits none is named by the digest of the least face_id
    (contract, section 2), digested
    once more where an earlier identity has that name: it once began with the same face and has gone on without it."""
    least: dict[int, str] = {}
    for label, face_id in zip(labels.tolist(), face_ids, strict=True):
        if label >= 0:
            least[label] = min(face_id, least.get(label, face_id))
    name_of = dict(given) | inherited(labels, face_ids, earlier, {label: face for label, face in least.items()
                                                                  if label not in given}, set(given.values()))
    taken = set(earlier.values()) | set(given.values())
    for label in sorted(least.keys() - name_of.keys(), key=least.__getitem__):
        candidates = (digests.of(least[label], *([again] if again else [])) for again in count())
        name_of[label] = next(name for name in candidates if name not in taken)
        taken.add(name_of[label])
    return [name_of.get(label) for label in labels.tolist()]


def inherited(labels: np.ndarray, face_ids: Sequence[str], earlier: Mapping[str, str],
              least: Mapping[int, str], given: set[str]) -> dict[int, str]:
    """Label -> earlier name, for those who inherit one, of the labels in `least`, which has the least face_id of each;
    names in `given` are not to be had."""
    common = Counter((label, earlier[face_id]) for label, face_id in zip(labels.tolist(), face_ids, strict=True)
                     if label in least and face_id in earlier)
    name_of: dict[int, str] = {}
    for (label, name), _ in sorted(common.items(), key=lambda item: (-item[1], item[0][1], least[item[0][0]])):
        if label not in name_of and name not in given:
            name_of[label] = name
            given.add(name)
    return name_of


def changes(identities: pa.Table, earlier: Mapping[str, str], most: int = 20) -> Iterator[str]:
    """What became of earlier identities, a line each: who was split, who was merged; at most `most` of each.

    `identities`: face_id, identity; `earlier`: face_id -> identity."""
    now: dict[str, Counter[str]] = {}
    before: dict[str, Counter[str]] = {}
    for face_id, name in zip(identities["face_id"].to_pylist(), identities["identity"].to_pylist(), strict=True):
        if name and face_id in earlier:
            now.setdefault(earlier[face_id], Counter())[name] += 1
            before.setdefault(name, Counter())[earlier[face_id]] += 1
    for verb, all_of in (("split into", now), ("merged from", before)):
        told = [f"identity {one} is {verb} " + ", ".join(f"{other} ({count} faces)" for other, count in others.most_common())
                for one, others in sorted(all_of.items()) if len(others) > 1]
        yield from told[:most]
        if len(told) > most:
            yield f"{len(told) - most} more identities are {verb} others"
