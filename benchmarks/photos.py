"""Many photos from few: the same pictures encoded again, so that no two have the same bytes."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from transforms import pictures
from transforms.pictures import BadPicture, Limits

FACES = Path(__file__).parents[2] / "shared" / "faces" / "dev" / "images"


def reencoded(source: Path, folder: Path, count: int, longest: int | None = None, names: Sequence[str] = ()) -> Path:
    """`count` JPEGs made from the pictures of `source` in turn; with `longest`, shrunk to that many pixels.

    A corner pixel's value and the quality make each different."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = []
    for path in sorted(source.iterdir()):
        if not names or path.name in names:
            try:
                pixels = pictures.decode(path.read_bytes(), Limits())
            except BadPicture:
                continue
            originals.append(pictures.resize(pixels, longest) if longest else pixels)
    for number in range(count):
        pixels = np.array(originals[number % len(originals)])
        turn = number // len(originals)
        pixels[0, 0] = (turn % 256, turn // 256 % 256, 0)
        PIL.Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=80 + turn % 16)
    return folder
