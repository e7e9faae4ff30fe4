"""The stages, one function each: what is to do, a Beam job that does it, the ledger that says it is done."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import beam_runner
from pipeline.elements import elements
from pipeline.funnel import account, bottleneck
from pipeline.options import from_record, recorded
from pipeline.progress import shown
from schemas.embedder import Bounds
from transforms import digests, face_models, inputs, naming, person_models, progress
from transforms.blocks import at_least, few
from transforms.cluster import (
    ClusterIdentities,
    ClusterOptions,
    bounds_of,
    embedder_of,
    identity_parts,
)
from transforms.compare import KEPT, PASSING, Compared, CompareFaces
from transforms.crops import CropOptions
from transforms.extract import (
    FOLDERS,
    ExtractChunks,
    ExtractOptions,
    close_examiners,
    name_chunk,
)
from transforms.failure import Failure, WrongUsage
from transforms.homes import CLUSTERS, FOLDER
from transforms.identities import earlier_parts
from transforms.in_child import child_processes
from transforms.link import FACES, LinkFaces, Linking
from transforms.pair import PairOptions, ProposeSamples, drafts_part, forget_context
from transforms.parts import (
    PHOTOS,
    SYNTHETIC,
    NotReady,
    Parts,
    get,
    join,
    remove,
    size_of,
    state_of,
)
from transforms.recognize import RECOGNIZED, proposals_parts
from transforms.shards import Shard, plan
from transforms.split import AssignSplits, grouped, samples_part, splits_part
from transforms.survey import SurveyFaces, Table, table_part
from transforms.synthetic import synthesized
from transforms.write import WriteOptions, WriteShards, shard_part


@dataclass(frozen=True)
class RunOptions:
    """Where the Beam jobs run."""

    runner: str = "DirectRunner"
    beam_args: tuple[str, ...] = ()
    children: int = 1
    """Child processes of this one that elements are given to, one by one (`transforms.in_child`)."""

    @contextmanager
    def in_children(self, count: int) -> Iterator[RunOptions]:
        """While the block runs there are so many, where the jobs run on this machine: how to run them there."""
        options = replace(self, children=count if self.runner in beam_runner.LOCAL else 1)
        with child_processes(options.children):
            yield options

    def run(self, build: Callable[[beam.Pipeline], object]) -> None:
        beam_runner.run(build, self.runner, self.beam_args, self.children)

    def over(self, workdir: str, some: Iterable[object], step: beam.PTransform) -> None:
        """Run a step over elements, however many."""
        with elements(workdir, some) as source:
            self.run(lambda pipeline: pipeline | source | step)


def extract(urls: Iterable[str], workdir: str, options: ExtractOptions, run: RunOptions, retry: bool,
            leave_out: Sequence[str] = ()) -> None:
    """Look at every picture of the inputs that no finished part holds yet. `leave_out`: URLs that are no input, though they
    may lie below one. Raises Failure where nothing is usable."""
    embedder, persons = face_models.embedder(options.faces), person_models.weights(options.persons)
    if face_models.backend(options.faces).in_children and persons is not None and options.device != "cpu":
        if options.device != "auto":
            raise WrongUsage(f"--device {options.device}: --faces {options.faces} runs in child processes on the processor, "
                             "and --persons with it: say --device cpu, or use --faces insightface")
        progress.tell("people are detected on the processor, beside the face models")
    chunks = inputs.chunks(urls, options, [workdir, *leave_out])
    if not chunks:
        raise Failure(f"no pictures in {' '.join(urls)}: name a folder that holds some, a tar or a manifest")
    named = {name.part: name for name in (name_chunk(chunk, options, embedder, persons) for chunk in chunks)}
    done = set(named).intersection(*(Parts(workdir, folder).existing() for folder in FOLDERS))
    transient = {part: _transient(workdir, part) for part in sorted(done)} if retry else {}
    new = {part: len(named[part].chunk.items) for part in sorted(named.keys() - done)}
    again = {part: count for part, count in transient.items() if count}
    for parts, retried in ((new, False), (again, True)):
        if parts:
            step = ExtractChunks(workdir, options, embedder, persons, retried)
            with shown("extract", sum(parts.values()), "images"):
                run.over(workdir, [named[part] for part in parts], step)
                close_examiners()
    for folder in FOLDERS:
        its = Parts(workdir, folder)
        changed = {part: digest for part, digest in _retried(its).items() if part in named}
        changed |= {part: digests.of_bytes(get(its.part_url(part))) for part in again}
        its.commit({PHOTOS: named}, changed, {**recorded(options), "faces": embedder.named,
                                              "persons": persons.named if persons else person_models.NONE})
    if not any(Parts(workdir, "images").read(part, ["image_key"]).num_rows for part in named):
        raise Failure(f"none of the {sum(len(chunk.items) for chunk in chunks)} inputs is a picture that can be used: "
                      f"{bottleneck(account(workdir))}")


def _retried(parts: Parts) -> dict[str, str]:
    """Part -> digest of its bytes, for those in which rejects were tried again: they have changed under their names."""
    try:
        return parts.made_from()
    except NotReady:
        return {}


def check_extracted(workdir: str) -> None:
    """Raises NotReady where `extract` was stopped between the ledgers of its folders."""
    parts = [Parts(workdir, folder).parts([PHOTOS]) for folder in FOLDERS]
    if any(names != parts[0] for names in parts):
        raise NotReady(f"{workdir} holds parts of an extract that was stopped: run `umo-dataset extract` again")


def _transient(workdir: str, part: str) -> int:
    """How many rejects of a part may pass if they are tried again."""
    return int(pc.sum(Parts(workdir, "rejects").read(part, ["transient"])["transient"]).as_py() or 0)


def cluster(workdir: str, options: ClusterOptions, run: RunOptions) -> None:
    """Say whose each face is."""
    check_extracted(workdir)
    faces, identities, people = (Parts(workdir, folder) for folder in ("faces", "identities", "people"))
    state = state_of(faces, Parts(workdir, "images"))
    parts = identity_parts(workdir, options)
    wanted = [parts.of(part) for part in faces.parts()]
    if stands(identities, wanted, state) and stands(people, None, state):
        return
    with run.in_children(1 if few(workdir, embedder_of(workdir)) else options.processes()) as run:
        compared = compare(workdir, face_models.bounds(embedder_of(workdir)), run)
        homes, linking = -(-int(compared.starts(workdir)[-1]) // FACES) if compared else 1, None
        if compared and homes > 1:
            linking = Linking.of(workdir, compared, bounds_of(workdir, options), parts, options.identities, homes)
            link(linking, run)
            homes = linking.homes
        else:
            with shown("cluster", len(wanted), "parts"):
                run.over(workdir, [workdir], ClusterIdentities(options, parts, compared))
    people.commit({PHOTOS: {parts.people(home) for home in range(homes)} & people.existing()}, state)
    identities.commit({PHOTOS: wanted}, state, recorded(options))
    if linking:
        linking.commit()
    else:
        Parts(workdir, CLUSTERS).discard()


def compare(workdir: str, bounds: Bounds, run: RunOptions) -> Compared | None:
    """Find which faces are alike, unless they are few enough for `ClusterIdentities` to do so."""
    if few(workdir, embedder_of(workdir)):
        for folder in (*KEPT, *PASSING, "cells"):
            Parts(workdir, folder).discard()
        return None
    compared = Compared.of(workdir, bounds)
    if all(stands(Parts(workdir, folder), compared.parts(), compared.made_from) for folder in KEPT):
        return compared
    with shown("compare", 3 * len(compared.blocks), "blocks"):
        run.over(workdir, compared.blocks,
                 SurveyFaces(workdir, compared.state, bounds, compared.parts(), at_least(compared.size, embedder_of(workdir)),
                             compared.earlier))
        if not Table.read(workdir, table_part(compared.state)).reused:
            compared = replace(compared, earlier=None, table=compared.state)
        run.over(workdir, compared.blocks, CompareFaces(workdir, compared.state, bounds, compared.earlier))
    Parts(workdir, "cells").commit({PHOTOS: [table_part(compared.state)]}, compared.made_from)
    for folder in KEPT:  # of which the last says that all is there
        Parts(workdir, folder).commit({PHOTOS: compared.parts()}, compared.made_from, compared.record())
    for folder in PASSING:
        Parts(workdir, folder).discard()
    return compared


def link(linking: Linking, run: RunOptions) -> None:
    """Say whose each face is, where there are too many to do so in one process."""
    passing, blocks, earlier = Parts(linking.workdir, FOLDER), linking.compared.blocks, earlier_parts(linking.workdir)
    passing.discard()  # of a run that was stopped
    steps = len(linking.steps) + len(list(naming.steps())) + 1
    with shown("link", len(blocks) * 3 - linking.first + len(earlier) + linking.homes * steps, "steps"):
        run.over(linking.workdir, blocks, LinkFaces(linking, earlier))
    passing.discard()


def stands(made: Parts, wanted: list[str] | None, state: dict[str, str], producer: str = PHOTOS) -> bool:
    """Whether a folder holds just the wanted parts, or those that it lists, made from what is there now."""
    try:
        listed = sorted(made.parts([producer]))
        return (made.made_from() == state and (wanted is None or listed == sorted(wanted))
                and set(listed) <= made.existing())
    except NotReady:
        return False


def check_synthesized(workdir: str) -> list[str]:
    """Parts of images that were synthesised. Raises NotReady where they are not what is there now would give."""
    for made in synthesized(workdir):
        if made.parts():
            made.check_made_from(*(Parts(workdir, folder) for folder in ("images", "faces", "crops", "identities")))
    wanted = sorted(proposals_parts(workdir, face_models.bounds(embedder_of(workdir))))
    if any(sorted(Parts(workdir, folder).parts([SYNTHETIC])) != wanted for folder in RECOGNIZED):
        raise NotReady(f"{workdir} holds parts of a synthesize that was stopped: run `umo-dataset synthesize` again")
    return wanted


def pair(workdir: str, options: PairOptions, run: RunOptions) -> None:
    """Find references for targets, then give each sample its split: photos first, as if nothing else were there.

    Composites join people at random, so that communities of theirs would tear most composites apart: who is in no photo's
    sample goes to train, and a composite of people of both splits is dropped."""
    check_extracted(workdir)
    images, drafts, samples = (Parts(workdir, name) for name in ("images", "drafts", "samples"))
    Parts(workdir, "identities").check_made_from(Parts(workdir, "faces"), images)
    targets = {PHOTOS: images.parts(), SYNTHETIC: check_synthesized(workdir)}
    state = state_of(images, Parts(workdir, "crops"), Parts(workdir, "identities"))
    whole = {**state, **state_of(*synthesized(workdir))}
    names = {PHOTOS: digests.of(state), SYNTHETIC: digests.of(whole)}
    bounds = face_models.bounds(embedder_of(workdir))
    proposed = {producer: [drafts_part(part, names[producer], options, bounds) for part in parts]
                for producer, parts in targets.items()}
    splitting = {PHOTOS: options, SYNTHETIC: replace(options, val_fraction=0.0)}  # nobody goes to val for a composite's sake
    wanted = {producer: [samples_part(parts, names[producer], splitting[producer]) for parts in grouped(some)]
              for producer, some in proposed.items()}
    if not all(stands(drafts, some, whole, producer) for producer, some in proposed.items()):
        there = drafts.existing() & Parts(workdir, "rejects").existing()
        for producer, parts in targets.items():
            todo = [part for part, draft in zip(parts, proposed[producer], strict=True) if draft not in there]
            if todo:
                count = sum(images.read(part, ["image_key"]).num_rows for part in todo)
                step = ProposeSamples(workdir, names[producer], options)
                with shown("pair", count, "images"):
                    run.over(workdir, todo, step)
        forget_context()
        drafts.commit(proposed, whole)
    if not all(stands(samples, some, whole, producer) for producer, some in wanted.items()):
        for producer, some in proposed.items():
            if some:
                split = AssignSplits(workdir, some, names[producer], splitting[producer])
                run.over(workdir, [workdir], split)
            placed = [splits_part(names[producer], splitting[producer])] if some else []
            Parts(workdir, "splits").commit({producer: placed}, whole)
        Parts(workdir, "rejects").commit({"pair": [part for some in (proposed, wanted) for parts in some.values()
                                                   for part in parts]})
        samples.commit(wanted, whole, recorded(options))


def write(workdir: str, output: str, options: WriteOptions, run: RunOptions) -> bool:
    """Write the shards; whether anything had to be written."""
    samples, written = Parts(workdir, "samples", synthetic=True), Parts(workdir, "shards")
    samples.check_made_from(Parts(workdir, "images"), Parts(workdir, "crops"), Parts(workdir, "identities"),
                            *synthesized(workdir))
    crops = from_record(CropOptions, Parts(workdir, "crops").options())
    table = pa.concat_tables([in_short(samples.read(part, ["key", "split", "target", "references"]), part, options, crops)
                              for part in samples.parts()])
    shards = plan(table, options.shard_bytes)
    wanted = [shard_part(shard, output) for shard in shards]
    state = {**state_of(samples), "output": output, "options": digests.of(recorded(options))}
    if (stands(written, wanted, state) and size_of(join(output, "dataset.json")) is not None
            and all(_is_whole(output, shard, written) for shard in shards)):
        return False
    remove(join(output, "dataset.json"))  # from now on until the end this is no finished dataset
    if shards:
        with shown("write", len(table), "samples"):
            run.over(workdir, shards, WriteShards(workdir, output, options, crops, embedder_of(workdir)))
    Parts(workdir, "rejects").commit({"write": wanted})
    written.commit({PHOTOS: wanted}, state, recorded(options))
    return True


def _is_whole(output: str, shard: Shard, written: Parts) -> bool:
    """Whether a shard's files are there, as large as they were written, and no sample was lost on the way."""
    done = written.read(shard_part(shard, output)).to_pylist()[0]
    return (done["samples"] == len(shard.rows) and size_of(join(output, f"{shard.path}.tar")) == done["bytes"]
            and size_of(join(output, f"{shard.path}.parquet")) is not None)


def in_short(samples: pa.Table, part: str, options: WriteOptions, crops: CropOptions) -> pa.Table:
    """key, split, references (their count), part, row of each sample of a part, and about how many pixels its pictures have as
    they are written: no more of many samples is held at once."""
    size = [pc.struct_field(samples["target"], name).to_numpy().astype(np.float64) for name in ("width", "height")]
    shrink = np.minimum(1, options.target_size / np.maximum(*size))
    references = pc.list_value_length(samples["references"])
    pixels = size[0] * size[1] * shrink ** 2 + references.to_numpy() * crops.ref_size ** 2
    whence = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(samples)), pa.int32()), pa.array([part]))
    return pa.table({"key": samples["key"], "split": samples["split"], "part": whence, "references": references,
                     "row": pa.array(np.arange(len(samples))), "pixels": pixels})
