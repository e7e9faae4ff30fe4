"""Many photos from few: the same pictures encoded again, so that no two have the same bytes."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from transforms import digests, pictures
from transforms.pictures import Limits

FACES = Path(__file__).parents[2] / "shared" / "faces" / "dev" / "images"


def reencoded(source: Path, folder: Path, count: int, longest: int | None = None, names: Sequence[str] = ()) -> Path:
    """`count` JPEGs made from the pictures of `source`, or from the named ones, in turn; the folder.

    Noise in a corner makes each different. With `longest`, they are shrunk to that many pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [pictures.decode((source / name).read_bytes(), Limits())
                 for name in names or sorted(path.name for path in source.iterdir())]
    if longest:
        originals = [pictures.resize(picture, longest) for picture in originals]
    for number in range(count):
        pixels = np.array(originals[number % len(originals)])
        pixels[:16, :16] = digests.generator("photo", number).integers(0, 255, (16, 16, 3))
        PIL.Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=92)
    return folder
