"""A cluster of one machine: Beam's own job server, and a pool that starts workers in processes of their own."""
from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 60
"""Seconds that a server may take to listen."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def job_server() -> Iterator[list[str]]:
    """The options that run a stage there, while the block runs."""
    server, pool = free_port(), free_port()
    modules = {"apache_beam.runners.portability.local_job_service_main": ["--port", str(server)],
               "apache_beam.runners.worker.worker_pool_main": ["--service_port", str(pool)]}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # a worker is whatever `python` is
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[1])}
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen([sys.executable, "-m", module, *options], env=environment,
                                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                     for module, options in modules.items()]
        try:
            for port in (server, pool):
                _wait_for(port)
            yield ["--runner", "PortableRunner", "--job_endpoint", f"localhost:{server}", "--shared-filesystem",
                   "--environment_type", "EXTERNAL", "--environment_config", f"localhost:{pool}"]
        finally:
            for process in processes:
                process.kill()  # asked to end, they go on


def _wait_for(port: int) -> None:
    for _ in range(10 * PATIENCE):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at {port}")
