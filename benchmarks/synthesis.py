"""How many composites survive, and whether those who do show whom they say, on pictures whose people are known.

    python -m benchmarks.synthesis [--sheet FILE] LABELLED [-- OPTIONS OF umo-dataset build]

LABELLED is as `benchmarks.quality` has it."""
from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks.quality import Labels, match_faces, share
from pipeline import funnel
from pipeline.cli import main as umo_dataset
from schemas.scene import read_proposals
from schemas.table import vectors
from transforms import pictures, reading
from transforms.parts import SYNTHETIC, Parts

SHEET = 4, 3
"""Columns and rows of the contact sheet: twelve composites."""
TILE = 480, 320
"""Width and height of a place on it, pixels."""


@dataclass(frozen=True)
class Truth:
    """Composites held against the labels."""

    people: int
    """Faces of survivors that have a name."""
    wrong: int
    """Of these, faces named as another than was put there."""
    samples: int
    references: int
    wrong_references: int
    """References of another person than was put where their face is."""
    own: int
    """References from a photo that somebody in the composite was cut out of, or a near duplicate of one."""


def truth(workdir: str, labels: Labels) -> Truth:
    """Who was put in is known from the label of the face that was cut out."""
    found = match_faces(workdir, labels)
    proposals = {one.image_key: one for part in Parts(workdir, "synthetic", synthetic=True).parts()
                 for one in read_proposals(Parts(workdir, "synthetic").read(part)) if one.image_key}
    faces = Parts(workdir, "faces").read_all(["face_id", "image_key", "box"], [SYNTHETIC])
    there = {}
    for face_id, image_key, box in zip(faces["face_id"].to_pylist(), faces["image_key"].to_pylist(), vectors(faces["box"]),
                                       strict=True):
        middle = (box[:2] + box[2:]) / 2
        there[face_id] = next(found.person_of.get(one.face_id, "nobody known") for one in proposals[image_key].people
                              if (np.array(one.box[:2]) <= middle).all() and (middle <= one.box[2:]).all())
    votes: dict[str, Counter[str]] = {}
    for face, identity in identities(workdir, None):
        if identity and face in found.person_of:
            votes.setdefault(identity, Counter())[found.person_of[face]] += 1
    named = [(votes[identity].most_common(1)[0][0], there[face]) for face, identity in identities(workdir, [SYNTHETIC])]
    samples = references = wrong = own = 0
    for sample in Parts(workdir, "samples").read_all(["target", "references", "assignment"], [SYNTHETIC]).to_pylist():
        samples += 1
        key = sample["target"]["image_key"]
        sources = [found.uri_of[one.image_key] for one in proposals[key].people]
        for reference, face in zip(sample["references"], sample["assignment"], strict=True):
            references += 1
            wrong += found.person_of.get(reference["face_id"], "nobody") != there[f"{key}:{face}"]
            own += any(labels.same_picture(reference["uri"], source) for source in sources)
    return Truth(len(named), sum(one != other for one, other in named), samples, references, wrong, own)


def identities(workdir: str, producers: list[str] | None) -> list[tuple[str, str]]:
    table = Parts(workdir, "identities").read_all(["face_id", "identity"], producers)
    return list(zip(table["face_id"].to_pylist(), table["identity"].to_pylist(), strict=True))


def sheet(workdir: str) -> PIL.Image.Image:
    """The first survivors, by image_key: an order that chance made."""
    canvas = PIL.Image.new("RGB", (SHEET[0] * TILE[0], SHEET[1] * TILE[1]), "white")
    images = Parts(workdir, "images").read_all(["image_key", "root", "uri"], [SYNTHETIC]).sort_by("image_key")
    for place, row in enumerate(images.slice(0, SHEET[0] * SHEET[1]).to_pylist()):
        picture = pictures.decode(reading.read_again(row["root"], row["uri"]), pictures.UNLIMITED)
        picture.thumbnail((TILE[0] - 8, TILE[1] - 8), PIL.Image.Resampling.LANCZOS)
        left, top = (number * size for number, size in zip((place % SHEET[0], place // SHEET[0]), TILE, strict=True))
        canvas.paste(picture, (left + (TILE[0] - picture.width) // 2, top + (TILE[1] - picture.height) // 2))
    return canvas


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labelled", type=Path, help="folder that holds images/ and labels.json")
    parser.add_argument("--workdir", help="work directory to keep; default: a temporary one")
    parser.add_argument("--sheet", metavar="FILE", help="write twelve survivors there; default: none are written")
    parser.add_argument("options", nargs="*", help="after --: options of `umo-dataset build`")
    values = parser.parse_args(argv)
    labels = Labels(json.loads((values.labelled / "labels.json").read_text())["images"])
    with tempfile.TemporaryDirectory() as folder:
        workdir = values.workdir or f"{folder}/work"
        status = umo_dataset(["build", str(values.labelled / "images"), "--output", f"{folder}/dataset", "--workdir", workdir,
                              "--synthesize", "composite", *values.options])
        if status:
            raise SystemExit(status)
        step = next(step for step in funnel.account(workdir) if step.step == "synthetic")
        people = Counter(len(one.people) for part in Parts(workdir, "synthetic", synthetic=True).parts()
                         for one in read_proposals(Parts(workdir, "synthetic").read(part)) if not one.reason)
        known = truth(workdir, labels)
        print(f"survivors of proposed   {share(step.kept, step.came_in)}  (goal 70 %); dropped: {step.dropped or 'none'}\n"
              f"people to a composite   {', '.join(f'{count} x {number}' for number, count in sorted(people.items()))}\n"
              f"wrong people            {share(known.wrong, known.people)}\n"
              f"samples of survivors    {share(known.samples, step.kept)}\n"
              f"wrong references        {share(known.wrong_references, known.references)}\n"
              f"from cut-outs' photos   {share(known.own, known.references)}")
        if values.sheet:
            sheet(workdir).save(values.sheet, quality=90)


if __name__ == "__main__":
    main()
