"""Is a finished dataset whole, and does it mean what it says? One line for each fault."""
from __future__ import annotations

import hashlib
import io
import json
import math
import re
import sys
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import card, dataset
from schemas.sample import JSON, JSON_SCHEMA, SCHEMA, Kind
from transforms import face_models, matching, pictures
from transforms.failure import Failure, in_a_line
from transforms.parts import filesystem, get, join

Json = dict[str, Any]
ROUNDING = 2e-6
"""Between numbers of `matching.DECIMALS` decimals: products of float16 are the same on any machine to far less."""
UNREADABLE = (*pictures.DAMAGE, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException, PIL.Image.DecompressionBombError,
              RuntimeError, MemoryError)
"""What the readers of JSON, npz, tar, Parquet and JPEG raise for damaged bytes."""
SOURCES = ("photo", "frame", "composite", "generated")
ABSOLUTE = re.compile(r"/|\\\\|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]*:/|.*(?:^|/)\.\.(?:/|$)")
ABOUT: dict[str, Kind] = {
    "schema": "string", "counts": {"samples": "int64", "by_config_and_split": {}, "by_source": {}, "identities": "int64"},
    "options": {"extract": {"faces": "string"}, "pair": {"max_bystanders": "int64"}},
    "models": {"faces": {"backend": "string", "name": "string", "sha256": "string", "dimensions": "int64", "bounds": {
        "same_person": "float64", "strict_same_person": "float64", "near_copy": "float64", "margin": "float64"}}},
    "shards": [{"path": "string", "references": "int64", "split": "string", "samples": "int64", "bytes": "int64",
                "sha256": "string", "parquet_sha256": "string"}]}
"""What is needed of `dataset.json`."""


def verify(output: str, deep: bool, faces: str | None = None) -> None:
    """Print every fault. `faces`: the face models that look at the pictures where it goes `deep`, those that the dataset names
    where there are none. Raises Failure with the number of faults."""
    try:
        about = dataset.read(output)
    except (ValueError, RecursionError) as error:
        raise Failure(f"dataset.json of {output} is cut or damaged ({in_a_line(error)}): remove it and build again") from None
    usable = deep and not any(kind_faults(about, ABOUT, exact=False))
    try:
        model = face_models.load(faces or about["options"]["extract"]["faces"]) if usable else None
    except face_models.MissingModel as missing:
        raise Failure(f"{missing}; where the dataset's models lie elsewhere, say so by --faces") from None
    count = 0
    for count, fault in enumerate(faults(output, about, model), 1):  # noqa: B007 (used below)
        print(" ".join(fault.encode(errors="replace").decode().split()))
    if count:
        raise Failure(f"{output} has {count} fault{'s' if count > 1 else ''}: remove its "
                      "dataset.json and build again, then what is damaged is written anew")
    print(f"{output}: {about['counts']['samples']} samples in {len(about['shards'])} shards are whole", file=sys.stderr)


def told(*checks: tuple[Any, str]) -> list[str]:
    """The lines of those checks (is it wrong?, line) that say so."""
    return [line for wrong, line in checks if wrong]


class Seen(NamedTuple):
    """What the samples so far hold: key -> shard, identity -> splits, and how many each source has."""

    keys: dict[str, str]
    splits: dict[str, set[str]]
    sources: Counter[str]


def faults(output: str, about: Json, model: face_models.FaceModel | None) -> Iterator[str]:
    """Every fault of a dataset, as a line. With a face model, every picture is decoded and looked at again."""
    broken = list(kind_faults(about, ABOUT, exact=False))
    yield from (f"dataset.json: {fault}" for fault in broken)
    if broken:
        return
    other = model is not None and model.embedder.sha256 != about["models"]["faces"]["sha256"]
    yield from told(
        (about["schema"] != SCHEMA, f"dataset.json: schema is {about['schema']}, not {SCHEMA}"),
        (other, "dataset.json: the model's sha256 is not that of the model that is installed, which looks at nothing here"))
    seen = Seen({}, defaultdict(set), Counter())
    for shard in about["shards"]:
        yield from _shard_faults(output, shard, about, None if other else model, seen)
    yield from (f"identity {name} is in {' and '.join(sorted(splits))}"
                for name, splits in sorted(seen.splits.items()) if len(splits) > 1)
    yield from _beside_faults(output, about, seen)


