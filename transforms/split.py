"""Give every draft its split, such that splits share nobody, and gather samples into larger parts.

Takes the URL of a work directory · Gives names of finished parts of samples · Rejects samples whose people straddle

A shard's samples are a range of keys, and lie in every part of samples. So that they are read without opening every part of
photos, drafts of many parts become one part of samples, sorted by key, of which a reader takes the rows that it wants."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from schemas.reject import REJECTS, Reject
from schemas.table import to_table
from transforms import digests
from transforms.chunking import cut
from transforms.communities import assign_splits, split_of
from transforms.pair import PairOptions
from transforms.parts import PHOTOS, SYNTHETIC, NotReady, Parts

EMBEDDING_MODEL = b"embedding_model"
SPLITS = pa.schema([("identity", pa.string()), ("split", pa.string())])


FEWEST_PARTS = 64
"""Parts of drafts, on average, that become one of samples; or the root of their number, where that is more, so that there are
never many more parts than there are drafts in each."""
ROW_GROUP = 128
"""Samples that are read together: about 0.5 MB."""


def grouped(drafts: list[str]) -> list[tuple[str, ...]]:
    """Parts of drafts in groups, each of which becomes a part of samples."""
    return list(cut(sorted(drafts), max(FEWEST_PARTS, math.isqrt(len(drafts))), str))


def samples_part(drafts: tuple[str, ...], state: str, options: PairOptions) -> str:
    """Splits depend on all drafts, so that each part of samples does."""
    return f"{digests.of('samples', list(drafts), state, options.val_fraction, options.seed)}.parquet"


def splits_part(state: str, options: PairOptions) -> str:
    return f"{digests.of('splits', state, options.val_fraction, options.seed)}.parquet"


def read_splits(workdir: str) -> dict[str, str]:
    """Identity -> the split that it once got, under its earlier name too; nobody before the first `pair`.

    Where photos have given somebody another one than what was synthesised, the photos are right."""
    splits: dict[str, str] = {}
    for producer in (SYNTHETIC, PHOTOS):
        try:
            names = Parts(workdir, "splits").parts([producer])
        except NotReady:
            return {}
        for part in names:
            table = Parts(workdir, "splits").read(part)
            splits.update(zip(table["identity"].to_pylist(), table["split"].to_pylist(), strict=True))
    people = Parts(workdir, "people").read_all(["identity", "earlier"])
    renamed = zip(people["identity"].to_pylist(), people["earlier"].to_pylist(), strict=True)
    return splits | {name: splits[old] for name, old in renamed if name not in splits and old in splits}


class WriteSplits(beam.DoFn):
    """All drafts' people at once: numbers of samples and names, no vectors."""

    def __init__(self, drafts: list[str], state: str, options: PairOptions) -> None:
        self.drafts, self.state, self.options = drafts, state, options

    def process(self, workdir: str) -> Iterator[tuple[str, ...]]:
        people = [names for part in self.drafts
                  for names in Parts(workdir, "drafts").read(part, ["identities"])["identities"].to_pylist()]
        splits = assign_splits(people, self.options.val_fraction, self.options.seed, read_splits(workdir))
        table = pa.table({"identity": sorted(splits), "split": [splits[name] for name in sorted(splits)]}, SPLITS)
        Parts(workdir, "splits").write(splits_part(self.state, self.options), table)
        yield from grouped(self.drafts)


class SplitParts(beam.DoFn):
    """Some parts of drafts to one of samples."""

    def __init__(self, workdir: str, state: str, options: PairOptions) -> None:
        self.workdir, self.state, self.options = workdir, state, options

    def process(self, parts: tuple[str, ...]) -> Iterator[str]:
        table = Parts(self.workdir, "splits").read(splits_part(self.state, self.options))
        splits = dict(zip(table["identity"].to_pylist(), table["split"].to_pylist(), strict=True))
        drafts = pa.concat_tables([Parts(self.workdir, "drafts").read(part) for part in parts]).sort_by("key")
        drafts = drafts.replace_schema_metadata({EMBEDDING_MODEL: drafts.schema.metadata[EMBEDDING_MODEL]})
        found = [split_of(names, splits) for names in drafts["identities"].to_pylist()]
        at = drafts.schema.get_field_index("split")
        samples = drafts.set_column(at, "split", pa.array([split or "" for split in found], pa.string()))
        torn = {target["image_key"]: target["uri"]  # once a target, however many samples it has: they show the same people
                for target, split in zip(drafts["target"].to_pylist(), found, strict=True) if split is None}
        rejects = [Reject.of(uri, "pair", "straddles_split") for uri in torn.values()]
        name = samples_part(parts, self.state, self.options)
        Parts(self.workdir, "rejects").write(name, to_table(sorted(rejects, key=lambda row: row.uri), REJECTS))
        kept = samples.filter(pa.array([split is not None for split in found], pa.bool_()))
        Parts(self.workdir, "samples").write(name, kept, ROW_GROUP)
        yield name


@dataclass
class AssignSplits(beam.PTransform):
    """Work directories, whose drafts are finished, become parts of samples."""

    workdir: str
    drafts: list[str]
    state: str
    options: PairOptions

    def expand(self, workdirs: beam.PCollection[str]) -> beam.PCollection[str]:
        return (workdirs
                | "Communities" >> beam.ParDo(WriteSplits(self.drafts, self.state, self.options))
                | "Spread" >> beam.Reshuffle()  # names of parts of drafts, on any worker
                | "Split" >> beam.ParDo(SplitParts(self.workdir, self.state, self.options)))
