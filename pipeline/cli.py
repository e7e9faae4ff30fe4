"""The command line: `parse` is pure and strict, `main` runs what it gives (contract, section 1)."""
from __future__ import annotations

import argparse
import difflib
import posixpath
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pipeline import beam_runner, build, doctor, options, report, verify
from pipeline.doctor import DoctorOptions
from pipeline.lock import locked
from pipeline.stages import RunOptions
from transforms.cluster import ClusterOptions
from transforms.examination import ModelOptions
from transforms.extract import ExtractOptions, WorkerOptions
from transforms.failure import Failure, WrongUsage
from transforms.generate import GenerateOptions
from transforms.manifests import MANIFESTS
from transforms.pair import PairOptions
from transforms.parts import filesystem, is_local
from transforms.synthetic import SynthesizeOptions
from transforms.write import WriteOptions

INTERRUPTED = 130
"""Exit status of a command that a keyboard interrupt ended: 128 and the signal's number, as shells have it."""
MISSPELT = 0.8
"""Likeness (difflib's) from which on an option is taken for one of Beam's: --num_worker has 0.96 to --num_workers, --input 0.62
to --no_auth. To one of our own, which are few, difflib's 0.6 is enough."""
EPILOG = """Every path is a URL that fsspec opens; a bare path is local. Beam's own options (--flink_master, …) are passed on.
Exit status: 0 done; 1 failed or nothing usable, with one line that says what to do; 2 wrong usage."""


@dataclass(frozen=True)
class Command:
    """What a command line asks for."""

    name: str
    values: argparse.Namespace
    run: RunOptions


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUsage(message)


