"""Say who is in pictures that were synthesised, and keep those that show whom they were to show.

Takes names of parts of `synthetic` · Gives names of finished parts of images, faces, crops, identities and rejects · Rejects
pictures in which those who were put in are not found again, with the reason

Nobody is believed to be in a picture for having been put there: detection, embedding and assignment say who is (design, point
6). The faces of a composite are assigned to the work directory's identities, to the mean of each one's gallery without the
photos that the picture was made of, in one assignment problem; no identity is made or changed by them. Those of generated
pictures were clustered among themselves, and are held against those of the pictures that these were made from."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.embedder import Bounds
from schemas.identity import IDENTITIES, Identity
from schemas.reject import REJECTS, Reject
from schemas.scene import Proposal, Shown, read_proposals
from schemas.table import to_table, vectors
from transforms import digests, face_models, matching, progress
from transforms.cluster import embedder_of
from transforms.extract import FOLDERS
from transforms.gallery import Gallery, Photos, VectorCache, read_gallery, read_photos, shown_again
from transforms.mates import same_person_twice
from transforms.parts import Parts, join
from transforms.synthetic import FOLDER, root_of, synthesized

RECOGNIZED = ("rejects", "crops", "faces", "identities", "images")
"""What a part of `synthetic` is written to, in this order: one whose parts are all there is done."""
VERSION = 2
"""Raised when the same pictures and identities give other rows."""
GENERATED = "generated-"
"""What names of generated people begin with, so that none is a photo's person's."""


@dataclass(frozen=True)
class Roster:
    """Everybody whom a face may be."""

    gallery: Gallery
    cache: VectorCache
    names: list[str]
    means: np.ndarray
    """float16 [P, D], unit rows: of each one's gallery."""
    photos: Photos

    def similarities(self, faces: np.ndarray, people: list[Shown]) -> np.ndarray:
        """float64 [K, P]: cosines of faces (float16 [K, D], unit rows) with the mean of each one's gallery, for those who were
        put in without the photos that the picture was made of and all like them: 0 where that leaves none."""
        cosines = matching.similarity_matrix(faces, self.means)
        origins = [self.photos.origin(one.image_key) for one in people]
        for one in people:
            rows = np.arange(*self.gallery.spans[one.identity])
            rows = rows[~shown_again(self.gallery, rows, origins)]
            cosines[:, self.names.index(one.identity)] = (
                matching.similarity_matrix(faces, mean(self.cache.of(self.gallery, rows))[None])[:, 0] if len(rows) else 0)
        return cosines


def mean(embeddings: np.ndarray) -> np.ndarray:
    """float16 [D], unit length, of float16 [N, D]; their sum is exact in float64, in any order."""
    total = embeddings.astype(np.float64).sum(axis=0)
    return (total / max(float(np.linalg.norm(total)), 1e-6)).astype(np.float16)


def read_roster(workdir: str, bounds: Bounds) -> Roster:
    """Everybody whom a work directory's photos show."""
    gallery = read_gallery(workdir, bounds.quality)
    cache = VectorCache(Parts(workdir, "crops"))
    names = list(gallery.spans)
    means = np.zeros((len(names), embedder_of(workdir).dimensions), np.float16)
    for place, name in enumerate(names):
        means[place] = mean(cache.of(gallery, np.arange(*gallery.spans[name])))
    return Roster(gallery, cache, names, means, read_photos(workdir))


@dataclass(frozen=True)
class Seen:
    """The faces that were found in one picture, K of them, by ascending x0."""

    face_ids: list[str]
    boxes: np.ndarray
    """float32 [K, 4]."""
    quality: np.ndarray
    """float32 [K]."""
    embeddings: np.ndarray
    """float16 [K, D]."""


