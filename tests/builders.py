"""Work directories whose people are known: drawn photos with made-up faces, as `extract` would have left them."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from scipy.ndimage import zoom

from pipeline.options import recorded
from schemas.crop import Crop, crops_schema
from schemas.embedder import Embedder
from schemas.face import Face, faces_schema
from schemas.image import IMAGES, Image
from schemas.reject import REJECTS
from schemas.table import to_table
from transforms import digests, pictures
from transforms.extract import ExtractOptions
from transforms.parts import Parts

EMBEDDER = Embedder("dlib", "made-up", "0" * 64, "none needed", 128)
WIDTH, HEIGHT = 320, 200


def drawn_photo(*seed: object, width: int = WIDTH, height: int = HEIGHT) -> PIL.Image.Image:
    """Smooth colours that no other seed gives."""
    coarse = digests.generator("photo", *seed).integers(0, 255, (5, 8, 3))
    fine = np.stack([zoom(coarse[..., channel].astype(float), (height / 5, width / 8), order=1) for channel in range(3)],
                    axis=-1)
    return PIL.Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8))


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def person(name: str) -> np.ndarray:
    """float32 [128]: the middle of one person's embeddings."""
    return unit(digests.generator("person", name).standard_normal(128))


def shot(name: str, *seed: object, noise: float = 0.6) -> np.ndarray:
    """float32 [128]: one person's embedding in one picture; two of them have a cosine of about 1 / (1 + noise²)."""
    return unit(person(name) + noise * unit(digests.generator("shot", name, *seed).standard_normal(128)))


@dataclass(frozen=True)
class Photo:
    """A photo to be made: who is in it from left to right."""

    name: str
    people: tuple[str, ...]
    group: str | None = None
    clip: str | None = None
    source: str = "photo"
    license: str | None = None
    caption: str | None = None
    burst: str | None = None
    """Photos of one burst are near copies."""


def make_workdir(folder: Path, photos: list[Photo], photos_a_part: int = 4, noise: float = 0.6, scale: int = 1) -> str:
    """Draw the photos below `folder/photos`, `scale` times 320 x 200, and write what `extract` would; the work directory's
    path."""
    root, workdir = folder / "photos", str(folder / "work")
    root.mkdir(parents=True, exist_ok=True)
    options = recorded(ExtractOptions()) | {"faces": "dlib", "persons": "none"}
    names = []
    for start in range(0, len(photos), photos_a_part):
        images, faces, crops = [], [], []
        for photo in photos[start:start + photos_a_part]:
            picture = drawn_photo(photo.name, width=WIDTH * scale, height=HEIGHT * scale)
            picture.save(root / photo.name, quality=95)
            key = digests.of_bytes((root / photo.name).read_bytes())
            images.append(Image(key, photo.name, str(root), photo.group, photo.clip, None, photo.source,
                                WIDTH * scale, HEIGHT * scale,
                                pictures.perceptual_hash(picture), photo.caption, photo.license))
            for n, name in enumerate(photo.people):
                x0 = 20.0 + n * 60
                box = np.array([x0, 50, x0 + 40, 90], np.float32)
                keypoints = np.array([x0 + 12, 62, x0 + 28, 62, x0 + 20, 72, x0 + 13, 80, x0 + 27, 80], np.float32)
                embedding = shot(name, photo.burst or photo.name, noise=noise)
                if photo.burst:
                    embedding = unit(embedding + 0.1 * unit(digests.generator("burst", name, photo.name).standard_normal(128)))
                faces.append(Face(f"{key}:{n}", key, photo.group, photo.clip, None, box * scale, keypoints * scale, 1.0,
                                  0.9, None, embedding))
                crops.append(Crop(f"{key}:{n}", np.array([x0 - 10, 40, x0 + 50, 100], np.float32) * scale, 1,
                                  np.array([15, 15, 75, 75], np.float32), 1.0, embedding))
        part = f"{digests.of('made', start)}.parquet"
        names.append(part)
        Parts(workdir, "images").write(part, to_table(sorted(images, key=lambda row: row.image_key), IMAGES))
        Parts(workdir, "faces").write(part, to_table(sorted(faces, key=lambda row: row.face_id), faces_schema(EMBEDDER)))
        Parts(workdir, "crops").write(part, to_table(sorted(crops, key=lambda row: row.face_id), crops_schema(EMBEDDER)))
        Parts(workdir, "rejects").write(part, to_table([], REJECTS))
    for name in ("images", "faces", "crops", "rejects"):
        Parts(workdir, name).commit({"photos": names}, options=options)
    return workdir


def party(count: int = 6, groups: int = 6) -> list[Photo]:
    """`count` people with two photos of their own each, and pictures of two to four of them."""
    people = [f"person-{n}" for n in range(count)]
    alone = [Photo(f"alone-{name}-{take}.jpg", (name,)) for name in people for take in range(2)]
    together = [Photo(f"together-{n}.jpg", tuple(people[(n + step) % count] for step in range(2 + n % 3)))
                for n in range(groups)]
    return alone + together
