"""Find references for the people of each target: numbers only, no pixels.

Takes names of parts of images · Gives names of finished parts of drafts and their rejects · Rejects images that cannot
be targets, with the reason"""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.embedder import Bounds
from schemas.reject import REJECTS, Reject
from schemas.sample import MAX_REFERENCES, Reference, Sample, Target, samples_schema
from schemas.scene import Proposal, read_proposals
from schemas.table import to_table, vectors
from transforms import digests, matching, progress, prompts
from transforms.cluster import embedder_of
from transforms.distinct import by_part, distinct_images, of_distinct
from transforms.face_models import bounds as bounds_of
from transforms.gallery import (
    Gallery,
    Origin,
    Photos,
    VectorCache,
    pose_difference,
    poses,
    read_gallery,
    read_photos,
    shown_again,
)
from transforms.mates import same_person_twice
from transforms.parts import PHOTOS, SYNTHETIC, Parts
from transforms.recognize import proposals_parts
from transforms.synthetic import FOLDER, synthesized

WINDOW = 64
"""Candidates of a person that a face is compared with at once, from a place on that is drawn from the face's key."""
ENOUGH = 8
"""Allowed candidates, for each sample that a target is to make, at which no further window is looked at: some of them may fail
the checks that follow, or serve another face."""
MOST_WINDOWS = 16
"""Windows that are looked at to find them. A choice: a burst of hundreds of near copies must not hide a person's other photos,
and a target must not cost more than a thousand comparisons a face."""
BYSTANDER = 0.5
"""A face without a reference counts as a bystander from this share of the smallest matched face's side on (contract, 4)."""
NEAR_COPIES = b"near_copies_refused"
"""Metadata of a part of drafts: pairs of a face and a candidate that the near-copy bound refused."""
VERSION = 3
"""Raised when the same parts and options give other samples."""


@dataclass(frozen=True)
class PairOptions:
    min_identities: int = field(default=2, metadata={
        "least": 2,
        "help": "people with a reference that a sample needs; default: %(default)s"})
    max_identities: int = field(default=MAX_REFERENCES, metadata={
        "least": 2,
        "help": "people with a reference that a sample may have; default: %(default)s"})
    max_bystanders: int = field(default=0, metadata={
        "least": 0,
        "help": "people without a reference that a target may show; default: %(default)s, for UMO's reward takes every "
                "face for a person to be reproduced"})
    min_quality: float | None = field(default=None, metadata={
        "least": 0, "most": 1,
        "help": "least quality of a reference's face, 0 to 1, where that is more than the face model's own; default: that"})
    min_margin: float | None = field(default=None, metadata={
        "least": 0, "most": 1,
        "help": "least ID-Conf margin of a reference, 0 to 1; default: the face model's own"})
    samples_per_target: int = field(default=1, metadata={
        "least": 1,
        "help": "samples with other references that one target may make; default: %(default)s"})
    val_fraction: float = field(default=0.05, metadata={
        "least": 0, "most": 0.5,
        "help": "share of the samples for the split val, which shares nobody with train; default: %(default)s"})
    seed: int = field(default=0, metadata={"help": "of everything drawn by chance; default: %(default)s"})


@dataclass(frozen=True)
class TargetFaces:
    """The faces of one image, by ascending x0."""

    target: Target
    source: str
    generator: str
    """What made it; '' for a photo or a frame."""
    seed: int
    """Of what made it; -1 for a photo or a frame."""
    caption: str
    origins: tuple[Origin, ...]
    """Itself, and the photos that its people were cut out of: none of them shows a person again as a reference."""
    face_ids: list[str]
    identities: list[str]
    """'' for nobody known."""
    boxes: np.ndarray
    """float32 [K, 4]."""
    keypoints: np.ndarray
    """float32 [K, 10]."""
    person_boxes: list[list[float]]
    embeddings: np.ndarray
    """float16 [K, D]."""
    twice: bool
    """One person is in it twice."""

    def sides(self) -> np.ndarray:
        """Shorter side of each face box, pixels, [K]."""
        return np.minimum(self.boxes[:, 2] - self.boxes[:, 0], self.boxes[:, 3] - self.boxes[:, 1])


