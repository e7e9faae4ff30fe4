"""Who is to be composed into one picture, from which photos, before which background: drawn by chance, seeded by keys.

Everybody and everything is drawn by consistent hashing (Karger et al., STOC 1997): a scene's draw is a place on a ring of all
names, so that a photo more or less changes the few scenes that it falls into."""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.scene import Foreground, Scene, Source
from schemas.table import vectors
from transforms import digests
from transforms.distinct import distinct_images, of_distinct
from transforms.gallery import Gallery, Origin, read_gallery, shown_again
from transforms.parts import Parts

PEOPLE = {2: 0.10, 3: 0.20, 4: 0.20, 5: 0.16, 6: 0.14, 7: 0.10, 8: 0.10}
"""Share of the scenes that are to have so many people: mostly three and more, which is what public sets lack (design)."""
LEAST_FACE = 100
"""Side of a face, pixels, below which nobody is cut out: the face in dlib's chip is that wide."""
SPARE = 3
"""People who are cast beyond those: of 111 scenes of faces/dev without any, 25 were left with fewer than two."""
BELOW = 0.7
"""Least height of the photo below a face, in sides of the face: neck and shoulders."""
ROOM = 2.6
"""Least distance to the next face, from middle to middle, in sides of the face. Nearer people's bodies are cut out with one
another: seen on the group pictures of faces/dev."""
SHOULDER = 1.4
"""From the middle of a face to the end of a shoulder, in sides of the face: seen on faces/dev."""
LEAST_BACKGROUND = 360
"""Shorter side of a photo that can be a background, pixels."""
WALLS = 0.4
"""Share of the scenes before a drawn wall, where there are photos without a face too."""
MARKS = 16
"""Places on a ring for each name: people are then drawn about equally often (standard deviation 1/4)."""


class Ring:
    """Names on a circle."""

    def __init__(self, names: Sequence[str], marks: int = MARKS) -> None:
        self._marks = sorted((digests.number("ring", name, mark), place) for place, name in enumerate(names)
                             for mark in range(marks))

    def walk(self, start: int) -> Iterator[int]:
        """Places of all names in the sequence that was given, each once, as they follow `start` (of 64 bits)."""
        at = bisect_left(self._marks, (start, -1))
        seen = set()
        for step in range(len(self._marks)):
            place = self._marks[(at + step) % len(self._marks)][1]
            if place not in seen:
                seen.add(place)
                yield place


@dataclass
class Cast:
    """Everybody who can be cut out, and the photos that nobody is in."""

    gallery: Gallery
    boxes: np.ndarray
    """float32 [N, 4] of the gallery's faces."""
    keypoints: np.ndarray
    """float32 [N, 10]."""
    parts: list[str]
    """[N], of `faces`."""
    eligible: np.ndarray
    """bool [N]: large enough, alone enough, with shoulders."""
    roomy: np.ndarray
    """bool [N]: those whose photo shows both shoulders, as far as one can tell from the face."""
    others: dict[str, list[tuple[str, tuple[float, ...]]]]
    """image_key -> face_id and box of each of its faces."""
    backgrounds: list[Source]
    _rings: dict[str, Ring] = field(default_factory=dict)

    @cached_property
    def people(self) -> list[str]:
        """Who has a face that can be cut out, and another picture for a reference."""
        return sorted(name for name in self.gallery.spans if any(True for _ in self.faces(name, 0)))

    @cached_property
    def ring(self) -> Ring:
        return Ring(self.people)

    @cached_property
    def background_ring(self) -> Ring:
        return Ring([source.image_key for source in self.backgrounds])

    def faces(self, name: str, start: int) -> Iterator[int]:
        """Rows of the gallery: a person's faces that can be cut out and leave a reference, the roomy ones first."""
        first, end = self.gallery.spans[name]
        if name not in self._rings:
            self._rings[name] = Ring(self.gallery.table["face_id"].slice(first, end - first).to_pylist())
        found = [first + place for place in self._rings[name].walk(start)
                 if self.eligible[first + place] and self._leaves_reference(first, end, first + place)]
        yield from sorted(found, key=lambda row: not self.roomy[row])  # stable: else as they follow one another

    def _leaves_reference(self, first: int, end: int, row: int) -> bool:
        """Whether a person is seen in a picture that is not the row's, nor like it, nor of its clip."""
        gallery = self.gallery
        origin = Origin(gallery.image_keys[row], int(gallery.hashes[row]), gallery.clips[row])
        return not shown_again(gallery, np.arange(first, end), [origin]).all()

    def foreground(self, row: int) -> Foreground:
        about = self.gallery.table.slice(row, 1).to_pylist()[0]
        return Foreground(_source(about), self.parts[row], about["face_id"], about["identity"], tuple(self.boxes[row].tolist()),
                          tuple(self.keypoints[row].tolist()),
                          tuple(box for face_id, box in self.others[about["image_key"]] if face_id != about["face_id"]))


def _source(row: dict) -> Source:
    return Source(row["image_key"], row["root"], row["uri"], row["license"])


