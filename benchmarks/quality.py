"""How good the faces, the identities and the samples are, on pictures whose people are known.

    python -m benchmarks.quality LABELLED [--apart PATTERN …]

LABELLED holds `images/` and `labels.json`: `images.<file>` has `faces` [{`identity`, `box`}] and, where it applies, `ignore`
(boxes that count neither way) and `near_duplicate_of`; the identity of a person seen once starts with `unknown_`."""
from __future__ import annotations

import argparse
import fnmatch
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.cli import main as umo_dataset
from schemas.table import vectors
from transforms.distinct import distinct_images, of_distinct
from transforms.parts import Parts
from transforms.scoring import Score, bcubed, pairwise

OVERLAP = 0.4
"""A detected face is the label whose box it overlaps by more than this share of the smaller box (issue "From photos to
shards")."""


@dataclass(frozen=True)
class Labels:
    """Who is where in the labelled pictures."""

    images: dict[str, dict]

    def boxes(self, uri: str) -> np.ndarray:
        return np.array([face["box"] for face in self.images[uri]["faces"]], float).reshape(-1, 4)

    def identities(self, uri: str) -> list[str]:
        return [face["identity"] for face in self.images[uri]["faces"]]

    def ignored(self, uri: str) -> np.ndarray:
        return np.array(self.images[uri].get("ignore") or [], float).reshape(-1, 4)

    def same_picture(self, one: str, other: str) -> bool:
        """Whether two files are one picture, or near duplicates."""
        origin = [self.images[uri].get("near_duplicate_of", uri) for uri in (one, other)]
        return origin[0] == origin[1]

    def possible_targets(self) -> list[str]:
        """Pictures of two or more known people, each also seen in another picture; near duplicates are left out."""
        seen = defaultdict(set)
        for uri in self.images:
            for name in self.identities(uri):
                seen[name].add(uri)

        def elsewhere(name: str, uri: str) -> bool:
            return not name.startswith("unknown_") and any(not self.same_picture(uri, other) for other in seen[name])

        return [uri for uri, about in self.images.items() if "near_duplicate_of" not in about
                and len({name for name in self.identities(uri) if elsewhere(name, uri)}) >= 2]


