"""Who is drawn for what is known of all faces."""
from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from transforms import cells, digests
from transforms.blocks import Block
from transforms.parts import Parts
from transforms.space import LEARNED
from transforms.survey import FindCopies, KeyImages, are_drawn, buckets


def test_the_sample_is_all_of_few_faces_and_no_more_of_many_than_is_needed():
    ids = digests.numbers(f"{number:032x}:0" for number in range(200_000))
    learned, middles = LEARNED / 200_000, cells.SAMPLE * 16 / cells.CELL
    assert are_drawn(ids, 16, LEARNED).all()
    assert are_drawn(ids, 1, 200_000).mean() == pytest.approx(learned, rel=0.02)
    some, fewer = are_drawn(ids, 16, 200_000), are_drawn(ids, 16, 10_000_000)
    assert some.mean() == pytest.approx(middles, rel=0.02)
    assert fewer.mean() == pytest.approx(cells.SAMPLE * cells.CENTRES / 10_000_000, rel=0.05) and some[fewer].all()


@pytest.mark.parametrize("count", [1, 3, 256])
def test_copies_are_found_in_any_number_of_buckets(count, tmp_path):
    rng = np.random.default_rng(0)
    blocks = [Block(number, (f"{number}-0.parquet", f"{number}-1.parquet")) for number in range(3)]
    there: dict[str, list[tuple[str, int, int]]] = {}
    for block in blocks:
        for number, part in enumerate(block.parts):
            keys = [f"{key:032x}" for key in rng.choice(20, 9, replace=False)]
            uris = [f"{rng.integers(10**9)}.jpg" for _ in keys]
            for key, uri in zip(keys, uris, strict=True):
                there.setdefault(key, []).append((uri, block.number, number))
            table = pa.table({"image_key": keys, "uri": uris, "root": ["photos"] * len(keys)})
            Parts(str(tmp_path), "images").write(part, table)
    expected = {(block, number, key) for key, places in there.items() for _, block, number in sorted(places)[1:]}
    of_bucket: dict[int, list[bytes]] = {}
    for block in blocks:
        for bucket, data in KeyImages(str(tmp_path), count).process(block):
            of_bucket.setdefault(bucket, []).append(data)
    assert set(of_bucket) == {digests.number(key) % count for key in there}
    found = [(block, number, key) for each in of_bucket.items() for block, copies in FindCopies().process(each)
             for number, key in copies]
    assert len(found) == len(expected) and set(found) == expected


@pytest.mark.parametrize(("images", "blocks"), [(10**3, 1), (10**6, 50), (10**8, 67), (10**8, 5000)])
def test_a_bucket_of_images_stays_small_with_and_without_faces(images, blocks):
    in_parts, passed = 39, 100  # bytes an image (transforms.survey)
    assert images * passed / buckets(images * in_parts, blocks) < 4e6  # half of what a key's values may be