def kind_faults(value: Any, kind: Kind, where: str = "", exact: bool = True) -> Iterator[str]:
    """Where a JSON value is not of a kind (`schemas.sample.Kind`); `exact`: keys that the kind lacks are faults too."""
    name, dot = where or "it", f"{where}." if where else ""
    due: Any = {"string": str, "int64": int, "float64": float}[kind] if isinstance(kind, str) else type(kind)
    if not isinstance(value, due) or isinstance(value, bool):
        yield f"{name} is null" if value is None else f"{name} is a {type(value).__name__}, a {due.__name__} is due"
    elif isinstance(kind, dict):
        yield from (f"the key {dot}{key} is missing" for key in kind if key not in value)
        yield from (f"the key {dot}{key} is unknown" for key in value if exact and key not in kind)
        for key in kind:
            yield from kind_faults(value[key], kind[key], dot + key, exact) if key in value else ()
    elif isinstance(kind, list):
        for place, inner in enumerate(value):
            yield from kind_faults(inner, kind[0], f"{where}[{place}]", exact)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name} is {'NaN' if math.isnan(value) else value}"


def _read(output: str, name: str, sha256: str = "") -> Generator[str, None, bytes | None]:
    """A file's bytes, as the generator's value. Yields what is wrong with it."""
    try:
        data = get(join(output, name))
    except OSError as error:
        yield f"{name}: missing" if isinstance(error, FileNotFoundError) else f"{name}: {in_a_line(error)}"
        return None
    wrong = sha256 and hashlib.sha256(data).hexdigest() != sha256
    yield from told((wrong, f"{name}: its sha256 is not the one in dataset.json"))
    return data


def _parse(data: bytes, kind: Kind, exact: bool) -> tuple[Any, list[str]]:
    """A JSON value, and why it is none of that kind."""
    try:
        value = json.loads(data)
    except UNREADABLE as error:
        return None, [f"its JSON cannot be read ({in_a_line(error)})"]
    return value, list(kind_faults(value, kind, exact=exact))


def _shard_faults(output: str, shard: Json, about: Json, model: face_models.FaceModel | None, seen: Seen) -> Iterator[str]:
    """Faults of one tar, its samples and the Parquet beside it."""
    path = f"{shard['path']}.tar"
    data = yield from _read(output, path, shard["sha256"])
    if data is None:
        return
    members, broken = _members(data)
    samples = _samples(data, members)
    keys, rows = [key for key, _ in samples], list[Any]()
    right_place = dataset.SHARD.match(path) and path.startswith(f"refs-{shard['references']}/{shard['split']}-")
    yield from (f"{path}: {line}" for line in told(
        (not right_place, f"its name is not that of {shard['references']} references in {shard['split']}"),
        (len(data) != shard["bytes"], f"{len(data)} bytes, dataset.json says {shard['bytes']}"),
        *((True, line) for line in broken), (keys != sorted(keys), "its samples are not sorted by key"),
        (len(keys) != shard["samples"], f"{len(keys)} samples, dataset.json says {shard['samples']}")))
    for key, files in samples:
        if key in seen.keys:
            yield f"{path}: sample {key} is in {seen.keys[key]} too"
        seen.keys[key] = path
        row, broken = _parse(files.get("json", b""), JSON, True)
        rows.append(row)
        if not broken:
            seen.sources[row["source"]] += 1
            for reference in row["references"]:
                seen.splits[reference["identity"]].add(shard["split"])
            broken = list(sample_faults(key, files, row, shard, about, model))
        yield from (f"{path}: {key}: {line}" for line in broken)
    yield from _parquet_faults(output, shard, keys, rows)


def _members(data: bytes) -> tuple[list[tarfile.TarInfo], list[str]]:
    """Members of a tar, as many as can be read, and what is wrong with it: of odd headers, those of the first member."""
    members, bad, end = list[tarfile.TarInfo](), list[str](), 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for info in tar:
                end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if end > len(data):
                    return members, [*bad, f"the tar is truncated in {info.name}"]
                members.append(info)
                kind = data[info.offset + 156:info.offset + 157], data[info.offset + 257:info.offset + 265]
                bad = bad or told((kind != (tarfile.REGTYPE, tarfile.POSIX_MAGIC), f"{info.name} is no plain USTAR file"),
                                  (info.mode != 0o644, f"{info.name} has a mode other than 644"),
                                  (info.uid or info.gid or info.uname or info.gname, f"{info.name} has an owner"),
                                  (info.mtime, f"{info.name} has an mtime"))
    except UNREADABLE as error:
        return members, [*bad, f"the tar is truncated or damaged ({in_a_line(error)})"]
    cut = len(data) - end < 2 * tarfile.BLOCKSIZE or len(data) % tarfile.RECORDSIZE
    return members, bad + told((cut, "the tar is truncated: its end is missing"),
                               (data[end:].strip(b"\0"), "the tar is damaged: there is more behind its last member"))


