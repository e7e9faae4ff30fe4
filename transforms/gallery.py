"""Every face that can be a reference, by identity: numbers in memory, vectors in their parts."""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.table import vectors
from transforms import digests
from transforms.distinct import distinct_images, of_distinct
from transforms.parts import PHOTOS, Parts, places

SAME_PICTURE_BITS = 10
"""Perceptual hashes of 64 bits that differ in no more are one picture. On faces/dev no two different pictures differ in fewer
than 16; a picture that was shrunk and encoded again differs in 4 at most (tests). Copies that were cropped or mirrored differ
in more: those are for the near-copy bound."""
CACHED_VECTOR_BYTES = 256 * 2**20
"""Of parts' vectors kept by one process, as float16: 262 thousand of 512 numbers, a million of 128."""


def poses(keypoints: np.ndarray) -> np.ndarray:
    """float32 [N, 2] from keypoints float32 [N, 10]: how far a face is turned and tilted, about 0 for a frontal one.

    Turn: the nose's place between the eyes, in eye distances; tilt: its place between eyes and mouth, about the half."""
    points = keypoints.reshape(-1, 5, 2)
    eyes, mouth, nose = points[:, :2].mean(1), points[:, 3:].mean(1), points[:, 2]
    across, down = points[:, 1] - points[:, 0], mouth - eyes
    turn = ((nose - eyes) * across).sum(1) / np.maximum((across ** 2).sum(1), 1e-6)
    tilt = ((nose - eyes) * down).sum(1) / np.maximum((down ** 2).sum(1), 1e-6) - 0.5
    return np.stack([turn, tilt], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Gallery:
    """Candidates sorted by identity, then by a digest of their face_id; every array has one entry a candidate."""

    table: pa.Table
    """face_id, image_key, identity, part, row (in the part of `crops`), quality, clip, group, perceptual_hash."""
    pose: np.ndarray
    """float32 [N, 2], see `poses`."""

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Identity -> its first candidate and the one after its last."""
        names = self.table["identity"].to_numpy(zero_copy_only=False)
        if not len(names):
            return {}
        starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
        return {names[start]: (int(start), int(end)) for start, end in pairwise([*starts, len(names)])}

    @cached_property
    def image_keys(self) -> np.ndarray:
        return self.table["image_key"].to_numpy(zero_copy_only=False)

    @cached_property
    def clips(self) -> np.ndarray:
        """'' where unknown."""
        return pc.fill_null(self.table["clip"], "").to_numpy(zero_copy_only=False)

    @cached_property
    def groups(self) -> np.ndarray:
        """'' where unknown."""
        return pc.fill_null(self.table["group"], "").to_numpy(zero_copy_only=False)

    @cached_property
    def hashes(self) -> np.ndarray:
        """uint64 perceptual hashes."""
        return self.table["perceptual_hash"].to_numpy()

    @cached_property
    def quality(self) -> np.ndarray:
        return self.table["quality"].to_numpy()


def read_gallery(workdir: str, min_quality: float, producer: str = PHOTOS) -> Gallery:
    """The gallery of a work directory: checked crops of known people, good enough to be references."""
    columns = ["image_key", "uri", "root", "license", "perceptual_hash"]
    images = distinct_images(workdir, columns, [producer]).drop_columns(["part"])
    crops = Parts(workdir, "crops").read_all(["face_id", "crop", "face_box"], [producer])
    crops = crops.append_column("row", pa.array(places(crops["part"].to_numpy(zero_copy_only=False)), pa.int32()))
    crops = of_distinct(crops, distinct_images(workdir, ["image_key"], [producer]))
    columns = ["face_id", "group", "clip", "quality", "keypoints"]
    faces = Parts(workdir, "faces").read_all(columns, [producer]).drop_columns(["part"])
    identities = Parts(workdir, "identities").read_all(["face_id", "identity"], [producer]).drop_columns(["part"])
    table = _look_up(_look_up(_look_up(crops, "face_id", faces), "face_id", identities), "image_key", images)
    table = table.filter(pc.and_(pc.is_valid(table["identity"]), pc.greater_equal(table["quality"], min_quality)))
    shuffled = pa.array([digests.of(face_id) for face_id in table["face_id"].to_pylist()], pa.string())
    order = pc.sort_indices(pa.table({"identity": table["identity"], "shuffled": shuffled}),
                            [("identity", "ascending"), ("shuffled", "ascending")])
    table = table.take(order).combine_chunks()
    return Gallery(table.drop_columns(["keypoints"]), poses(vectors(table["keypoints"])))


def _look_up(rows: pa.Table, key: str, other: pa.Table) -> pa.Table:
    """`rows` with the columns of `other`'s row of the same key, which must be there."""
    at = pc.index_in(rows[key], other[key].combine_chunks())
    found = other.drop_columns([key]).take(at)
    for name in found.column_names:
        rows = rows.append_column(name, found[name])
    return rows


class VectorCache:
    """Vectors of parts, read when wanted, the least lately used dropped first."""

    def __init__(self, parts: Parts, most_bytes: int = CACHED_VECTOR_BYTES) -> None:
        self.parts, self.most_bytes = parts, most_bytes
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, part: str, rows: np.ndarray) -> np.ndarray:
        """float16 [len(rows), D] of one part's embeddings."""
        with self._lock:
            if part not in self._kept:
                self._kept[part] = vectors(self.parts.read(part, ["embedding"])["embedding"]).astype(np.float16)
                while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self.most_bytes:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(part)
            return self._kept[part][rows]

    def of(self, gallery: Gallery, rows: np.ndarray) -> np.ndarray:
        """float16 [len(rows), D]: embeddings of rows of the gallery."""
        picked = gallery.table.select(["part", "row"]).take(pa.array(rows))
        parts, places_ = np.array(picked["part"].to_pylist(), str), picked["row"].to_numpy()
        blocks = {part: self.rows(part, places_[parts == part]) for part in np.unique(parts).tolist()}
        found = np.zeros((len(rows), max((block.shape[1] for block in blocks.values()), default=0)), np.float16)
        for part, block in blocks.items():
            found[parts == part] = block
        return found