class NotFoundAgain(Exception):
    """A picture that does not show whom it was to show; `reason` is of the closed list in `schemas.reject`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def recognize(seen: Seen, people: list[Shown], roster: Roster, bounds: Bounds) -> list[Identity]:
    """Whose each face is. Raises NotFoundAgain unless just the people who were put in are found, each at their place."""
    found = len(seen.face_ids)
    if found == 0:
        raise NotFoundAgain("no_face", f"{len(people)} people")
    if found < len(people):
        raise NotFoundAgain("too_few_faces", f"{found} of {len(people)}")
    if found > len(people):
        raise NotFoundAgain("wrong_people", f"{found} faces, {len(people)} people")
    if (seen.quality < bounds.quality).any():
        raise NotFoundAgain("low_quality", f"quality {seen.quality.min():.2f} < {bounds.quality:.2f}")
    cosines = roster.similarities(seen.embeddings, people)
    chosen = matching.assign(np.where(cosines >= bounds.outlier, 1 + cosines, np.nan))
    middles = (seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2
    for one in people:
        inside = (middles >= one.box[:2]).all(axis=1) & (middles <= one.box[2:]).all(axis=1)
        who = sorted({roster.names[chosen[face]] if chosen[face] >= 0 else "nobody" for face in np.flatnonzero(inside)})
        if who != [one.identity]:
            raise NotFoundAgain("wrong_people", f"{', '.join(who) or 'no face'} at the place of {one.identity}")
    own = cosines[:, chosen].T  # [K, K]: the means of those who are in the picture, and its faces
    alike = same_person_twice(seen.embeddings, np.zeros(found, np.int64), bounds.strict_same_person).any()
    if alike or not matching.holds_both_ways(own, np.arange(found)).all() or (matching.margins(own) < bounds.margin).any():
        raise NotFoundAgain("too_similar", f"least margin {matching.margins(own).min():.2f}, {bounds.margin:.2f} is due")
    return [Identity(face_id, roster.names[person], float(cosines[face, person]))
            for face, (face_id, person) in enumerate(zip(seen.face_ids, chosen.tolist(), strict=True))]


@dataclass(frozen=True)
class Newcomers:
    """Everybody whom generated pictures show."""

    of_face: dict[str, Identity]
    """face_id -> whose it is, under the name that it bears outside of `W/synthetic`."""

    def shown(self, image_key: str) -> str:
        """Whose the one face of a picture is; '' where it shows nobody known, or several."""
        alone = self.of_face.get(f"{image_key}:0")
        return "" if alone is None or f"{image_key}:1" in self.of_face else alone.identity or ""


def read_newcomers(workdir: str) -> Newcomers:
    """As `cluster` has left them in `W/synthetic`, which is a work directory itself."""
    rows = Parts(join(workdir, FOLDER), "identities").read_all(["face_id", "identity", "centroid_similarity"])
    found = (Identity(row["face_id"], row["identity"] and GENERATED + row["identity"], row["centroid_similarity"])
             for row in rows.to_pylist())
    return Newcomers({one.face_id: one for one in found})


def admit(seen: Seen, wanted: int, given: list[str], newcomers: Newcomers, bounds: Bounds) -> list[Identity]:
    """Whose each face of a generated picture is.

    Raises NotFoundAgain unless it shows as many different people as were wanted, or two and more where `wanted` is 0, and just
    those of the pictures that it was made from, if there are any: `given`, image_keys."""
    found, due = len(seen.face_ids), wanted or 2
    if found == 0:
        raise NotFoundAgain("no_face", f"{due} people")
    if found < due:
        raise NotFoundAgain("too_few_faces", f"{found} of {due}")
    if wanted and found > wanted:
        raise NotFoundAgain("wrong_people", f"{found} faces, {wanted} people")
    if (seen.quality < bounds.quality).any():
        raise NotFoundAgain("low_quality", f"quality {seen.quality.min():.2f} < {bounds.quality:.2f}")
    if same_person_twice(seen.embeddings, np.zeros(found, np.int64), bounds.strict_same_person).any():
        raise NotFoundAgain("too_similar", f"one person twice, cosine above {bounds.strict_same_person:.2f}")
    who = [newcomers.of_face[face_id] for face_id in seen.face_ids]
    claimed = sorted(newcomers.shown(image_key) for image_key in given)
    if given and sorted(one.identity or "" for one in who) != claimed:
        raise NotFoundAgain("wrong_people", "not those of the pictures that it was made from")
    return who


def looked_at_part(part: str, matter: list[object]) -> str:
    """The part in the folders of `W/synthetic` that holds what `extract` found in the pictures of one; `matter`: what that
    depends on beside them. Pictures that were generated stay where models or bounds change."""
    return f"{digests.of(part, matter)}.parquet"


def recognized_part(workdir: str, part: str, state: str, bounds: Bounds) -> str:
    """Galleries are of all photos at once, so that each part depends on all of them; `state` is a digest of them. And rows say
    where the pictures lie, so that a work directory that was moved has them written anew."""
    return f"{digests.of(root_of(workdir), part, state, astuple(bounds), VERSION)}.parquet"


def proposals_parts(workdir: str, bounds: Bounds) -> dict[str, str]:
    """Part of images, faces, … -> the part of `synthetic` that it was made from; nothing where nothing was synthesised."""
    return {recognized_part(workdir, part, digests.of(made.made_from()), bounds): part
            for made in synthesized(workdir) for part in made.parts()}


_KNOWN: dict[tuple[str, str], Roster | Newcomers] = {}
_LOCK = threading.Lock()


class RecognizePart(beam.DoFn):
    """The pictures of one part: rows of those that show whom they were to show."""

    def __init__(self, workdir: str, state: str, matter: list[object], generated: bool) -> None:
        self.workdir, self.state, self.matter, self.generated = workdir, state, matter, generated
        self.inner = join(workdir, FOLDER)

    def setup(self) -> None:
        embedder = embedder_of(self.workdir)
        self.bounds, self.nobody = face_models.bounds(embedder), nobody(embedder.dimensions)
        with _LOCK:
            if (self.workdir, self.state) not in _KNOWN:
                _KNOWN.clear()
                _KNOWN[self.workdir, self.state] = (read_newcomers(self.workdir) if self.generated else
                                                    read_roster(self.workdir, self.bounds))
            self.known = _KNOWN[self.workdir, self.state]

    def _recognize(self, seen: Seen, proposal: Proposal) -> list[Identity]:
        """Raises NotFoundAgain."""
        if isinstance(self.known, Newcomers):
            return admit(seen, proposal.wanted, proposal.given, self.known, self.bounds)
        return recognize(seen, proposal.people, self.known, self.bounds)

    def process(self, part: str) -> Iterator[str]:
        tables = {folder: Parts(self.inner, folder).read(looked_at_part(part, self.matter)) for folder in FOLDERS}
        seen, failed = read_seen(tables["faces"]), {row["uri"]: row for row in tables["rejects"].to_pylist()}
        images = set(tables["images"]["image_key"].to_pylist())
        identities: list[Identity] = []
        kept: dict[str, str] = {}
        rejects: list[Reject] = []
        for proposal in read_proposals(Parts(self.workdir, FOLDER).read(part)):
            try:
                if proposal.reason:
                    raise NotFoundAgain(proposal.reason, proposal.detail)
                if proposal.image_key not in images:
                    raise NotFoundAgain(failed[proposal.uri]["reason"], failed[proposal.uri]["detail"])
                identities += self._recognize(seen.get(proposal.image_key, self.nobody), proposal)
                kept[proposal.image_key] = proposal.license
            except NotFoundAgain as no:
                rejects.append(Reject.of(proposal.uri, "synthesize", no.reason, no.detail))
            progress.advance("recognize")
        name = recognized_part(self.workdir, part, self.state, self.bounds)
        wanted = pa.array(list(kept), pa.string())
        made = {folder: tables[folder].filter(pc.is_in(pc.utf8_slice_codeunits(tables[folder][key], 0, 32), wanted))
                for folder, key in (("images", "image_key"), ("faces", "image_key"), ("crops", "face_id"))}
        keys = made["images"]["image_key"].to_pylist()
        for column, values in (("root", [root_of(self.workdir)] * len(keys)), ("license", [kept[key] or None for key in keys])):
            at = made["images"].schema.get_field_index(column)
            made["images"] = made["images"].set_column(at, made["images"].schema.field(at), pa.array(values, pa.string()))
        made["identities"] = to_table(sorted(identities, key=lambda row: row.face_id), IDENTITIES)
        made["rejects"] = to_table(sorted(rejects, key=lambda row: row.uri), REJECTS)
        for folder in RECOGNIZED:
            Parts(self.workdir, folder).write(name, made[folder])
        yield name


def nobody(dimensions: int) -> Seen:
    return Seen([], np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, dimensions), np.float16))


def read_seen(faces: pa.Table) -> dict[str, Seen]:
    """image_key -> its faces."""
    face_ids = faces["face_id"].to_pylist()
    rows_of: dict[str, list[int]] = {}
    for row in sorted(range(len(face_ids)), key=lambda row: int(face_ids[row].partition(":")[2])):
        rows_of.setdefault(face_ids[row].partition(":")[0], []).append(row)
    boxes, embeddings = vectors(faces["box"]), vectors(faces["embedding"]).astype(np.float16)
    quality = faces["quality"].to_numpy()
    return {image_key: Seen([face_ids[row] for row in rows], boxes[rows], quality[rows], embeddings[rows])
            for image_key, rows in rows_of.items()}


@dataclass
class RecognizePeople(beam.PTransform):
    """Parts of `synthetic`, whose pictures were looked at, become parts of what `pair` reads."""

    workdir: str
    state: str
    matter: list[object]
    """See `looked_at_part`."""
    generated: bool
    """Whether the pictures were generated; else they are composites."""

    def expand(self, parts: beam.PCollection[str]) -> beam.PCollection[str]:
        return (parts
                | "Spread" >> beam.Reshuffle()  # names of parts, on any worker
                | "Recognize" >> beam.ParDo(RecognizePart(self.workdir, self.state, self.matter, self.generated)))
