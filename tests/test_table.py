"""Records to Parquet columns and back."""
from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.crop import Crop, crops_schema
from schemas.embedder import Embedder
from schemas.face import Detection, Face, faces_schema
from schemas.reject import REASONS, Reject
from schemas.sample import JSON_SCHEMA
from schemas.table import from_table, to_table, vectors
from tests.builders import EMBEDDER, shot

FACES = faces_schema(EMBEDDER)


def face(n: int, person_box: np.ndarray | None = None) -> Face:
    return Face(f"key:{n}", "key", None, "clip", 1.5, np.arange(4, dtype=np.float32), np.arange(10, dtype=np.float32), 0.5,
                0.25, person_box, shot("someone", n))


def test_records_come_back_from_parquet_as_they_were():
    rows = [face(0), face(1, np.array([1, 2, 3, 4], np.float32))]
    buffer = io.BytesIO()
    pq.write_table(to_table(rows, FACES), buffer)
    table = pq.read_table(buffer)
    assert table.schema.equals(FACES, check_metadata=False)
    for one, other in zip(from_table(table, Face), rows, strict=True):
        assert (one.face_id, one.group, one.clip, one.timestamp) == (other.face_id, None, "clip", 1.5)
        assert (one.embedding == other.embedding).all() and one.embedding.dtype == np.float32
        assert (one.person_box is None) == (other.person_box is None)
    assert Embedder.from_json(table.schema.metadata[b"embedding_model"], 128) == EMBEDDER


def test_no_rows_keep_their_columns():
    assert to_table([], FACES).schema.equals(FACES)
    assert vectors(to_table([], crops_schema(EMBEDDER))["embedding"]).shape == (0, 128)
    assert list(from_table(to_table([], crops_schema(EMBEDDER)), Crop)) == []


def test_vectors_of_a_slice_are_those_of_its_rows():
    rows = [face(n) for n in range(5)]
    taken = to_table(rows, FACES).slice(2, 2)
    assert (vectors(taken["embedding"]) == np.stack([row.embedding for row in rows[2:4]])).all()


@pytest.mark.parametrize(("change", "says"), [
    ({"box": np.zeros(4)}, "box is float32"), ({"keypoints": np.zeros(5, np.float32)}, "keypoints is float32"),
    ({"embedding": np.ones(8, np.float32)}, "unit vector")])
def test_a_detection_that_is_none_is_refused_with_what_came(change, says):
    good = {"box": np.zeros(4, np.float32), "keypoints": np.zeros(10, np.float32), "detection_score": 1.0, "quality": 1.0,
            "embedding": np.eye(8, dtype=np.float32)[0]}
    Detection(**good)
    with pytest.raises(ValueError, match=says):
        Detection(**{**good, **change})


def test_reasons_are_a_closed_list():
    with pytest.raises(ValueError, match="closed list"):
        Reject.of("a.jpg", "extract", "bad luck")
    steps = "images", "crops", "identities", "synthetic", "samples", "shards"
    assert all(reason.step in steps for reason in REASONS.values())


def test_the_json_has_no_type_to_be_guessed():
    assert not any(str(field.type) == "null" for field in JSON_SCHEMA)
