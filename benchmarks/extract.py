"""How much of the cores `extract` turns into pictures looked at, and what Beam takes of it.

    python -m benchmarks.extract [--images 460] [--photos FOLDER]

Baseline: one process, one plain loop that decodes each picture and calls the same models. Ratio: images a second of `extract`
over images a second of the loop, which at best is the number of cores. Beam's share: the processor time of the process that
runs the Beam job, beyond what that process takes where a plain loop calls the step on the same chunks; the models run in
child processes, which are the same in both."""
from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks import photos, processes
from pipeline.stages import RunOptions, extract
from transforms import digests, face_models, inputs
from transforms.examination import Models, Opened, examine, open_picture
from transforms.extract import ExtractOptions, Extractor, close_examiners, name_chunk

OPTIONS = ExtractOptions()


def loop(folder: str) -> None:
    """The baseline."""
    models = Models(OPTIONS, face_models.embedder(OPTIONS.faces), None)
    for path in sorted(Path(folder).iterdir()):
        data = path.read_bytes()
        opened = open_picture((digests.of_bytes(data), data), OPTIONS)
        assert isinstance(opened, Opened)
        examine([opened], models, OPTIONS)


def beamless(folder: str, workdir: str) -> None:
    """The step's own work, called by nobody but a loop."""
    embedder = face_models.embedder(OPTIONS.faces)
    extractor = Extractor(workdir, OPTIONS, embedder)
    examiner = extractor.load_model()
    for chunk in inputs.chunks([folder], OPTIONS):
        extractor.make_part(name_chunk(chunk, OPTIONS, embedder), examiner)
    close_examiners()


def beam(folder: str, workdir: str) -> None:
    """The stage as a user runs it."""
    extract([folder], workdir, OPTIONS, RunOptions(), retry=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=460, help="default: %(default)s, four times the labelled pictures")
    parser.add_argument("--photos", type=Path, default=photos.FACES, help="default: %(default)s")
    parser.add_argument("--way", choices=["loop", "beamless", "beam"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    values = parser.parse_args()
    if values.way:
        with tempfile.TemporaryDirectory() as workdir:
            {"loop": lambda: loop(values.folder), "beamless": lambda: beamless(values.folder, workdir),
             "beam": lambda: beam(values.folder, workdir)}[values.way]()
        print(time.process_time())  # of this process, without its children
        return
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        made = photos.reencoded(values.photos, Path(folder) / "photos", values.images)
        used = {way: processes.python("-m", "benchmarks.extract", "--way", way, "--folder", str(made))
                for way in ("loop", "beam", "beamless")}
    rate = {way: values.images / usage.seconds for way, usage in used.items()}
    ratio = rate["beam"] / rate["loop"]
    own = {way: float(usage.output) for way, usage in used.items()}
    share = (own["beam"] - own["beamless"]) / used["beam"].processor_seconds
    print(f"{values.images} images, {cores} cores, start-up included\n"
          f"plain loop, one process   {rate['loop']:.2f} images/s\n"
          f"extract                   {rate['beam']:.2f} images/s\n"
          f"ratio                     {ratio:.2f} = {ratio / cores:.2f} x cores\n"
          f"Beam's share              {share:.1%} of the processor time")


if __name__ == "__main__":
    main()
