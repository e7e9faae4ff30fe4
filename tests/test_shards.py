"""Which sample goes where, and tars whose bytes depend on their members alone."""
from __future__ import annotations

import io
import subprocess
import tarfile

import numpy as np
import pyarrow as pa

from transforms import digests
from transforms.shards import BYTES_PER_PIXEL, npz, plan, write_members


def samples(count: int, references: int = 2, split: str = "train", pixels: float = 1.0) -> pa.Table:
    return pa.table({"key": [digests.of(n) for n in range(count)], "split": [split] * count,
                     "references": [references] * count, "part": ["p"] * count, "row": list(range(count)),
                     "pixels": np.full(count, pixels)})


def test_one_sample_more_moves_no_other():
    def places(count: int) -> dict[int, str]:
        shards = plan(samples(count, pixels=1000), int(130 * 1000 * BYTES_PER_PIXEL))
        return {row: shard.path for shard in shards for _, row in shard.rows}

    before, after = places(1000), places(1001)
    assert len(before) == 1000 and all(after[row] == path for row, path in before.items())
    assert len(set(before.values())) == 8


def test_configs_and_splits_have_shards_of_their_own_sorted_by_key():
    table = pa.concat_tables([samples(5), samples(5, 3), samples(5, 3, "val")])
    shards = plan(table, 10 ** 9)
    assert [shard.path for shard in shards] == ["refs-2/train-000000", "refs-3/train-000000", "refs-3/val-000000"]
    keys = table["key"].to_pylist()
    assert all([keys[row] for _, row in shard.rows] == sorted(keys[row] for _, row in shard.rows) for shard in shards)


def test_no_samples_give_no_shards():
    assert plan(samples(0), 100) == []


def test_a_tar_is_plain_ustar_and_says_nothing_of_its_maker(tmp_path):
    members = [("k.json", b"{}"), ("k.target.jpg", b"x" * 1000)]
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer in buffers:
        write_members(buffer, members)
    assert buffers[0].getvalue() == buffers[1].getvalue()
    assert buffers[0].getvalue()[257:263] == b"ustar\0"
    (tmp_path / "s.tar").write_bytes(buffers[0].getvalue())
    assert subprocess.check_output(["tar", "-tf", str(tmp_path / "s.tar")], text=True).split() == ["k.json", "k.target.jpg"]
    with tarfile.open(tmp_path / "s.tar") as tar:
        assert {(info.mtime, info.uid, info.gid, info.mode, info.uname) for info in tar} == {(0, 0, 0, 0o644, "")}


def test_arrays_give_the_same_bytes_at_any_time(monkeypatch):
    target = np.ones((2, 8), np.float16)
    first = npz(target=target, refs=target)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert npz(target=target, refs=target) == first
    assert np.load(io.BytesIO(first), allow_pickle=False)["refs"].dtype == np.float16
