"""Many photos from few: the same pictures encoded again, so that no two have the same bytes."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from transforms import pictures
from transforms.pictures import Limits

FACES = Path(__file__).parents[2] / "shared" / "faces" / "dev" / "images"


def reencoded(source: Path, folder: Path, count: int, longest: int | None = None, names: Sequence[str] = ()) -> Path:
    """`count` JPEGs made from the pictures of `source`, or from the named ones, in turn; the folder.

    The colour of a corner makes each different. With `longest`, they are shrunk to that many pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [pictures.decode((source / name).read_bytes(), Limits())
                 for name in names or sorted(path.name for path in source.iterdir())]
    if longest:
        originals = [pictures.resize(pixels, longest) for pixels in originals]
    for number in range(count):
        pixels = np.array(originals[number % len(originals)])
        pixels[0, 0] = number % 256, number // 256 % 256, number // 65536
        pixels[:8, :8] = pixels[0, 0]  # a whole block, so that JPEG keeps it
        PIL.Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=92)
    return folder