def overlaps(found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Intersection over the smaller box, float [N, M], of boxes [N, 4] and [M, 4]."""
    low = np.maximum(found[:, None, :2], labelled[None, :, :2])
    high = np.minimum(found[:, None, 2:], labelled[None, :, 2:])
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (found, labelled)]
    return np.prod(np.maximum(0, high - low), axis=2) / np.minimum(areas[0][:, None], areas[1][None, :])


@dataclass(frozen=True)
class Found:
    """What a build found, held against the labels."""

    person_of: dict[str, str]
    """face_id -> labelled identity, of detections that are a labelled face."""
    extra: list[str]
    """face_ids that are no labelled face and not to be ignored."""
    uri_of: dict[str, str]
    """image_key -> uri."""


def match_faces(workdir: str, labels: Labels) -> Found:
    """Detections and labels, one to one, by greatest overlap."""
    images = distinct_images(workdir, ["image_key", "uri"])
    uri_of = dict(zip(images["image_key"].to_pylist(), images["uri"].to_pylist(), strict=True))
    faces = of_distinct(Parts(workdir, "faces").read_all(["face_id", "image_key", "box"]), images)
    boxes, rows_of = vectors(faces["box"]).astype(float), defaultdict(list)
    for row, image_key in enumerate(faces["image_key"].to_pylist()):
        rows_of[image_key].append(row)
    face_ids = faces["face_id"].to_pylist()
    person_of, extra = {}, []
    for image_key, rows in rows_of.items():
        uri = uri_of[image_key]
        share = overlaps(boxes[rows], labels.boxes(uri))
        matched = {}
        for row, label in zip(*linear_sum_assignment(share, maximize=True), strict=True):
            if share[row, label] > OVERLAP:
                matched[row] = labels.identities(uri)[label]
        ignored = np.any(overlaps(boxes[rows], labels.ignored(uri)) > OVERLAP, axis=1).tolist()
        for place, row in enumerate(rows):
            if place in matched:
                person_of[face_ids[row]] = matched[place]
            elif not ignored[place]:
                extra.append(face_ids[row])
    return Found(person_of, extra, uri_of)


def identity_scores(workdir: str, found: Found, wanted: Callable[[str], bool]) -> tuple[Score, Score]:
    """BCubed and pairwise scores over the labelled faces found of the wanted people."""
    table = Parts(workdir, "identities").read_all(["face_id", "identity"])
    rows = [(found.person_of[face], name) for face, name in
            zip(table["face_id"].to_pylist(), table["identity"].to_pylist(), strict=True)
            if face in found.person_of and wanted(found.person_of[face])]
    names = sorted({name for _, name in rows if name})
    labels = np.array([names.index(name) if name else -1 for _, name in rows], np.int64)
    truth = [person for person, _ in rows]
    return bcubed(labels, truth), pairwise(labels, truth)


@dataclass(frozen=True)
class SampleScore:
    """Samples held against the labels."""

    references: int
    wrong: int
    """References of another person than the face that they stand for, or of nobody known."""
    copies: int
    """References from the target itself or its near duplicate."""
    possible: int
    built: int


def sample_scores(workdir: str, found: Found, labels: Labels, wanted: Callable[[str], bool]) -> SampleScore:
    """Over samples and possible targets that show one of the wanted people."""
    references = wrong = copies = 0
    built = set()
    for sample in Parts(workdir, "samples").read_all(["target", "references", "assignment"]).to_pylist():
        uri = sample["target"]["uri"]
        if not any(wanted(name) for name in labels.identities(uri)):
            continue
        built.add(uri)
        for reference, face in zip(sample["references"], sample["assignment"], strict=True):
            person = found.person_of.get(f"{sample['target']['image_key']}:{face}", "nobody in the target")
            references += 1
            wrong += found.person_of.get(reference["face_id"], "nobody known") != person
            copies += labels.same_picture(uri, reference["uri"])
    possible = [uri for uri in labels.possible_targets() if any(wanted(name) for name in labels.identities(uri))]
    return SampleScore(references, wrong, copies, len(possible), len(built.intersection(possible)))


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} = {part / whole:.1%}" if whole else f"{part}/{whole}"


def show(title: str, workdir: str, found: Found, labels: Labels, wanted: Callable[[str], bool]) -> None:
    """Print the scores of some of the people."""
    all_faces = [name for uri in labels.images for name in labels.identities(uri) if wanted(name)]
    hit = sum(wanted(person) for person in found.person_of.values())
    by_face, by_pair = identity_scores(workdir, found, wanted)
    samples = sample_scores(workdir, found, labels, wanted)
    print(f"{title}\n  faces found          {share(hit, len(all_faces))}\n"
          f"  identities, BCubed   precision {by_face.precision:.3f}  recall {by_face.recall:.3f}  F {by_face.f:.3f}\n"
          f"  identities, pairs    precision {by_pair.precision:.3f}  recall {by_pair.recall:.3f}\n"
          f"  wrong references     {share(samples.wrong, samples.references)}\n"
          f"  from the target      {share(samples.copies, samples.references)}\n"
          f"  targets built        {share(samples.built, samples.possible)}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labelled", type=Path, help="folder that holds images/ and labels.json")
    parser.add_argument("--apart", nargs="+", default=[], metavar="PATTERN", help="identities to report on apart")
    parser.add_argument("--workdir", help="work directory to keep; default: a temporary one")
    parser.add_argument("options", nargs="*", help="after --: options of `umo-dataset build`")
    values = parser.parse_args(argv)
    labels = Labels(json.loads((values.labelled / "labels.json").read_text())["images"])
    with tempfile.TemporaryDirectory() as folder:
        workdir = values.workdir or f"{folder}/work"
        status = umo_dataset(["build", str(values.labelled / "images"), "--output", f"{folder}/dataset",
                              "--workdir", workdir, *values.options])
        if status:
            raise SystemExit(status)
        found = match_faces(workdir, labels)
        everybody = sum(len(labels.identities(uri)) for uri in labels.images)
        print(f"extra faces            {share(len(found.extra), everybody)} of the labelled")
        show("everybody", workdir, found, labels, lambda name: True)
        if values.apart:
            show(f"apart: {' '.join(values.apart)}", workdir, found, labels,
                 lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in values.apart))


if __name__ == "__main__":
    main()
