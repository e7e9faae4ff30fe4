"""What came in, what was kept and what was dropped and why, step by step, from the parts (contract, section 1)."""
from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow.compute as pc

from schemas.reject import REASONS
from transforms.distinct import Copies, copies, key_of
from transforms.pair import NEAR_COPIES
from transforms.parts import PHOTOS, SYNTHETIC, NotReady, Parts
from transforms.synthetic import synthesized


@dataclass(frozen=True)
class Step:
    """One row of the account: `came_in = kept + sum(dropped)`."""

    step: str
    """Folder of the work directory, or `shards`."""
    stage: str
    """The command that does it."""
    unit: str
    """What is counted."""
    came_in: int
    kept: int
    dropped: dict[str, int]
    """Reason of the closed list -> count."""

    def __post_init__(self) -> None:
        if self.came_in != self.kept + sum(self.dropped.values()):
            raise ValueError(f"{self.step}: {self.came_in} came in, {self.kept} were kept and {self.dropped} dropped: "
                             "something is lost or counted twice")

    def to_json(self) -> dict[str, object]:
        about = dataclasses.asdict(self)
        about["in"] = about.pop("came_in")
        return {name: about[name] for name in ("step", "stage", "unit", "in", "kept", "dropped")}


def account(workdir: str) -> list[Step]:
    """The steps that have finished, in order, up to the first that was made from an earlier state."""
    steps: list[Step] = []
    rejected = _rejected(workdir)
    for step in (_images, _crops, _identities, _synthetic, _samples, _shards):
        try:
            steps += [one for one in [step(workdir, rejected)] if one is not None]
        except NotReady:
            break
    return steps


def _rejected(workdir: str) -> Counter[tuple[str, str]]:
    """(step, reason) -> rows of `rejects`."""
    rejects = Parts(workdir, "rejects")
    try:
        parts = rejects.parts()
    except NotReady:
        return Counter()
    return Counter((REASONS[reason].step, reason) for part in parts
                   for reason in rejects.read(part, ["reason"])["reason"].to_pylist())


def _rows(workdir: str, folder: str, producers: Iterable[str] | None = None) -> int:
    """How many rows a folder has. Raises NotReady where it has no part."""
    its = Parts(workdir, folder)
    parts = its.parts(producers)
    if not parts:
        raise NotReady(f"{its.url} holds no parts")
    return sum(map(its.rows, parts))


def _of_step(rejected: Counter[tuple[str, str]], step: str) -> dict[str, int]:
    return {reason: count for (its, reason), count in sorted(rejected.items()) if its == step}


def _images(workdir: str, rejected: Counter[tuple[str, str]]) -> Step:
    copied = copies(workdir).rows
    kept = _rows(workdir, "images") - copied
    dropped = _of_step(rejected, "images")
    if copied:
        dropped["duplicate"] = copied
    return Step("images", "extract", "images", kept + sum(dropped.values()), kept, dropped)


def _crops(workdir: str, rejected: Counter[tuple[str, str]]) -> Step:
    copied = copies(workdir)
    kept = _rows(workdir, "crops") - _of_copies(workdir, "crops", copied)
    dropped = _of_step(rejected, "crops")
    faces = _of_copies(workdir, "faces", copied)
    if faces:
        dropped["duplicate"] = faces
    return Step("crops", "extract", "faces", kept + sum(dropped.values()), kept, dropped)


def _of_copies(workdir: str, folder: str, copied: Copies) -> int:
    """How many rows of a folder are of images that count elsewhere."""
    parts = Parts(workdir, folder)
    return sum(pc.is_in(key_of(parts.read(part, ["face_id"])["face_id"]), keys).to_pylist().count(True)
               for part, keys in copied.of_part.items())


def _identities(workdir: str, rejected: Counter[tuple[str, str]]) -> Step:
    identities = Parts(workdir, "identities")
    identities.check_made_from(Parts(workdir, "faces"), Parts(workdir, "images"))
    faces = _rows(workdir, "identities")
    outliers = sum(identities.read(part, ["identity"])["identity"].null_count for part in identities.parts())
    return Step("identities", "cluster", "faces", faces, faces - outliers, {"outlier": outliers} if outliers else {})


