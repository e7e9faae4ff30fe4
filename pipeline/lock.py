"""One command at a time in a work directory."""
from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from transforms.failure import Failure
from transforms.parts import filesystem, is_local, join
from transforms.plain import plainly

LOCK = "_lock"


@contextmanager
def locked(workdir: str) -> Iterator[None]:
    """Hold the work directory. Raises Failure where another command holds it, or it cannot be opened.

    On local disks the kernel frees a lock whose process has died; elsewhere a file names the holder."""
    fs, path = filesystem(workdir)
    path = join(path, LOCK)
    if is_local(fs):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = open(path, "w")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise Failure(f"{workdir} cannot be written ({error.strerror}): name another --workdir") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(f"{workdir} is in use by another umo-dataset: wait for it, or name another --workdir"
                              ) from None
            yield
        return
    with plainly(workdir):
        if fs.exists(path):
            holder = fs.cat_file(path).decode(errors="replace")
            raise Failure(f"{workdir} is in use by {holder}: wait for it, or remove {join(workdir, LOCK)} if it has died")
        fs.pipe_file(path, json.dumps({"host": socket.gethostname(), "pid": os.getpid(),
                                       "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}).encode())
    try:
        yield
    finally:
        fs.rm_file(path)
