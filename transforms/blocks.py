"""Parts of faces that a worker reads at once, how a face is numbered in them, and how vectors lie in parts."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.embedder import Embedder
from transforms import digests
from transforms.cells import WHOLE
from transforms.parts import Parts

BLOCK_BYTES = 32 << 20
"""Of parts of faces that a worker reads at once: some 15 thousand faces of 512 numbers."""
ROW_BITS = 24
"""Of a face's number, which says its row in its block; the others say which block."""


@dataclass(frozen=True)
class Block:
    """Parts of faces that are read at once."""

    number: int
    parts: tuple[str, ...]

    def name(self, state: str, suffix: str = "parquet") -> str:
        """Of the part of each folder that is made of the block."""
        return f"{digests.of(state, self.number)}.{suffix}"


def few(workdir: str, embedder: Embedder) -> bool:
    """Whether one cell holds all faces of a work directory. Parts are opened only where their embeddings, half of their bytes
    at least, may be so few."""
    faces = Parts(workdir, "faces")
    sizes, parts = faces.sizes(), faces.parts()
    return (sum(sizes[part] for part in parts) <= 2 * WHOLE * 4 * embedder.dimensions
            and sum(map(faces.rows, parts)) <= WHOLE)


def blocks(workdir: str) -> tuple[Block, ...]:
    """The valid parts of faces, in their order, in blocks. One listing."""
    faces = Parts(workdir, "faces")
    sizes, taken, groups = faces.sizes(), BLOCK_BYTES, list[list[str]]()
    for part in faces.parts():
        if taken + sizes[part] > BLOCK_BYTES:
            taken = 0
            groups.append([])
        groups[-1].append(part)
        taken += sizes[part]
    return tuple(Block(number, tuple(parts)) for number, parts in enumerate(groups))


def as_binary(grid: np.ndarray) -> pa.Array:
    """Rows int16 [N, D] as an Arrow column."""
    data = pa.py_buffer(np.ascontiguousarray(grid))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * grid.shape[1]), len(grid), [None, data])


def from_binary(column: pa.ChunkedArray) -> np.ndarray:
    """Rows int16 [N, D] of such a column."""
    width = column.type.byte_width
    whole = [np.frombuffer(chunk.buffers()[1], np.int16, len(chunk) * width // 2, chunk.offset * width)
             for chunk in column.chunks if len(chunk)]
    return np.concatenate([np.zeros(0, np.int16), *whole]).reshape(-1, width // 2)
