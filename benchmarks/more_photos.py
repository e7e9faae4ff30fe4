"""What a few more photos cost, and whom they rename.

    python -m benchmarks.more_photos [--set 100000x512] [--seed 3] [--share 0.01] [--times 1] [--keep FOLDER]

Runs `cluster` on a generated set (`benchmarks.identities`) without a share of its images, and again when they have come; that
so many times. The plain baseline is a run from the start over all images, in time and in BCubed F. Whose faces all stay
together, with nobody else's, must keep the name."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import processes
from benchmarks.identities import GIB, MADE, FaceSet, labels_of, make, place, scores
from transforms.extract import FOLDERS
from transforms.parts import LEDGER, PHOTOS, Parts, join, put


def people(workdir: str) -> dict[str, set[str]]:
    """Identity -> its face_ids."""
    table = Parts(workdir, "identities").read_all(["face_id", "identity"])
    found: dict[str, set[str]] = {}
    for face_id, name in zip(table["face_id"].to_pylist(), table["identity"].to_pylist(), strict=True):
        if name is not None:
            found.setdefault(name, set()).add(face_id)
    return found


def renamed(before: dict[str, set[str]], after: dict[str, set[str]]) -> tuple[int, int]:
    """How many earlier identities are whole and alone among the later ones, and how many of those have another name."""
    earlier_of = {face: name for name, faces in before.items() for face in faces}
    name_of = {face: name for name, faces in after.items() for face in faces}
    kept = [(name, now) for name, faces in before.items()
            if len(its := {name_of.get(face) for face in faces}) == 1 and (now := next(iter(its))) is not None
            and {earlier_of[face] for face in after[now] if face in earlier_of} == {name}]
    return len(kept), sum(name != now for name, now in kept)


def split(workdir: str, share: float, times: int) -> list[list[str]]:
    """Cut parts, so that a share of all images can come later, so many times; gives the names of the parts that are there from
    the start, and of those that come each time. Raises ValueError where that is no image, or are all."""
    images = Parts(workdir, "images")
    sizes = [images.rows(part) for part in images.parts()]
    count = int(share * sum(sizes))
    if not 0 < count * times < sum(sizes):
        raise ValueError(f"{times} times {count} of {sum(sizes)} images cannot come later")
    found: list[list[str]] = [[] for _ in range(times + 1)]
    for part, start in zip(images.parts(), np.cumsum([0, *sizes]).tolist(), strict=False):
        keys = images.read(part, ["image_key"])["image_key"]
        time = np.minimum((start + np.arange(len(keys))) // count, times)  # the last of all is there from the start
        if time[0] == times:
            found[0].append(part)
            continue
        for one in np.unique(time).tolist():
            its = keys.filter(pa.array(time == one)).combine_chunks()
            name = f"{one:02}-{part}"
            for folder in FOLDERS:
                rows = Parts(workdir, folder).read(part)
                chosen = pc.is_in(rows["image_key"], its) if len(rows) else pa.array([], pa.bool_())
                Parts(workdir, folder).write(name, rows.filter(chosen))
            found[(one + 1) % (times + 1)].append(name)
    return found


def _list(there: Parts, names: list[str]) -> None:
    """Make these the valid parts; none is removed."""
    put(join(there.url, LEDGER), json.dumps({"parts": {PHOTOS: sorted(names)}}).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", type=FaceSet.of, default=FaceSet(100_000, 512), metavar="FACESxDIMENSIONS",
                        help="default: 100000x512")
    parser.add_argument("--seed", type=int, default=3, help="default: 3")
    parser.add_argument("--share", type=float, default=0.01, help="of the images, that come later; default: 0.01")
    parser.add_argument("--times", type=int, default=1, help="that so many come; default: 1")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of generated sets, to be used again; default: none")
    values = parser.parse_args()
    with place(values.keep, f"{values.set}-{values.seed}-more") as folder:
        workdir = str(folder)
        make(values.set, values.seed, folder)
        truth = pq.read_table(folder / "truth.parquet").sort_by("face_id")
        listed, before = list[str](), dict[str, set[str]]()

        def run(parts: list[str]) -> processes.Usage:
            for name in FOLDERS:
                _list(Parts(workdir, name), parts)
            return processes.python("-m", "pipeline", "cluster", "--workdir", workdir)

        def anew() -> None:
            for made in MADE:
                Parts(workdir, made).discard()

        anew()
        seconds, peak = [], 0
        for time, parts in enumerate(split(workdir, values.share, values.times)):
            listed += parts
            used = run(listed)
            now = people(workdir)
            if time:
                seconds.append(used.seconds)
                peak = max(peak, *used.peaks)
                same, others = renamed(before, now)
                print(f"{values.set}, seed {values.seed}: {used.seconds:.0f} s for {values.share:.0%} more; of {len(before)} "
                      f"identities {same} stayed whole and alone, {others} of these are renamed", flush=True)
            before = now
        gone_on = scores(labels_of(workdir, truth["face_id"]), truth)["F"]
        anew()
        whole = run(listed)
        print(f"a run from the start: {whole.seconds:.0f} s, F {scores(labels_of(workdir, truth['face_id']), truth)['F']:.4f}, "
              f"{max(whole.peaks) / GIB:.2f} GiB; {values.share:.0%} more: {np.mean(seconds) / whole.seconds:.2f} of its time, "
              f"F {gone_on:.4f}, {peak / GIB:.2f} GiB")


if __name__ == "__main__":
    main()
