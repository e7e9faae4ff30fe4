"""One image is one row, the same one whatever else is there."""
from __future__ import annotations

import pytest

from schemas.image import IMAGES, Image
from schemas.table import to_table
from transforms.distinct import distinct_images
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
