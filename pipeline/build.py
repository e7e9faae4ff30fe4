"""The route, on one screen: every stage in order, each skipping what stands already.

    INPUT -> extract -> cluster -> synthesize -> pair -> write -> OUT
             images     identities  composed or  samples  shards, card,
             faces                  generated             funnel, report
             crops"""
from __future__ import annotations

import argparse
import sys
from collections import Counter

from pipeline import dataset, funnel, options, report, stages, synthesis
from pipeline.funnel import Step
from pipeline.stages import RunOptions
from transforms import face_models
from transforms.cluster import ClusterOptions, embedder_of
from transforms.examination import ModelOptions
from transforms.extract import ExtractOptions, WorkerOptions
from transforms.failure import Failure
from transforms.generate import GenerateOptions
from transforms.pair import PairOptions
from transforms.parts import Parts, get, join, put, size_of
from transforms.synthetic import SynthesizeOptions
from transforms.write import WriteOptions

ROUTE = ("extract", "cluster", "synthesize", "pair", "write")


def run(command: str, values: argparse.Namespace, where: RunOptions) -> None:
    """One stage, or with `build` all of them. Raises Failure."""
    wanted = ROUTE if command == "build" else (command,)
    if "write" in wanted:
        dataset.check_output(values.output)
    if "synthesize" in wanted:
        synthesis.check(options.of(SynthesizeOptions, values), options.of(GenerateOptions, values))
    for stage in wanted:
        match stage:
            case "extract":
                stages.extract(values.inputs, values.workdir, options.of(ExtractOptions, values), where,
                               values.retry_rejects, [values.output] if command == "build" else [])
            case "cluster":
                stages.cluster(values.workdir, options.of(ClusterOptions, values), where)
            case "synthesize":
                synthesis.synthesize(values.workdir, options.of(SynthesizeOptions, values),
                                     options.of(GenerateOptions, values), options.of(ModelOptions, values),
                                     options.of(WorkerOptions, values), where)
            case "pair":
                stages.pair(values.workdir, options.of(PairOptions, values), where)
            case "write":
                wanted_shards = options.of(WriteOptions, values)
                stages.write(values.workdir, values.output, wanted_shards, where)
                finish(values.workdir, values.output, wanted_shards.about)
    if "write" not in wanted:
        print(funnel.table(account(values.workdir)), file=sys.stderr)


def account(workdir: str) -> list[Step]:
    """What became of what came in, so far; kept as the work directory's `funnel.json`."""
    steps = funnel.account(workdir)
    put(join(workdir, "funnel.json"), funnel.to_json(steps).encode())
    return steps


def finish(workdir: str, output: str, about: str | None) -> None:
    """What stands beside the shards; then say what became of the photos, and where the dataset is.

    `about`: URL of a text for the card, if there is one."""
    steps = account(workdir)
    limits = funnel.bottleneck(steps)
    bound = face_models.bounds(embedder_of(workdir)).near_copy
    splits = Counter(Parts(workdir, "samples", synthetic=True).read_all(["split"])["split"].to_pylist())
    print(funnel.table(steps),
          "samples by split: " + (", ".join(f"{splits[name]} {name}" for name in sorted(splits)) or "none"),
          f"the near-copy bound ({bound}) refused {funnel.near_copies(workdir)} pairs of a face and a reference",
          sep="\n", file=sys.stderr)
    if not steps[-1].kept:
        dataset.withdraw(output)
        raise Failure(f"no sample could be made: {limits or 'there are no targets'}")
    if limits:
        print(f"what limits the result most: {limits}", file=sys.stderr)
    origin = get(about).decode() if about else ""
    if dataset.finish(workdir, output, steps, origin) or size_of(join(output, "report.html")) is None:
        report.report(output)
    print(f"dataset {output}\nreport  {join(output, 'report.html')}")
