"""The same bytes are one image wherever they lie: readers keep the least uri (contract, section 2)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.parts import PHOTOS, NotReady, Parts

ORDER = ("image_key", "rank", "uri", "root", "place")
"""Of rows of images, of which the first of each key counts; `rank` is its producer's, `place` that of its part."""


def counting(rows: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """Rows of images by `ORDER`, as far as they have its columns, and of each the row of its key that counts, int64 [n]."""
    rows = rows.sort_by([(name, "ascending") for name in ORDER if name in rows.column_names])
    keys = rows["image_key"].to_numpy(zero_copy_only=False)
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] != keys[:-1]
    return rows, np.flatnonzero(first)[np.cumsum(first) - 1]


def distinct_images(workdir: str, columns: list[str], producers: Sequence[str] = (PHOTOS,)) -> pa.Table:
    """Rows of `images` with the wanted columns and `part`, one an `image_key`, sorted by it; of the first of the producers that
    has it: a photo stays a photo."""
    images, wanted = Parts(workdir, "images"), sorted({*columns, "image_key", "uri", "root"})
    ranks = [rank for rank, producer in enumerate(producers) if images.parts([producer])]
    tables = [images.read_all(wanted, [producers[rank]]) for rank in ranks]
    if not tables:
        raise NotReady(f"{images.url} holds no parts")
    table, counts = counting(pa.concat_tables([table.append_column("rank", pa.array(np.full(len(table), rank)))
                                               for rank, table in zip(ranks, tables, strict=True)]))
    return table.take(pa.array(np.unique(counts))).select([*columns, "part"]).combine_chunks()


@dataclass(frozen=True)
class Copies:
    """What does not count of `images`, since the same bytes lie elsewhere too."""

    rows: int
    of_part: dict[str, pa.Array]
    """Part -> keys of images that count in another part: what else is kept of them in parts of that name does not count."""


def copies(workdir: str, producers: Sequence[str] = (PHOTOS,)) -> Copies:
    """Which rows `distinct_images` leaves out. Held at once are 8 bytes an image, and the rows whose key occurs again."""
    images = Parts(workdir, "images")
    parts = [(rank, part) for rank, producer in enumerate(producers) for part in images.parts([producer])]
    seen = np.sort(np.concatenate([np.zeros(0, np.int64), *(_hashes(images.read(part, ["image_key"])) for _, part in parts)]))
    again = np.unique(seen[1:][seen[1:] == seen[:-1]])
    if not len(again):
        return Copies(0, {})
    tables = []
    for rank, part in parts:
        rows = images.read(part, ["image_key", "uri", "root"])
        rows = rows.filter(pa.array(np.isin(_hashes(rows), again)))
        tables.append(rows.append_column("rank", pa.array(np.full(len(rows), rank)))
                      .append_column("part", pa.array([part] * len(rows), pa.string())))
    of_part: dict[str, set[str]] = {}
    rows, counts = counting(pa.concat_tables(tables))
    for key, part, its in zip(*(rows[name].to_pylist() for name in ("image_key", "part")),
                              rows["part"].take(pa.array(counts)).to_pylist(), strict=True):
        if part != its:
            of_part.setdefault(part, set()).add(key)
    return Copies(len(rows) - len(np.unique(counts)), {part: pa.array(sorted(keys)) for part, keys in of_part.items()})


def _hashes(rows: pa.Table) -> np.ndarray:
    """int64 [n], of keys: the same for the same key, in this process."""
    return np.fromiter(map(hash, rows["image_key"].to_pylist()), np.int64, len(rows))


def of_distinct(rows: pa.Table, images: pa.Table) -> pa.Table:
    """The rows of `rows` (columns `part` and `image_key`, or `face_id`) that belong to a row of `images`."""
    if "image_key" not in rows.column_names:
        rows = rows.append_column("image_key", key_of(rows["face_id"]))
    wanted = pc.binary_join_element_wise(images["image_key"], images["part"], "/")
    have = pc.binary_join_element_wise(rows["image_key"], rows["part"], "/")
    return rows.filter(pc.is_in(have, wanted.combine_chunks()))


def key_of(face_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The keys of faces' images (contract, section 2)."""
    return pc.utf8_slice_codeunits(face_ids, 0, 32)


def by_part(rows: pa.Table) -> dict[str, pa.Table]:
    """Part -> its rows, in their order: one pass, however many parts there are."""
    coded = rows["part"].combine_chunks().dictionary_encode()
    part_of = coded.indices.to_numpy()
    order = np.argsort(part_of, kind="stable")
    ends = np.cumsum(np.bincount(part_of, minlength=len(coded.dictionary)))
    return {part: rows.take(pa.array(order[start:end])) for part, (start, end) in
            zip(coded.dictionary.to_pylist(), pairwise([0, *ends.tolist()]), strict=True)}
