"""Names of identities that stay the same when faces come and go."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np

from transforms import digests


def name_clusters(labels: np.ndarray, face_ids: Sequence[str], earlier: Mapping[str, str]) -> list[str | None]:
    """The name of each face's identity; None for an outlier, label -1.

    A name is taken over from `earlier`, face_id -> identity, by the greatest number of common faces, one to one, ties
    by name, then by the cluster's least face_id. Who inherits none is named by the digest of the least face_id
    (contract, section 2), digested
    once more where an earlier identity has that name: it once began with the same face and has gone on without it."""
    least: dict[int, str] = {}
    for label, face_id in zip(labels.tolist(), face_ids, strict=True):
        if label >= 0:
            least[label] = min(face_id, least.get(label, face_id))
    name_of = inherited(labels, face_ids, earlier, least)
    taken = set(earlier.values())
    for label in sorted(least.keys() - name_of.keys(), key=least.__getitem__):
        candidates = (digests.of(least[label], *([again] if again else [])) for again in count())
        name_of[label] = next(name for name in candidates if name not in taken)
        taken.add(name_of[label])
    return [name_of.get(label) for label in labels.tolist()]


def inherited(labels: np.ndarray, face_ids: Sequence[str], earlier: Mapping[str, str],
              least: Mapping[int, str]) -> dict[int, str]:
    """Label -> earlier name, for those who inherit one; `least` is the least face_id of each label."""
    common = Counter((label, earlier[face_id]) for label, face_id in zip(labels.tolist(), face_ids, strict=True)
                     if label >= 0 and face_id in earlier)
    name_of: dict[int, str] = {}
    given: set[str] = set()
    for (label, name), _ in sorted(common.items(), key=lambda item: (-item[1], item[0][1], least[item[0][0]])):
        if label not in name_of and name not in given:
            name_of[label] = name
            given.add(name)
    return name_of
