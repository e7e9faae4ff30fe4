"""A worker of Beam's local runner, mended where it would lose elements or wait for ever."""
from __future__ import annotations

from typing import Any

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    EmbeddedGrpcWorkerHandler,
    WorkerHandler,
)

WHEN_FULL = 0
"""When a bundle's elements are sent on, in Beam's milliseconds: when there are 10 MB, or it ends. By itself Beam's local
runner sends them every second too, from another thread, which may cut an element that is just being written, and loses what is
written while it sends (apache_beam.runners.worker.data_plane, 2.77: TimeBasedBufferingClosableOutputStream). Where four bundles
write for three seconds, six of six runs failed (tests/long_bundles.py)."""


class LocalWorker(EmbeddedGrpcWorkerHandler):
    """A thread that runs bundles."""

    def __init__(self, *of_beam: Any) -> None:
        super().__init__(*of_beam)
        self._data_buffer_time_limit_ms = WHEN_FULL

    def close(self) -> None:
        """Waits for the worker's end. Beam's own asks only a worker that has connected to end: one that is slower than
        another's failure then waits for work for ever, and the run for it (worker_handlers, 2.77: ControlConnection.close;
        tests/late_worker.py)."""
        self.control_conn.push(BeamFnControlServicer._DONE_MARKER)
        super().close()


def register() -> None:
    """Have Beam's local runner start `LocalWorker`, from here on, for its own."""
    WorkerHandler.register_environment(python_urns.EMBEDDED_PYTHON_GRPC, bytes)(LocalWorker)
