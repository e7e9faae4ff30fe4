"""The finished dataset beside its shards: `dataset.json`, `funnel.json`, the card. The first is written last."""
from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import card, croissant, funnel
from pipeline.funnel import Step
from pipeline.packages import version
from schemas.sample import SCHEMA
from transforms import diffusion, face_models, person_models
from transforms.cluster import embedder_of
from transforms.failure import Failure
from transforms.parts import Parts, filesystem, get, join, put, remove
from transforms.plain import plainly
from transforms.synthetic import synthesized

LIBRARIES = ("apache-beam", "numpy", "pillow", "pyarrow", "scipy")
"""Whose versions can change a byte of any dataset; the models' packages are added."""
SHARD = re.compile(r"^refs-\d+/(train|val|test)-\d{6}\.(tar|parquet)$")
LEAST_SURE = 12
"""People whom `dataset.json` names and the report shows: what one looks through at a glance."""
BESIDE = ("README.md", "dataset.json", "croissant.json", "report.html", "funnel.json")


def check_output(output: str) -> None:
    """Raises Failure where the output cannot be written, or holds what is not a dataset of ours."""
    with plainly(output):
        fs, path = filesystem(output)
        try:
            found = fs.ls(path, detail=False) if fs.exists(path) else []
            foreign = [name for name in (one.rstrip("/").rsplit("/", 1)[-1] for one in found)
                       if name not in BESIDE and not name.startswith("refs-")]
            if foreign:
                raise Failure(f"{output} holds {sorted(foreign)[0]}, which is no part of a dataset: name an empty folder")
            put(join(output, ".writable"), b"")
            remove(join(output, ".writable"))
        except OSError as error:
            raise Failure(f"{output} cannot be written ({error.strerror or error}): name another --output") from None


def read(output: str) -> dict[str, Any]:
    """The `dataset.json` of a finished dataset. Raises Failure."""
    with plainly(output):
        text = _read_or_none(join(output, "dataset.json"))
    if text is None:
        raise Failure(f"{output} holds no dataset.json: it is no finished dataset")
    return json.loads(text)


def finish(workdir: str, output: str, steps: Sequence[Step], origin: str) -> bool:
    """Write what stands beside the shards, and remove shards of an earlier state; whether anything changed.

    `origin`: Markdown on where the photos come from, for the card. `dataset.json` comes last: a dataset without it is
    not finished."""
    about = describe(workdir)
    remove_stale(output, {f"{shard['path']}{end}" for shard in about["shards"] for end in (".tar", ".parquet")})
    beside = {"funnel.json": funnel.to_json(steps), "README.md": card.card(about, steps, origin),
              "croissant.json": _json(croissant.croissant(about)), "dataset.json": _json(about)}
    changed = {name: text.encode() for name, text in beside.items()
               if _read_or_none(join(output, name)) != text.encode()}
    for name, data in changed.items():
        put(join(output, name), data)
    return bool(changed)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _read_or_none(url: str) -> bytes | None:
    try:
        return get(url)
    except FileNotFoundError:
        return None


def describe(workdir: str) -> dict[str, Any]:
    """All that is known of the dataset, as `dataset.json` has it."""
    embedder = embedder_of(workdir)
    faces = Parts(workdir, "faces")
    models: dict[str, dict[str, Any]] = {"faces": {**dataclasses.asdict(embedder),
                                                   "bounds": dataclasses.asdict(face_models.bounds(embedder))}}
    if persons := faces.schema(faces.parts()[0]).metadata.get(b"person_model"):
        models["persons"] = json.loads(persons)
    shards = [shard for shard in Parts(workdir, "shards").read_all().drop_columns(["part", "content"]).to_pylist()
              if shard["samples"]]
    shards.sort(key=lambda shard: shard["path"])
    samples: Counter[str] = Counter()
    for shard in shards:
        samples[f"refs-{shard['references']}/{shard['split']}"] += shard["samples"]
    lost = [detail.partition(" ")[0] for detail in _details_of_lost(workdir)]
    written = Parts(workdir, "samples", synthetic=True).read_all(["key", "references", "source", "generator"])
    written = written.filter(pc.invert(pc.is_in(written["key"], pa.array(lost, pa.string()))))
    identities = pc.unique(pc.struct_field(pc.list_flatten(written["references"]), "identity"))
    generators = sorted(name for name in set(written["generator"].to_pylist()) if name)
    made_by = {name: value for made in synthesized(workdir) for name, value in made.options().items()}
    made_with = made_by.pop("models", {})
    models |= made_with if generators else {}
    return {
        "schema": SCHEMA,
        "options": {"extract": Parts(workdir, "images").options(), "cluster": Parts(workdir, "identities").options(),
                    **({"synthesize": made_by} if synthesized(workdir) else {}),
                    "pair": Parts(workdir, "samples").options(), "write": Parts(workdir, "shards").options()},
        "models": models,
        "generators": generators,
        "libraries": _versions({model["backend"] for model in models.values()}),
        "counts": {"samples": sum(samples.values()), "by_config_and_split": dict(sorted(samples.items())),
                   "by_source": dict(sorted(Counter(written["source"].to_pylist()).items())),
                   "identities": len(identities)},
        "least_sure": least_sure(workdir, identities),
        "shards": shards,
    }


def least_sure(workdir: str, identities: pa.Array) -> list[dict[str, Any]]:
    """Those of the people to whom somebody else is nearly as similar as their own faces are, least sure first.

    `similarity`: mean cosine of a person's faces to the person. Who has no nearest other is none of them."""
    people, found = Parts(workdir, "people"), []
    for part in people.parts():
        rows = people.read(part, ["identity", "faces", "spread", "nearest", "nearest_similarity"])
        for row in rows.filter(pc.and_(pc.is_in(rows["identity"], identities), pc.is_valid(rows["nearest"]))).to_pylist():
            found.append({"identity": row["identity"], "faces": row["faces"], "similarity": round(1 - row["spread"], 4),
                          "nearest": row["nearest"], "nearest_similarity": round(row["nearest_similarity"], 4)})
        found = sorted(found, key=lambda one: (one["similarity"] - one["nearest_similarity"], one["identity"]))[:LEAST_SURE]
    return found


def _versions(backends: set[str]) -> dict[str, str]:
    """Versions of what can change a byte: ours and those of the models' backends, as far as they are installed."""
    tables = (face_models.BACKENDS, person_models.BACKENDS)
    names = {package for backend in backends for table in tables if backend in table for package in table[backend].packages}
    names |= set(diffusion.PACKAGES if diffusion.BACKEND in backends else ())
    return {name: found for name in sorted({*LIBRARIES, *names}) if (found := version(name))}


def _details_of_lost(workdir: str) -> list[str]:
    """What `write` says of each sample that it lost; a detail begins with the sample's key."""
    rejects = Parts(workdir, "rejects")
    return [detail for part in rejects.parts(["write"]) for detail in rejects.read(part, ["detail"])["detail"].to_pylist()]


def withdraw(output: str) -> None:
    """Leave nothing of an earlier dataset where none can be made now."""
    for name in BESIDE:
        remove(join(output, name))
    remove_stale(output, set())


def remove_stale(output: str, valid: set[str]) -> None:
    """Remove shards that no valid name stands for. Nothing else is touched."""
    fs, path = filesystem(output)
    for found in fs.find(path):
        name = found[len(path.rstrip("/")) + 1:]
        if SHARD.match(name) and name not in valid:
            fs.rm_file(found)
