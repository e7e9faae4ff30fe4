"""How much memory a build takes, and that it does not grow with the number of images.

    python -m benchmarks.memory [--images 5000 20000] [--photos FOLDER]

Photos are made by encoding the same pictures again: of 16 one of a couple, two of one of them each, and 13 of nobody, for
the time of a run goes into faces, and what grows with N is rows. Prints the peak resident set of each process of
`umo-dataset build`, and the ratio of the largest run's to the smallest's."""
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import photos, processes

COUPLE, HE, SHE = "azure_002.jpg", "azure_014.jpg", "azure_013.jpg"
NOBODY = [f"misc_{number:03d}.jpg" for number in (1, 2, 3, 4)]
NAMES = [COUPLE, HE, SHE, *NOBODY * 3, NOBODY[0]]
LONGEST = 400
"""Pixels: small, and the couple's faces are still found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 20000], help="default: 5000 20000")
    parser.add_argument("--photos", type=Path, default=photos.FACES, help="default: %(default)s")
    values = parser.parse_args()
    peaks = []
    for count in values.images:
        with tempfile.TemporaryDirectory() as folder:
            made = photos.reencoded(values.photos, Path(folder) / "photos", count, LONGEST, NAMES)
            used = processes.python("-m", "pipeline", "build", str(made), "--output", f"{folder}/out")
            peaks.append(max(used.peaks))
            print(f"{count} images, {used.seconds:.0f} s: peak of each process "
                  + ", ".join(f"{peak / 2**20:.0f} MiB" for peak in used.peaks), flush=True)
    print(f"ratio of the largest process's peak, {values.images[-1]} to {values.images[0]} images: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