def photos_of_people(workdir: str) -> int:
    """How many distinct photos show somebody known."""
    known = Parts(workdir, "identities").read_all(["face_id", "identity"])
    face_ids = known["face_id"].filter(pc.is_valid(known["identity"]))
    return len(pc.unique(pc.utf8_slice_codeunits(face_ids, 0, 32)))


def read_cast(workdir: str, min_quality: float) -> Cast:
    """The cast of a work directory's photos; `min_quality`: of a face that is cut out."""
    gallery = read_gallery(workdir, min_quality)
    images = distinct_images(workdir, ["image_key", "root", "uri", "license", "width", "height"])
    faces = of_distinct(Parts(workdir, "faces").read_all(["face_id", "image_key", "box", "keypoints"]), images)
    all_boxes = vectors(faces["box"])
    others: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
    for face_id, image_key, box in zip(faces["face_id"].to_pylist(), faces["image_key"].to_pylist(), all_boxes.tolist(),
                                       strict=True):
        others.setdefault(image_key, []).append((face_id, tuple(box)))
    at = pc.index_in(gallery.table["face_id"], faces["face_id"].combine_chunks()).to_numpy()
    boxes = all_boxes[at]
    image = pc.index_in(gallery.table["image_key"], images["image_key"].combine_chunks())
    widths, heights = (images[name].take(image).to_numpy().astype(np.float64) for name in ("width", "height"))
    eligible = has_room(boxes, heights, [[box for face_id, box in others[key] if face_id != mine] for key, mine in
                                         zip(gallery.image_keys, gallery.table["face_id"].to_pylist(), strict=True)])
    empty = images.filter(pc.invert(pc.is_in(images["image_key"], pa.array(sorted(others), pa.string()))))
    empty = empty.filter(pc.greater_equal(pc.min_element_wise(empty["width"], empty["height"]), LEAST_BACKGROUND))
    parts = faces["part"].take(pa.array(at)).to_pylist()
    return Cast(gallery, boxes, vectors(faces["keypoints"])[at], parts, eligible, roomy(boxes, widths), others,
                [_source(row) for row in empty.to_pylist()])


def sides_of(boxes: np.ndarray) -> np.ndarray:
    """The longer side of each box, [N]; boxes [N, 4]."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])


def roomy(boxes: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """bool [N]: whether there is `SHOULDER` on both sides of a face; boxes float32 [N, 4], widths [N] of their photos."""
    middles = (boxes[:, 0] + boxes[:, 2]) / 2
    return np.minimum(middles, widths - middles) >= SHOULDER * sides_of(boxes)


def has_room(boxes: np.ndarray, heights: np.ndarray, others: Sequence[Sequence[tuple[float, ...]]]) -> np.ndarray:
    """bool [N]: whether a face's person can be cut out; boxes float32 [N, 4], heights [N] of their photos, others: boxes of
    each photo's other faces."""
    sides = sides_of(boxes)
    room = (sides >= LEAST_FACE) & (heights - boxes[:, 3] >= BELOW * sides)
    for row in np.flatnonzero(room).tolist():
        if others[row]:
            near = np.asarray(others[row])
            apart = np.hypot(*((near[:, :2] + near[:, 2:]) / 2 - (boxes[row, :2] + boxes[row, 2:]) / 2).T)
            room[row] = (apart >= ROOM * sides[row]).all()
    return room


def scenes(cast: Cast, count: int, seed: int) -> list[Scene]:
    """At most `count` scenes, each of two people or more."""
    proposed = (scene(cast, number, seed) for number in range(count if len(cast.people) > 1 else 0))
    return [one for one in proposed if len(one.foregrounds) > 1]


def scene(cast: Cast, number: int, seed: int) -> Scene:
    """One scene, in which everybody is once; one photo gives one person, so that fewer than two may be left."""
    def draw(*what: object) -> int:
        return digests.number("scene", seed, number, *what)

    wanted = int(digests.generator("people", seed, number).choice(list(PEOPLE), p=list(PEOPLE.values())))
    chosen: dict[str, int] = {}
    pictures: set[str] = set()
    for place in _in_turn(cast.ring.walk, lambda turn: draw("person", turn), min(wanted + SPARE, len(cast.people))):
        name = cast.people[place]
        row = next((row for row in cast.faces(name, draw("face", name)) if cast.gallery.image_keys[row] not in pictures), None)
        if row is not None:
            chosen[name] = row
            pictures.add(cast.gallery.image_keys[row])
    drawn = not cast.backgrounds or draw("wall") % 1000 < 1000 * WALLS
    background = None if drawn else cast.backgrounds[next(cast.background_ring.walk(draw("background")))]
    return Scene(number, draw("seed") >> 1, min(wanted, len(chosen)),
                 tuple(cast.foreground(row) for row in chosen.values()), background)


def _in_turn(walk: Callable[[int], Iterator[int]], start: Callable[[int], int], count: int) -> list[int]:
    """`count` different places, each the first new one from a place of its own on."""
    found: list[int] = []
    for turn in range(count):
        found.append(next(place for place in walk(start(turn)) if place not in found))
    return found