def hash_distance(one: int, others: np.ndarray) -> np.ndarray:
    """Differing bits, int [N], of a perceptual hash and uint64 [N] others."""
    return np.bitwise_count(np.uint64(one) ^ others)


@dataclass(frozen=True)
class Origin:
    """A picture that others must not show again: a target, or a photo that somebody in it was cut out of."""

    image_key: str
    perceptual_hash: int
    clip: str
    """'' where unknown."""


@dataclass(frozen=True)
class Photos:
    """All distinct photos of a work directory, by image_key: what a synthesised picture's people were cut out of."""

    table: pa.Table
    """image_key (sorted), perceptual_hash, clip."""

    @cached_property
    def keys(self) -> np.ndarray:
        return self.table["image_key"].to_numpy(zero_copy_only=False)

    def origin(self, image_key: str) -> Origin:
        row = self.table.slice(int(np.searchsorted(self.keys, image_key)), 1).to_pylist()[0]
        if row["image_key"] != image_key:
            raise KeyError(image_key)
        return Origin(image_key, row["perceptual_hash"], row["clip"] or "")


def read_photos(workdir: str) -> Photos:
    return Photos(distinct_images(workdir, ["image_key", "perceptual_hash", "clip"]))


def shown_again(gallery: Gallery, rows: np.ndarray, origins: Iterable[Origin]) -> np.ndarray:
    """bool [len(rows)]: candidates in one of these pictures, in one like it or in one of its clip."""
    again = np.zeros(len(rows), bool)
    for origin in origins:
        again |= gallery.image_keys[rows] == origin.image_key
        again |= hash_distance(origin.perceptual_hash, gallery.hashes[rows]) <= SAME_PICTURE_BITS
        if origin.clip:
            again |= gallery.clips[rows] == origin.clip
    return again


def pose_difference(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """In [0, 1], [N]: how differently faces are held; `one` float32 [2], `others` float32 [N, 2] from `poses`.

    1 is about the way from a frontal face to a three-quarter view (a nose moves half an eye distance)."""
    return np.minimum(1, np.hypot(*(others - one).T) / 0.5)