class NoSample(Exception):
    """A target that makes no sample; `reason` is of the closed list in `schemas.reject`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass
class Candidates:
    """Who may stand for whom in one target: K faces, C candidates (rows of the gallery)."""

    rows: np.ndarray
    """int64 [C], rows of the gallery."""
    embeddings: np.ndarray
    """float16 [C, D]."""
    weights: np.ndarray
    """float64 [K, C] in [0, 2]; NaN where the pair is not allowed."""
    why_not: list[str]
    """Reason for each face that has no allowed candidate, else ''."""
    near_copies: int
    """Pairs that the near-copy bound refused."""


def others(gallery: Gallery, faces: TargetFaces, face: int) -> np.ndarray:
    """int64: rows of the gallery that show the face's person in another picture, from a place on that the face's key draws.

    Never one of its origins or a picture like it, never its clip; a frame looks in its own video first."""
    span = gallery.spans.get(faces.identities[face])
    if span is None:
        return np.zeros(0, np.int64)
    start, end = span
    turn = digests.number("shortlist", faces.face_ids[face]) % (end - start)
    rows = start + (np.arange(end - start) + turn) % (end - start)
    group = faces.target.group
    rows = rows[~shown_again(gallery, rows, faces.origins)]
    if faces.source == "frame" and group:
        rows = rows[np.argsort(gallery.groups[rows] != group, kind="stable")]
    return rows


def candidates(faces: TargetFaces, gallery: Gallery, cache: VectorCache, bounds: Bounds, enough: int) -> Candidates:
    """Whom each face may have for a reference, with what speaks for each: a good picture, another pose than the target's."""
    allowed, why_not, near_copies = [], [], 0
    for face in range(len(faces.face_ids)):
        rows, inside, refused = others(gallery, faces, face), np.zeros(0, np.int64), 0
        for start in range(0, min(len(rows), MOST_WINDOWS * WINDOW), WINDOW):
            window = rows[start:start + WINDOW]
            cosine = matching.similarity_matrix(cache.of(gallery, window), faces.embeddings[[face]])[:, 0]
            refused += int((cosine > bounds.near_copy).sum())
            inside = np.concatenate([inside, window[(cosine >= bounds.same_person) & (cosine <= bounds.near_copy)]])
            if len(inside) >= enough:
                break
        near_copies += refused
        allowed.append(inside)
        why_not.append("" if len(inside) else "one_photo_each" if not len(rows) else
                       "near_copies" if refused else "unlike_references")
    rows = np.unique(np.concatenate(allowed)) if allowed else np.zeros(0, np.int64)
    weights = np.full((len(allowed), len(rows)), np.nan)
    pose = poses(faces.keypoints)
    for face, inside in enumerate(allowed):
        weight = gallery.quality[inside] + pose_difference(pose[face], gallery.pose[inside])
        if faces.source == "frame" and faces.target.group:  # its own video first, whatever else speaks for another
            weight = weight / 2 + (gallery.groups[inside] == faces.target.group)
        weights[face, np.searchsorted(rows, inside)] = weight
    return Candidates(rows, cache.of(gallery, rows), weights, why_not, near_copies)