def _synthetic(workdir: str, rejected: Counter[tuple[str, str]]) -> Step | None:
    """None where nothing is synthesised."""
    for made in synthesized(workdir):
        if made.parts():
            made.check_made_from(*(Parts(workdir, name) for name in ("images", "faces", "crops", "identities")))
            kept = sum(Parts(workdir, "images").read(part, ["image_key"]).num_rows
                       for part in Parts(workdir, "images").parts([SYNTHETIC]))
            reasons = Parts(workdir, "rejects").read_all(["reason"], [SYNTHETIC])["reason"].to_pylist()
            return Step("synthetic", "synthesize", "pictures", made.read_all(["key"]).num_rows, kept,
                        dict(sorted(Counter(reasons).items())))
    return None


def _samples(workdir: str, rejected: Counter[tuple[str, str]]) -> Step:
    producers = PHOTOS, SYNTHETIC
    targets = _rows(workdir, "images", producers) - copies(workdir, producers).rows
    dropped = _of_step(rejected, "samples")
    samples = Parts(workdir, "samples", synthetic=True)
    samples.check_made_from(*(Parts(workdir, name) for name in ("images", "crops", "identities")), *synthesized(workdir))
    targets_of = samples.read_all(["target"])
    kept = len(set(pc.struct_field(targets_of["target"], "image_key").to_pylist()))
    return Step("samples", "pair", "targets", targets, kept, dropped)


def _shards(workdir: str, rejected: Counter[tuple[str, str]]) -> Step:
    shards = Parts(workdir, "shards")
    shards.check_made_from(Parts(workdir, "samples", synthetic=True))
    samples = Parts(workdir, "samples", synthetic=True).read_all(["key"]).num_rows
    kept = int(pc.sum(shards.read_all(["samples"])["samples"]).as_py() or 0) if shards.parts() else 0
    return Step("shards", "write", "samples", samples, kept, _of_step(rejected, "shards"))


def near_copies(workdir: str) -> int:
    """Pairs of a target's face and a candidate that the near-copy bound refused, over all targets."""
    drafts = Parts(workdir, "drafts", synthetic=True)
    return sum(int(drafts.schema(part).metadata[NEAR_COPIES]) for part in drafts.parts())


def to_json(steps: Iterable[Step]) -> str:
    """`funnel.json`."""
    return json.dumps([step.to_json() for step in steps], indent=1) + "\n"


def table(steps: Iterable[Step]) -> str:
    """The account for people, the largest reasons first."""
    lines = [f"{'step':<12}{'in':>9}{'kept':>9}   dropped"]
    for step in steps:
        reasons = sorted(step.dropped.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"{step.step:<12}{step.came_in:>9}{step.kept:>9}   "
                     + ", ".join(f"{count} {reason}" for reason, count in reasons))
    return "\n".join(lines)


NOT_A_LOSS = ("too_few_people", "duplicate")
"""What a folder of photos is bound to hold: not what limits a result, unless nothing else does."""


def bottleneck(steps: Iterable[Step]) -> str:
    """The one thing that most limits the number of samples, and what changes it; '' where nothing does."""
    targets = Counter({reason: count for step in steps if step.step in ("samples", "shards")
                       for reason, count in step.dropped.items()})
    images = Counter({reason: count for step in steps if step.step == "images" for reason, count in step.dropped.items()})
    dropped, unit = (targets, "target") if targets else (images, "image")
    if not dropped:
        return ""
    reason = min(dropped, key=lambda reason: (reason in NOT_A_LOSS, -dropped[reason], reason))
    row = REASONS[reason]
    cure = f"; what changes it: {row.cure}" if row.cure else ""
    count = f"1 {unit} was" if dropped[reason] == 1 else f"{dropped[reason]} {unit}s were"
    return f"{count} dropped: {row.means} ({reason}){cure}"
