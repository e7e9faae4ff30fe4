"""Runs a stage's pipeline on the runner that the command line names."""
from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Sequence

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipeline import local_worker
from transforms import progress
from transforms.failure import Failure

RUNNERS = ("DirectRunner", "PrismRunner", "FlinkRunner", "PortableRunner", "DataflowRunner")
LOCAL = ("DirectRunner",)
"""Runners whose workers see this machine's files."""
MACHINE = ("OSError", "PermissionError", "ConnectionError", "TimeoutError")
FAILURES = ("Failure", "MissingModel", "WrongUsage", "CannotStart", "NotReady", "OtherSchema")
EXPECTED = re.compile(rf"^[\w.]*?(?P<kind>{'|'.join(MACHINE + FAILURES)}): "
                      r"(?:\[Errno \d+\] )?(?P<what>.*?)(?: \[while running .*\])?$", re.MULTILINE)
"""The line of an error's text, as Beam passes it on from a worker, that says that the machine failed and not the code, or what
is a plain Failure of ours."""
BUNDLES_AT_ONCE = 2
"""Threads that run bundles on one machine: while one waits for the last pictures of its chunk, the other's keep the
child processes busy. So many for each child process, where one child at a time works on a bundle."""


def beam_flags() -> dict[str, argparse.Action]:
    """Every option string of Beam's own options -> its action."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in _subclasses(PipelineOptions):
        options._add_argparse_args(parser)  # type: ignore[arg-type]  # Beam's own hook: there is no public list
    return parser._option_string_actions


def _subclasses(kind: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    return [one for sub in kind.__subclasses__() if sub.__module__.startswith("apache_beam.")
            for one in (sub, *_subclasses(sub)) if "_add_argparse_args" in one.__dict__]


def _is_news(record: logging.LogRecord) -> bool:
    """Not so what Beam's RunInference says of this machine wherever torch is missing (apache_beam.ml.inference.base, 2.77: it
    imports `resource` together with a module that needs torch)."""
    return not record.getMessage().startswith("Resource module is not available")


def run(build: Callable[[beam.Pipeline], object], runner: str, beam_args: Sequence[str], children: int = 1) -> None:
    """Build a pipeline and run it to its end; on one machine with bundles enough to keep `children` busy.

    Raises Failure where the machine failed (no space, no permission, a store that does not answer), and what Beam raises
    where the code did."""
    if runner in LOCAL:
        local_worker.register()
        options = PipelineOptions(list(beam_args), direct_num_workers=BUNDLES_AT_ONCE * children,
                                  direct_running_mode="multi_threading")
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)  # by itself: DirectRunner would fetch Prism
    else:
        pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *beam_args]))
    build(pipeline)
    if runner in LOCAL:  # it logs every failure several times, some after the end; it is raised once, below
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        logging.getLogger().addFilter(_is_news)
    progress.listen()
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except grpc.FutureTimeoutError:
        raise Failure(f"no job server answers at {_job_server(pipeline)}: start it, or name one by --job_endpoint") from None
    except grpc.RpcError as error:
        raise Failure(f"the job server at {_job_server(pipeline)} answers no more: start it and run the same command again; "
                      "what is done stays done") from error
    except (RuntimeError, OSError) as error:
        machine = EXPECTED.search(str(error))
        if machine is None:
            raise RuntimeError(f"a transform failed:\n{error}") from None  # the text holds its traceback
        if machine["kind"] not in MACHINE:
            raise Failure(machine["what"]) from error
        raise Failure(f"{machine['what']}: mend that and run the same command again; what is done stays done") from error
    if runner not in LOCAL:
        progress.hear(result.metrics())


def _job_server(pipeline: beam.Pipeline) -> str:
    return str(pipeline.options.view_as(PortableOptions).job_endpoint)
