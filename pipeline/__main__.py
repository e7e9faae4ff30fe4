"""`python -m pipeline` is `umo-dataset`."""
import os
import sys
from typing import Any, NoReturn


class WithoutBeamTracebacks:
    """Standard error without the tracebacks that Beam's worker threads print, one each, of a failure that is raised anyway."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.dropped = False

    def write(self, text: str) -> int:
        """Pass the text on, or drop it together with the end of its line."""
        beams = text.startswith("Traceback") and "apache_beam" in text
        drop = beams or (self.dropped and text == "\n")
        self.dropped = beams
        return len(text) if drop else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def main() -> NoReturn:
    """Run the command line. Imported late: child processes import this module and need none of it."""
    from pipeline import memory, processor

    processor.choose_instructions()
    memory.share_among_threads()
    from pipeline.cli import main

    sys.stderr = WithoutBeamTracebacks(sys.stderr)  # for good: a thread may print after the end
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Beam's threads of a failed job may still run: waiting for them was measured to abort now and then


if __name__ == "__main__":
    main()
