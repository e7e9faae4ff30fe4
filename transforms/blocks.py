"""Parts of faces that a worker reads at once, how a face is numbered in them, and how vectors lie in parts."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.embedder import Embedder
from transforms import digests
from transforms.cells import WHOLE
from transforms.parts import Parts
from transforms.rows import from_column

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


@dataclass(frozen=True)
class Earlier:
    """Blocks that were compared before more parts came: the first of all blocks."""

    state: str
    """Names their parts."""
    count: int
    surveyed: int
    """Bytes of the parts of faces that their table of cells was made of."""

    def name(self, block: Block) -> str | None:
        """Of the parts that were made of a block, if it was there."""
        return block.name(self.state) if block.number < self.count else None


def few(workdir: str, embedder: Embedder) -> bool:
    """Whether one cell holds all faces of a work directory. Parts are opened only where there may be so few."""
    faces = Parts(workdir, "faces")
    sizes, parts = faces.sizes(), faces.parts()
    return (at_least(sum(sizes[part] for part in parts), embedder) <= WHOLE
            and sum(map(faces.rows, parts)) <= WHOLE)


def at_least(size: int, embedder: Embedder) -> int:
    """Faces that are in so many bytes of parts of faces: half of them, or more, are embeddings of float32."""
    return size // (2 * 4 * embedder.dimensions)


def blocks(workdir: str, earlier: Sequence[Sequence[str]] = ()) -> tuple[Block, ...]:
    """The valid parts of faces, in their order, in blocks; those of earlier blocks, which must be valid still, stay in these.
    One listing."""
    faces = Parts(workdir, "faces")
    sizes, taken, groups = faces.sizes(), BLOCK_BYTES, [list(parts) for parts in earlier]
    placed = {part for parts in earlier for part in parts}
    for part in (part for part in faces.parts() if part not in placed):
        if taken + sizes[part] > BLOCK_BYTES:
            taken = 0
            groups.append([])
        groups[-1].append(part)
        taken += sizes[part]
    return tuple(Block(number, tuple(parts)) for number, parts in enumerate(groups))


def from_binary(column: pa.ChunkedArray) -> np.ndarray:
    """Vectors int16 [N, D], as `rows.as_column` left them."""
    return from_column(column, np.dtype((np.int16, column.type.byte_width // 2)))
