"""What a command costs, seen from outside: time, processor time and the peak memory of each of its processes."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Usage:
    """One finished command."""

    seconds: float
    processor_seconds: float
    """Of all its processes."""
    output: str
    """What it printed on standard output."""
    peaks: list[int]
    """Peak resident set of each of its processes, bytes, the first process first (VmHWM, proc(5))."""


def python(*arguments: str) -> Usage:
    """Run this interpreter with the arguments. Raises CalledProcessError, after what it had to say."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([sys.executable, *arguments], stdout=printed, stderr=told)
        peaks: dict[int, int] = {}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(POLL_SECONDS):
                for pid in _family(process.pid):
                    peaks[pid] = max(peaks.get(pid, 0), _peak(pid))

        thread = threading.Thread(target=watch)
        thread.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        over.set()
        thread.join()
        printed.seek(0)
        output = printed.read()
        if status:
            told.seek(0)
            sys.stderr.write(told.read())
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), list(arguments))
    return Usage(seconds, usage.ru_utime + usage.ru_stime, output, [peaks[pid] for pid in sorted(peaks)])


def _family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
