"""One image is one row, the same one whatever else is there."""
from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas.image import IMAGES, Image
from schemas.table import to_table
from transforms.distinct import copies, distinct_images, key_of, of_distinct
from transforms.parts import PHOTOS, SYNTHETIC, NotReady, Parts


def image(key: str, uri: str, source: str = "photo") -> Image:
    return Image(key, uri, "root", None, None, None, source, 1, 1, 0, None, None)


def test_the_least_uri_is_kept_and_what_was_synthesised_takes_no_photos_place(tmp_path):
    images = Parts(str(tmp_path), "images")
    for part, rows in (("p.parquet", [image("k", "b.jpg"), image("k", "c.jpg")]),
                       ("s.parquet", [image("k", "a.tar#0,1", "generated"), image("l", "a.tar#1,1", "generated")])):
        images.write(part, to_table(rows, IMAGES))
    images.commit({PHOTOS: ["p.parquet"], SYNTHETIC: ["s.parquet"]})
    assert distinct_images(str(tmp_path), ["uri"])["uri"].to_pylist() == ["b.jpg"]
    assert distinct_images(str(tmp_path), ["uri"], (PHOTOS, SYNTHETIC))["uri"].to_pylist() == ["b.jpg", "a.tar#1,1"]
    assert distinct_images(str(tmp_path), ["uri"], (SYNTHETIC,))["uri"].to_pylist() == ["a.tar#0,1", "a.tar#1,1"]
    images.commit({PHOTOS: []})
    with pytest.raises(NotReady, match="no parts"):
        distinct_images(str(tmp_path), ["uri"])


@pytest.mark.parametrize("seed", range(8))
def test_copies_are_all_that_is_not_distinct(tmp_path, seed):
    rng, images = np.random.default_rng(seed), Parts(str(tmp_path), "images")
    names, producers = [f"{number}.parquet" for number in range(4)], (PHOTOS, SYNTHETIC)
    for part in names:  # of one key in several places, in one part too
        images.write(part, to_table([image(f"{rng.integers(12):032x}", f"{rng.integers(99)}.jpg") for _ in range(6)], IMAGES))
    images.commit({PHOTOS: names[:3], SYNTHETIC: names[3:]})
    for some in (producers, producers[:1]):
        there = images.read_all(["image_key"], some)
        faces = pa.table({"face_id": pc.binary_join_element_wise(there["image_key"], "0", ":"), "part": there["part"]})
        distinct, found = distinct_images(str(tmp_path), ["image_key"], some), copies(str(tmp_path), some)
        assert found.rows == len(there) - len(distinct) > 0
        kept = [not (part in found.of_part and key in found.of_part[part].to_pylist())
                for key, part in zip(key_of(faces["face_id"]).to_pylist(), faces["part"].to_pylist(), strict=True)]
        assert faces.filter(pa.array(kept)).equals(of_distinct(faces, distinct).select(["face_id", "part"]))