def _samples(data: bytes, members: list[tarfile.TarInfo]) -> list[tuple[str, dict[str, bytes]]]:
    """Key and files (extension -> bytes, in order) of each run of members of one key."""
    samples: list[tuple[str, dict[str, bytes]]] = []
    for info in members:
        key, _, extension = info.name.partition(".")
        if not samples or samples[-1][0] != key or extension in samples[-1][1]:
            samples.append((key, {}))
        samples[-1][1][extension] = data[info.offset_data:info.offset_data + info.size]
    return samples


def _parquet_faults(output: str, shard: Json, keys: list[str], rows: list[Any]) -> Iterator[str]:
    """The Parquet beside a tar holds the same samples in the same order."""
    path = f"{shard['path']}.parquet"
    data = yield from _read(output, path, shard["parquet_sha256"])
    if data is None:
        return
    try:
        table = pq.read_table(io.BytesIO(data))
        its = table.to_pylist() if table.schema == JSON_SCHEMA else None
    except UNREADABLE as error:
        yield f"{path}: cannot be read ({in_a_line(error)})"
        return
    if its is None or [row["key"] for row in its] != keys:
        yield f"{path}: its {'columns' if its is None else 'keys'} are not those of the tar's samples, in the same order"
    elif its != rows:
        yield f"{path}: its rows are not the JSON of the tar's samples"


def _beside_faults(output: str, about: Json, seen: Seen) -> Iterator[str]:
    """What should stand beside the shards and does not, what nothing lists, and accounts that do not add up."""
    fs, path = filesystem(output)
    found = {name[len(path.rstrip("/")) + 1:] for name in fs.find(path)}
    listed = {f"{shard['path']}{end}" for shard in about["shards"] for end in (".tar", ".parquet")}
    yield from (f"{name}: missing" for name in dataset.BESIDE if name not in found)
    yield from (f"{name}: dataset.json does not list it" for name in sorted(found - listed - {*dataset.BESIDE}))
    counts, split, steps = about["counts"], Counter[str](), list[Json]()
    for name, kind in (("croissant.json", {}),
                       ("funnel.json", [{"step": "string", "in": "int64", "kept": "int64", "dropped": {}}])):
        value, broken = _parse((yield from _read(output, name)) or b"", kind, False) if name in found else (None, [])
        yield from (f"{name}: {fault}" for fault in broken)
        steps = value if kind and value and not broken else []
    yield from (f"funnel.json: {step['step']}: in is {step['in']}, kept and dropped do not add up to it" for step in steps if
                step["in"] - step["kept"] != sum(count for count in step["dropped"].values() if isinstance(count, int)))
    for shard in about["shards"]:
        split[f"refs-{shard['references']}/{shard['split']}"] += shard["samples"]
    last = next((step for step in steps if step["step"] == "shards"), {"in": split.total(), "kept": split.total()})
    yield from told(
        (counts["samples"] != split.total(), f"dataset.json: counts.samples is not {split.total()}, the sum of its shards"),
        (counts["by_config_and_split"] != split, "dataset.json: counts.by_config_and_split is not the sum of its shards"),
        (last["kept"] != split.total(), f"funnel.json: {last['kept']} samples were kept, the shards have {split.total()}"))
    yield from told((counts["by_source"] != seen.sources, f"dataset.json: counts.by_source is not {dict(seen.sources)}"),
                    (counts["identities"] != len(seen.splits), "dataset.json: counts.identities is not theirs"))


def sample_faults(key: str, members: dict[str, bytes], row: Any, shard: Json, about: Json,
                  model: face_models.FaceModel | None) -> Iterator[str]:
    """What is wrong with one sample (contract, sections 3 and 4). `row`: its JSON, whose types are right."""
    count, size = shard["references"], about["models"]["faces"]["dimensions"]
    wanted = ["json", "npz", *(f"ref_{number}.jpg" for number in range(1, count + 1)), "target.jpg", "txt"]
    broken = told((list(members) != wanted, f"members are {', '.join(members)}, not {', '.join(wanted)}"))
    if broken or (broken := _length_faults(row, count)):
        yield from broken
        return
    yield from _place_faults(key, members, row, shard, about)
    yield from _picture_faults(row, members)
    try:
        with np.load(io.BytesIO(members["npz"]), allow_pickle=False) as arrays:
            vectors = {name: arrays[name] for name in arrays.files}
    except (*UNREADABLE, AttributeError) as error:
        yield f"its npz cannot be read ({in_a_line(error)})"
        return
    holds = {name: f"{array.dtype} {list(array.shape)}" for name, array in vectors.items()}
    faces = len(row["similarity_matrix"][0])
    if holds != (due := {"target": f"float16 [{faces}, {size}]", "refs": f"float16 [{count}, {size}]"}):
        yield f"its npz holds {holds}, not {due}"
        return
    yield from _matrix_faults(row, vectors["target"], vectors["refs"], about)
    yield from () if model is None else _face_faults(row, members, vectors["target"], vectors["refs"], about, model)


