"""What a few more photos cost, and whom they rename.

    python -m benchmarks.more_photos [--set 100000x512] [--seed 3] [--share 0.01] [--keep FOLDER]

Runs `cluster` on a generated set (`benchmarks.identities`) without a share of its images, and again with all of them. The plain
baseline is the first run. Whose faces all stay together, with nobody else's, must keep the name."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import processes
from benchmarks.identities import MADE, FaceSet, make, place
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


def split(workdir: str, share: float) -> tuple[list[str], list[str]]:
    """Cut the first part in two, of which the second holds a share of all images; gives the names of all parts and those of all
    but that one. Raises ValueError where the part is too small."""
    images = Parts(workdir, "images")
    first, *others = images.parts()
    count = int(share * sum(map(images.rows, [first, *others])))
    keys = images.read(first, ["image_key"])["image_key"]
    if not 0 < count < len(keys):
        raise ValueError(f"{count} of {len(keys)} images of a part cannot come later")
    later = keys.slice(len(keys) - count).combine_chunks()
    for folder in FOLDERS:
        there = Parts(workdir, folder)
        rows = there.read(first)
        late = pc.is_in(rows["image_key"], later) if len(rows) else pa.array([], pa.bool_())
        there.write(f"early-{first}", rows.filter(pc.invert(late)))
        there.write(f"late-{first}", rows.filter(late))
    return [f"early-{first}", *others, f"late-{first}"], [f"early-{first}", *others]


def _list(there: Parts, names: list[str]) -> None:
    """Make these the valid parts; none is removed."""
    put(join(there.url, LEDGER), json.dumps({"parts": {PHOTOS: sorted(names)}}).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", type=FaceSet.of, default=FaceSet(100_000, 512), metavar="FACESxDIMENSIONS",
                        help="default: 100000x512")
    parser.add_argument("--seed", type=int, default=3, help="default: 3")
    parser.add_argument("--share", type=float, default=0.01, help="of the images, that come later; default: 0.01")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of generated sets, to be used again; default: none")
    values = parser.parse_args()
    with place(values.keep, f"{values.set}-{values.seed}-more") as folder:
        workdir = str(folder)
        make(values.set, values.seed, folder)
        for made in MADE:
            Parts(workdir, made).discard()
        everything, early = split(workdir, values.share)
        seconds, found = [], []
        for parts in (early, everything):
            for name in FOLDERS:
                _list(Parts(workdir, name), parts)
            seconds.append(processes.python("-m", "pipeline", "cluster", "--workdir", workdir).seconds)
            found.append(people(workdir))
    same, others = renamed(*found)
    print(f"{values.set}, seed {values.seed}: {seconds[1]:.0f} s for {values.share:.0%} more after {seconds[0]:.0f} s: "
          f"{seconds[1] / seconds[0]:.2f}; of {len(found[0])} identities {same} stayed whole and alone, {others} of these are "
          "renamed")


if __name__ == "__main__":
    main()