def parser() -> argparse.ArgumentParser:
    """All commands with their flags."""
    top = _Parser(prog="umo-dataset", description="From photos to WebDataset shards for training several identities at once.",
                  epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, does: str, *kinds: type, inputs: bool = False, workdir: str = "", output: str = "",
                ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=does, description=does[0].upper() + does[1:] + ".", epilog=EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        if inputs:
            one.add_argument("inputs", nargs="+", metavar="INPUT", help="a folder (recursive), a glob, a picture, a tar, or "
                             "a manifest (.jsonl, .csv, .parquet) with a uri column")
        if output:
            one.add_argument("--output", required=True, metavar="OUT", help=output)
        if workdir:
            one.add_argument("--workdir", required=workdir == "required", metavar="W", help=(
                "work directory" + ("" if workdir == "required" else f"; default: {workdir}")))
        options.add_flags(one, *kinds)
        if workdir:
            one.add_argument("--runner", default="DirectRunner", metavar="RUNNER", help=(
                f"Beam runner: {', '.join(beam_runner.RUNNERS)}; default: %(default)s, this machine alone"))
            one.add_argument("--shared-filesystem", action="store_true", help=(
                "all workers see the local inputs, work directory and output; default: a runner on other machines needs "
                "URLs"))
        return one

    def retry(one: argparse.ArgumentParser) -> None:
        one.add_argument("--retry-rejects", action="store_true", help=(
            "try again what failed for a reason that may pass; default: rejects stay rejects"))

    retry(command("build", "every stage in order, resuming what is done", ExtractOptions, ClusterOptions, SynthesizeOptions,
                  GenerateOptions, PairOptions, WriteOptions, inputs=True, output="folder of the finished dataset",
                  workdir="OUT with .work appended"))
    retry(command("extract", "look at every picture: faces, embeddings, checked reference crops", ExtractOptions,
                  inputs=True, workdir="required"))
    command("cluster", "say whose each face is", ClusterOptions, workdir="required")
    command("synthesize", "compose or generate pictures of several people; with none, remove them", SynthesizeOptions,
            GenerateOptions, ModelOptions, WorkerOptions, workdir="required")
    command("pair", "find references for the people of each target", PairOptions, workdir="required")
    command("write", "write shards and everything beside them", WriteOptions, workdir="required",
            output="folder of the finished dataset")
    for name, does in (("report", "make OUT/report.html, to look at"),
                       ("verify", "check a finished dataset; exit status 1 with a line for each fault")):
        one = command(name, does)
        one.add_argument("output", metavar="OUT", help="folder of a finished dataset")
        if name == "verify":
            one.add_argument("--deep", action="store_true", help=(
                "decode every picture and look for its faces again; default: files, sums and meaning of the JSON"))
            one.add_argument("--faces", metavar="BACKEND[:ARGUMENT]", help=(
                "face models that look again; default: those that the dataset names"))
    command("doctor", "what is installed, which weights are there, and what mends what is missing", DoctorOptions)
    return top


def parse(argv: Sequence[str]) -> Command:
    """A command line's meaning. Raises WrongUsage, and Failure where nothing opens a URL; prints help and raises SystemExit
    where asked to."""
    top = parser()
    command = _subparsers(top).get(argv[0]) if argv else None
    ours, beam_args = (list(argv), []) if command is None else _part(argv, command, _subparsers(top))
    values = top.parse_args(ours)
    runner = getattr(values, "runner", "DirectRunner")
    if runner not in beam_runner.RUNNERS:
        near = difflib.get_close_matches(runner, beam_runner.RUNNERS, 1)
        raise WrongUsage(f"unknown --runner {runner}" + (f"; did you mean {near[0]}?" if near else
                                                         f"; known are {', '.join(beam_runner.RUNNERS)}"))
    if values.command == "build" and values.workdir is None:
        values.workdir = values.output.rstrip("/") + ".work"
    elsewhere = runner not in beam_runner.LOCAL and not values.shared_filesystem
    if elsewhere and (place := next(_local_places(values), None)):
        raise WrongUsage(f"{place} is on this machine, and {runner}'s workers may not see it: name a URL, or say "
                         "--shared-filesystem")
    return Command(values.command, values, RunOptions(runner, tuple(beam_args)))


def _local_places(values: argparse.Namespace) -> Iterator[str]:
    """What workers read or write of this machine, as the user says it."""
    said = [("", url) for url in getattr(values, "inputs", ()) if posixpath.splitext(url)[1].lower() not in MANIFESTS]
    said += [(f"--{name} ", getattr(values, name, None)) for name in ("output", "workdir", "identities")]
    yield from (f"{flag}{url}" for flag, url in said if url and is_local(filesystem(url)[0]))


def _part(argv: Sequence[str], command: argparse.ArgumentParser,
          others: Mapping[str, argparse.ArgumentParser]) -> tuple[list[str], list[str]]:
    """A command's own words, and Beam's options among them with their values. Raises WrongUsage for options of neither."""
    own = command._option_string_actions
    theirs = beam_runner.beam_flags() if "--runner" in own else {}
    ours: list[str] = []
    beam_args: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        flag, equals, _ = word.partition("=")
        if word == "--":
            return [*ours, word, *words], beam_args
        if not word.startswith("--") or flag in own:
            ours.append(word)
            if flag in own and own[flag].nargs != 0 and not equals and words:
                ours.append(words.pop(0))
        elif flag in theirs:
            beam_args.append(word)
            if theirs[flag].nargs != 0 and not equals and words:
                beam_args.append(words.pop(0))
        elif any(flag in other._option_string_actions for other in others.values()):
            raise WrongUsage(f"{flag} is an option of another command")
        else:
            near = difflib.get_close_matches(flag, [*own, *theirs], 1, MISSPELT) or difflib.get_close_matches(flag, own, 1)
            raise WrongUsage(f"unknown option {flag}" + (f"; did you mean {near[0]}?" if near else ""))
    return ours, beam_args


def _subparsers(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction))


def run(command: Command) -> None:
    """Do it. Raises Failure."""
    values = command.values
    match command.name:
        case "build" | "extract" | "cluster" | "synthesize" | "pair" | "write":
            with locked(values.workdir):
                build.run(command.name, values, command.run)
        case "report":
            print(report.report(values.output))
        case "verify":
            verify.verify(values.output, values.deep, values.faces)
        case "doctor":
            doctor.doctor(options.of(DoctorOptions, values))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    try:
        run(parse(sys.argv[1:] if argv is None else argv))
    except WrongUsage as wrong:
        print(f"umo-dataset: {wrong}", file=sys.stderr)
        return 2
    except Failure as failed:
        print(f"umo-dataset: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("umo-dataset: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:  # the machine's fault, not the code's
        print(f"umo-dataset: {error.strerror or error}{f': {error.filename}' if error.filename else ''}: mend that and run "
              "the same command again; what is done stays done", file=sys.stderr)
        return 1
    return 0