def _length_faults(row: Json, count: int) -> list[str]:
    """Lists of a sample's JSON that are too long or too short."""
    faces = {len(line) for line in row["similarity_matrix"]}
    found = told(*((len(row[name]) != count, f"{name} has a length of {len(row[name])}, not {count}")
                   for name in ("references", "similarity_matrix", "assignment")),
                 (len(faces) != 1 or min(faces, default=0) < max(2, count),
                  f"similarity_matrix has rows with a length of {', '.join(map(str, sorted(faces)))}, not one a face"))
    for place, one in enumerate(row["references"]):
        for name in ("crop", "face_box", "target_face_box", "target_person_box"):
            box, it = one[name], f"references[{place}].{name}"
            found += told((len(box) != 4 and (box or name != "target_person_box"), f"{it} has a length of {len(box)}, not 4"),
                          (len(box) == 4 and not (box[0] < box[2] and box[1] < box[3]), f"{it} is no box"))
        found += told(([len(point) for point in one["target_keypoints"]] != [2] * 5,
                       f"references[{place}].target_keypoints has a length other than 5 x 2"))
    return found


def _place_faults(key: str, members: dict[str, bytes], row: Json, shard: Json, about: Json) -> Iterator[str]:
    """What the JSON says that its place, the other members and `dataset.json` say too; whom and what it names."""
    faces, references = about["models"]["faces"], row["references"]
    identities = {one["identity"] for one in references}
    images = {row["target"]["image_key"], *(one["image_key"] for one in references)}
    made_by = f"{faces['backend']}/{faces['name']}"
    yield from told(
        (not re.fullmatch("[0-9a-f]{32}", key) or row["key"] != key, f"key is {row['key']!r}, not {key!r} of 32 hex digits"),
        (row["schema"] != SCHEMA, f"schema is {row['schema']!r}, not {SCHEMA!r}"),
        (row["split"] != shard["split"], f"split is {row['split']!r}, not {shard['split']!r}"),
        (row["models"]["faces"] != made_by, f"models.faces is {row['models']['faces']!r}, not {made_by!r}"),
        (row["source"] not in SOURCES, f"source is {row['source']!r}, not one of {', '.join(SOURCES)}"),
        (bool(row["generator"]) != (row["source"] in card.MADE_UP),
         f"generator is {row['generator']!r} where source is {row['source']!r}"),
        (members["txt"] != row["prompt"].encode(errors="replace"), "the prompt in .txt is not the one in .json"),
        *((one["member"] != f"ref_{number}.jpg", f"the member of reference {number} is {one['member']!r}")
          for number, one in enumerate(references, 1)),
        *((ABSOLUTE.match(one["uri"]), f"the uri {one['uri']!r} is not relative") for one in (row["target"], *references)),
        (len(identities) != len(references) or "" in identities, "one identity stands for two references, or has no name"),
        (len(images) != len(references) + 1, "one picture serves twice"))