def match(faces: TargetFaces, found: Candidates, image_keys: np.ndarray, options: PairOptions, margin: float,
          ) -> tuple[np.ndarray, np.ndarray]:
    """Faces that get a reference and the candidate of each, int64 [N] both, such that every check holds.

    `image_keys`: [C], the image of each candidate. One assignment over all faces; a pair that fails the check
    both ways or the margin is struck out and the rest is assigned anew. Raises NoSample."""
    weights, why_not = found.weights.copy(), list(found.why_not)
    pictures, picture_of = np.unique(image_keys, return_inverse=True)
    while True:
        best = np.full((len(weights), len(pictures)), np.nan)  # one reference image serves one person
        column = np.zeros((len(weights), len(pictures)), np.int64)
        for face in range(len(weights)):
            for candidate in np.flatnonzero(~np.isnan(weights[face])):
                picture = picture_of[candidate]
                if np.isnan(best[face, picture]) or weights[face, candidate] > best[face, picture]:
                    best[face, picture], column[face, picture] = weights[face, candidate], candidate
        chosen = matching.assign(best)
        matched = np.flatnonzero(chosen >= 0)
        if len(matched) < options.min_identities:
            reasons = Counter(why for face, why in enumerate(why_not) if chosen[face] < 0 and why)
            raise NoSample(min(reasons, key=lambda why: (-reasons[why], why)) if reasons else "one_photo_each",
                           f"{len(matched)} of {len(weights)} faces have a reference")
        chosen_candidates = column[matched, chosen[matched]]
        matrix = matching.similarity_matrix(found.embeddings[chosen_candidates], faces.embeddings)
        good = matching.holds_both_ways(matrix, matched) & (matching.margins(matrix) >= margin)
        if good.all():
            return matched, chosen_candidates
        for face, candidate in zip(matched[~good], chosen_candidates[~good], strict=True):
            weights[face, candidate] = np.nan
            if np.isnan(weights[face]).all():
                why_not[face] = "not_told_apart"


def bystanders(faces: TargetFaces, matched: np.ndarray) -> list[int]:
    """Faces without a reference that are large enough to count as people."""
    sides = faces.sides()
    return [face for face in range(len(sides))
            if face not in matched and sides[face] >= BYSTANDER * sides[matched].min()]


def check_target(faces: TargetFaces, options: PairOptions) -> None:
    """Raises NoSample where the image cannot be a target, whatever the references."""
    if len(faces.face_ids) < max(2, options.min_identities):
        raise NoSample("too_few_people", f"{len(faces.face_ids)} faces")
    if faces.twice:
        raise NoSample("same_person_twice")


def propose(faces: TargetFaces, gallery: Gallery, found: Candidates, bounds: Bounds,
            options: PairOptions) -> list[Sample]:
    """The target's samples. Raises NoSample."""
    margin = bounds.margin if options.min_margin is None else options.min_margin
    image_keys = gallery.image_keys[found.rows]
    samples: list[Sample] = []
    while len(samples) < options.samples_per_target:
        try:
            matched, chosen = match(faces, found, image_keys, options, margin)
            if len(matched) > options.max_identities:
                raise NoSample("too_many_people", f"{len(matched)} people")
            others = bystanders(faces, matched)
            if len(others) > options.max_bystanders:
                whys = sorted({found.why_not[face] or "not_told_apart" if faces.identities[face] else "nobody known"
                               for face in others})
                raise NoSample("bystanders", f"{len(others)}: {', '.join(whys)}")
        except NoSample:
            if samples:
                break
            raise
        samples.append(make_sample(faces, gallery, found, matched, chosen, len(others), options))
        found.weights[:, np.isin(image_keys, image_keys[chosen])] = np.nan
    return samples


def make_sample(faces: TargetFaces, gallery: Gallery, found: Candidates, matched: np.ndarray, chosen: np.ndarray,
                others: int, options: PairOptions) -> Sample:
    """The record of one matched target; references come in an order drawn by chance, not from left to right."""
    picked = gallery.table.take(pa.array(found.rows[chosen])).to_pylist()
    order = sorted(range(len(picked)), key=lambda at: digests.of("order", options.seed, picked[at]["face_id"],
                                                                 faces.target.image_key))
    matched, chosen, picked = matched[order], chosen[order], [picked[at] for at in order]
    matrix = matching.similarity_matrix(found.embeddings[chosen], faces.embeddings)
    margins = matching.margins(matrix)
    references = [Reference(
        identity=one["identity"], face_id=one["face_id"], image_key=one["image_key"], uri=one["uri"], root=one["root"],
        license=one["license"] or "", crop=one["crop"], face_box=one["face_box"],
        target_face_box=faces.boxes[face].tolist(), target_keypoints=faces.keypoints[face].tolist(),
        target_person_box=faces.person_boxes[face], similarity=float(matrix[row, face]), margin=float(margins[row]))
        for row, (face, one) in enumerate(zip(matched.tolist(), picked, strict=True))]
    key = digests.of(faces.target.image_key, [one["face_id"] for one in picked])
    centres = [float(faces.boxes[face][[0, 2]].mean()) for face in matched]
    prompt = faces.caption or prompts.describe(key, options.seed, len(matched) + others, centres, faces.target.width)
    return Sample(
        key=key, split="", prompt=prompt, source=faces.source, generator=faces.generator, seed=faces.seed,
        target=faces.target, references=references,
        similarity_matrix=matrix.tolist(), assignment=matched.tolist(), id_sim=matching.id_sim(matrix),
        id_conf=matching.id_conf(matrix), mimr=matching.mimr(matrix), bystanders=others,
        identities=sorted({name for name in faces.identities if name}),
        target_embeddings=faces.embeddings.ravel().tolist(),
        reference_embeddings=found.embeddings[chosen].ravel().tolist())


