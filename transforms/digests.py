"""Keys and names: every digest, seed and draw in the project is made here.

A key is a string; whatever needs chance takes it from a digest of keys, so it is the same on any worker."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"))
"""One for all: to make one takes a quarter of the time of a digest."""


def of_bytes(data: bytes) -> str:
    """32 hex characters."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def of_files(*files: Path) -> str:
    """sha256, 64 hex characters, over the bytes of files in the given order: what weights are published with."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def of(*parts: Any) -> str:
    """32 hex characters from anything that JSON can say; the same values give the same digest anywhere."""
    return of_bytes(ENCODER.encode(parts).encode())


def number(*parts: Any) -> int:
    """An unsigned 64-bit integer drawn from the parts."""
    return int(of(*parts)[:16], 16)


def numbers(keys: Iterable[str]) -> np.ndarray:
    """A number int64 [n] from 0 drawn from each key. Their order is a draw that other keys' coming and going does not change;
    among a hundred million, two are the same once in two thousand draws (2^63 of them; birthday bound)."""
    return np.array([number(key) >> 1 for key in keys], np.int64)


def generator(*parts: Any) -> np.random.Generator:
    """A random generator seeded by the parts."""
    return np.random.default_rng(number(*parts))