def _matrix_faults(row: Json, target: np.ndarray, refs: np.ndarray, about: Json) -> Iterator[str]:
    """The matrix against the npz's rows; the assignment and every measure against the matrix and the bounds."""
    matrix, references = np.array(row["similarity_matrix"], np.float64), row["references"]
    bounds, options = about["models"]["faces"]["bounds"], about["options"]["pair"]
    unit = np.allclose(np.linalg.norm(np.concatenate([target, refs]).astype(np.float64), axis=1), 1, atol=1e-2)
    others, faces, assignment = row["bystanders"], matrix.shape[1], row["assignment"]
    yield from told(
        (not unit, "its npz holds rows that are no unit vectors"),
        (unit and np.abs(matching.similarity_matrix(refs, target) - matrix).max() > ROUNDING,
         "similarity_matrix is not the cosine of the npz's rows"),
        (not 0 <= others <= min(options["max_bystanders"], faces - len(references)),
         f"bystanders is {others} of {faces} faces, options.pair.max_bystanders is {options['max_bystanders']}"),
        *((abs(row[name] - value) > ROUNDING, f"{name} is {row[name]}, the matrix gives {value}") for name, value in (
            ("id_sim", matching.id_sim(matrix)), ("id_conf", matching.id_conf(matrix)), ("mimr", matching.mimr(matrix)))))
    if len(set(assignment)) < len(assignment) or not all(0 <= face < faces for face in assignment):
        yield f"assignment is {assignment}, which are not different faces of {faces}"
        return
    lefts = [references[place]["target_face_box"][0] for place in np.argsort(assignment)]
    strict = row["source"] == "generated" and about["options"].get("synthesize", {}).get("generated_bound") == "strict"
    due = "strict_same_person" if strict else "same_person"
    least = options["min_margin"] if isinstance(options.get("min_margin"), int | float) else bounds["margin"]
    yield from told(
        (not matching.holds_both_ways(matrix, np.array(assignment)).all(),
         "assignment: a reference's best face is not the assigned one, or the other way round"),
        (lefts != sorted(lefts), "assignment: the target_face_box of the assigned faces do not ascend"))
    for place, (one, margin) in enumerate(zip(references, matching.margins(matrix), strict=True)):
        similarity, it = matrix[place, assignment[place]], f"references[{place}]"
        yield from told(
            *((abs(one[name] - value) > ROUNDING, f"{it}.{name} is {one[name]}, the matrix gives {value}")
              for name, value in (("similarity", similarity), ("margin", margin))),
            (not bounds[due] - ROUNDING <= similarity <= bounds["near_copy"] + ROUNDING,
             f"{it}.similarity is out of bounds: {similarity}"),
            (margin < least - ROUNDING, f"{it}.margin is out of bounds: {margin}, at least {least} is due"))


def _picture_faults(row: Json, members: dict[str, bytes]) -> Iterator[str]:
    """Sizes, boxes, sampling and metadata, from the headers."""
    boxes = {"target.jpg": [one["target_face_box"] for one in row["references"]]}
    boxes.update({f"ref_{number}.jpg": [one["face_box"]] for number, one in enumerate(row["references"], 1)})
    for member, its in boxes.items():
        try:
            picture: Any = PIL.Image.open(io.BytesIO(members[member]), formats=["JPEG"])
        except UNREADABLE:
            yield f"{member} is no JPEG"
            continue
        extra = sorted({name for name, data in picture.applist if name != "APP0" or not data.startswith(b"JFIF\0")})
        size = (row["target"]["width"], row["target"]["height"]) if member == "target.jpg" else picture.size
        yield from (f"{member} {line}" for line in told(
            (extra, f"carries metadata ({', '.join(extra)})"), (picture.mode != "RGB", f"is {picture.mode}, not RGB"),
            (len({layer[1:3] for layer in picture.layer}) != 1, "is not sampled 4:4:4"),
            (not members[member].endswith(b"\xff\xd9"), "is truncated, or there is more behind its end"),
            (picture.size != size, f"is {picture.size}, its JSON says otherwise")))
        yield from (f"a face box of {member} lies outside of it" for box in its if not all(
            0 <= (box[axis] + box[axis + 2]) / 2 <= picture.size[axis] for axis in (0, 1)))


def _face_faults(row: Json, members: dict[str, bytes], target: np.ndarray, refs: np.ndarray,
                 about: Json, model: face_models.FaceModel) -> Iterator[str]:
    """Every picture decoded and looked at: each reference shows one face, that of its npz row and of its target face."""
    for place, member in enumerate(["target.jpg", *(one["member"] for one in row["references"])], -1):
        try:
            found = model.analyze([np.asarray(pictures.decode(members[member], pictures.UNLIMITED))])[0]
        except (KeyError, pictures.BadPicture) as bad:
            yield f"{member} cannot be decoded ({in_a_line(bad)})"
            continue
        if len(found) < len(refs) if place < 0 else len(found) != 1:
            yield f"{member} shows {len(found)} faces"
        if place < 0 or len(found) != 1:
            continue
        face, strict = found[0].embedding.astype(np.float64), about["models"]["faces"]["bounds"]["strict_same_person"]
        cosine = float(face @ refs[place].astype(np.float64))
        yield from told(
            (not cosine > strict, f"{member} shows a face with a cosine of {cosine:.3f} to its npz row, {strict} is due"),
            (np.argmax(target.astype(np.float64) @ face) != row["assignment"][place],
             f"{member} shows a face that is more like another face of the target than the assigned one"))