def read_targets(workdir: str, part: str, mine: pa.Table, identities: dict[str, str], strict_same_person: float,
                 proposals: Mapping[str, Proposal], photos: Photos) -> Iterator[TargetFaces]:
    """Every distinct image of one part, the rows of `mine`, with its faces, by image_key; `proposals`: what those were made
    from that were synthesised, by image_key."""
    faces = Parts(workdir, "faces").read(part, ["face_id", "image_key", "box", "keypoints", "person_box", "embedding"])
    faces = of_distinct(faces.append_column("part", pa.array([part] * len(faces), pa.string())), mine)
    rows_of: dict[str, list[int]] = {}
    for row, image_key in enumerate(faces["image_key"].to_pylist()):
        rows_of.setdefault(image_key, []).append(row)
    face_ids = faces["face_id"].to_pylist()
    for image in mine.to_pylist():
        rows = sorted(rows_of.get(image["image_key"], []), key=lambda row: int(face_ids[row].partition(":")[2]))
        some = faces.take(pa.array(rows, pa.int64()))
        embeddings = vectors(some["embedding"])
        names = some["face_id"].to_pylist()
        made = proposals.get(image["image_key"])
        origins = [Origin(image["image_key"], image["perceptual_hash"], image["clip"] or ""),
                   *(photos.origin(one.image_key) for one in (made.people if made else ()))]
        yield TargetFaces(
            target=Target(image["image_key"], image["uri"], image["root"], image["group"] or "", image["clip"] or "",
                          image["license"] or "", image["width"], image["height"]),
            source=image["source"], generator=made.generator if made else "", seed=made.seed if made else -1,
            caption=(made and made.caption) or image["caption"] or "", origins=tuple(origins), face_ids=names,
            identities=[identities.get(name, "") for name in names], boxes=vectors(some["box"]),
            keypoints=vectors(some["keypoints"]), person_boxes=[box or [] for box in some["person_box"].to_pylist()],
            embeddings=embeddings.astype(np.float16),
            twice=bool(same_person_twice(embeddings, np.zeros(len(rows), np.int64), strict_same_person).any()))


@dataclass(frozen=True)
class Context:
    """What a process needs to know of the whole work directory, read once."""

    images: dict[str, pa.Table]
    """Part -> its distinct images."""
    identities: dict[str, str]
    gallery: Gallery
    generated: Gallery | None
    """Of generated pictures: of people who are in no photo, and the only ones whom a generated target shows."""
    cache: VectorCache
    bounds: Bounds
    generated_bounds: Bounds
    """For generated targets (`--generated-bound`)."""
    embedding_model: str
    proposals_parts: dict[str, str]
    """Part of synthesised images -> the part that says what they were made from."""
    photos: Photos


_CONTEXTS: dict[tuple[str, str, float | None], Context] = {}
_LOCK = threading.Lock()


