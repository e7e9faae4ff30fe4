"""The same bytes are one image wherever they lie: readers keep the least uri (contract, section 2)."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.parts import PHOTOS, NotReady, Parts


def distinct_images(workdir: str, columns: list[str], producers: Sequence[str] = (PHOTOS,)) -> pa.Table:
    """Rows of `images` with the wanted columns and `part`, one an `image_key`, sorted by it; of the first of the producers that
    has it: a photo stays a photo."""
    images, wanted = Parts(workdir, "images"), sorted({*columns, "image_key", "uri", "root"})
    ranks = [rank for rank, producer in enumerate(producers) if images.parts([producer])]
    tables = [images.read_all(wanted, [producers[rank]]) for rank in ranks]
    if not tables:
        raise NotReady(f"{images.url} holds no parts")
    table = pa.concat_tables([table.append_column("rank", pa.array(np.full(len(table), rank)))
                              for rank, table in zip(ranks, tables, strict=True)])
    table = table.sort_by([(name, "ascending") for name in ("image_key", "rank", "uri", "root")])
    keys = table["image_key"].to_numpy(zero_copy_only=False)
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] != keys[:-1]
    return table.filter(pa.array(first)).select([*columns, "part"]).combine_chunks()


def of_distinct(rows: pa.Table, images: pa.Table) -> pa.Table:
    """The rows of `rows` (columns `part` and `image_key`, or `face_id`) that belong to a row of `images`."""
    if "image_key" not in rows.column_names:
        rows = rows.append_column("image_key", pc.utf8_slice_codeunits(rows["face_id"], 0, 32))
    wanted = pc.binary_join_element_wise(images["image_key"], images["part"], "/")
    have = pc.binary_join_element_wise(rows["image_key"], rows["part"], "/")
    return rows.filter(pc.is_in(have, wanted.combine_chunks()))


def by_part(rows: pa.Table) -> dict[str, pa.Table]:
    """Part -> its rows, in their order: one pass, however many parts there are."""
    coded = rows["part"].combine_chunks().dictionary_encode()
    part_of = coded.indices.to_numpy()
    order = np.argsort(part_of, kind="stable")
    ends = np.cumsum(np.bincount(part_of, minlength=len(coded.dictionary)))
    return {part: rows.take(pa.array(order[start:end])) for part, (start, end) in
            zip(coded.dictionary.to_pylist(), pairwise([0, *ends.tolist()]), strict=True)}