def context(workdir: str, state: str, options: PairOptions) -> Context:
    """The process's one context; `state` names the work directory's contents, so that none is stale."""
    with _LOCK:
        key = workdir, state, options.min_quality
        if key not in _CONTEXTS:
            _CONTEXTS.clear()
            embedder = embedder_of(workdir)
            bounds = bounds_of(embedder)
            quality = bounds.quality if options.min_quality is None else options.min_quality
            known = Parts(workdir, "identities", synthetic=True).read_all(["face_id", "identity"])
            images = distinct_images(workdir, ["image_key", "uri", "root", "group", "clip", "source", "width", "height",
                                               "perceptual_hash", "caption", "license"], (PHOTOS, SYNTHETIC))
            generated = pc.any(pc.equal(images["source"], "generated")).as_py()
            strict = any(made.options().get("generated_bound") == "strict" for made in synthesized(workdir))
            _CONTEXTS[key] = Context(
                by_part(images),
                {face: name for face, name in zip(known["face_id"].to_pylist(), known["identity"].to_pylist(),
                                                  strict=True) if name},
                read_gallery(workdir, quality), read_gallery(workdir, quality, SYNTHETIC) if generated else None,
                VectorCache(Parts(workdir, "crops")), bounds,
                replace(bounds, same_person=bounds.strict_same_person) if strict else bounds, embedder.to_json(),
                proposals_parts(workdir, bounds), read_photos(workdir))
        return _CONTEXTS[key]


def forget_context() -> None:
    """Give back what the process's context holds: about 1 KB an image (measured)."""
    with _LOCK:
        _CONTEXTS.clear()


def drafts_part(part: str, state: str, options: PairOptions, bounds: Bounds) -> str:
    """References come from anywhere, so that each part depends on all of them, and on the embedder's bounds."""
    matters = replace(options, val_fraction=0.0)
    return f"{digests.of(part, state, repr(matters), repr(bounds), VERSION)}.parquet"


class ProposePart(beam.DoFn):
    """The images of one part as targets."""

    def __init__(self, workdir: str, state: str, options: PairOptions) -> None:
        self.workdir, self.state, self.options = workdir, state, options

    def process(self, part: str) -> Iterator[str]:
        known = context(self.workdir, self.state, self.options)
        samples: list[Sample] = []
        rejects: list[Reject] = []
        near_copies = 0
        mine = known.images.get(part)  # None where all its images are copies of others, or it has none
        made_from = known.proposals_parts.get(part)
        proposals = {one.image_key: one for one in read_proposals(Parts(self.workdir, FOLDER).read(made_from))
                     } if made_from else {}
        for faces in () if mine is None else read_targets(self.workdir, part, mine, known.identities,
                                                          known.bounds.strict_same_person, proposals, known.photos):
            gallery, bounds = known.gallery, known.bounds
            if faces.source == "generated" and known.generated is not None:
                gallery, bounds = known.generated, known.generated_bounds
            try:
                check_target(faces, self.options)
                found = candidates(faces, gallery, known.cache, bounds, ENOUGH * self.options.samples_per_target)
                near_copies += found.near_copies
                samples += propose(faces, gallery, found, bounds, self.options)
            except NoSample as no:
                rejects.append(Reject.of(faces.target.uri, "pair", no.reason, no.detail))
            progress.advance("pair")
        name = drafts_part(part, self.state, self.options, known.bounds)
        schema = samples_schema(known.embedding_model)
        schema = schema.with_metadata({**schema.metadata, NEAR_COPIES: str(near_copies).encode()})
        rejects.sort(key=lambda row: (row.uri, row.reason))
        Parts(self.workdir, "rejects").write(name, to_table(rejects, REJECTS))
        Parts(self.workdir, "drafts").write(name, to_table(sorted(samples, key=lambda row: row.key), schema))
        yield name


@dataclass
class ProposeSamples(beam.PTransform):
    """Names of parts of images become drafts: samples without a split."""

    workdir: str
    state: str
    """Digest of the work directory's identities, crops and images."""
    options: PairOptions

    def expand(self, parts: beam.PCollection[str]) -> beam.PCollection[str]:
        return (parts
                | "Spread" >> beam.Reshuffle()  # names of parts, on any worker
                | "Propose" >> beam.ParDo(ProposePart(self.workdir, self.state, self.options)))
