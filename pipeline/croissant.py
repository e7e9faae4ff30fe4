"""`croissant.json`: Croissant 1.0 with the responsible-AI vocabulary, for dataset search and `mlcroissant`.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html and croissant-rai-spec.html beside it. Paths are
relative to the folder that holds it. A pure function of `dataset.json`: the same dataset gives the same bytes."""
from __future__ import annotations

from copy import deepcopy
from typing import Any

from pipeline import card
from schemas.sample import JSON, Kind

CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform"}
"""The specification's own, appendix 1."""
TYPES = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float"}
TAR, PARQUET = "application/x-tar", "application/x-parquet"
"""Encodings by the names that `mlcroissant` reads."""
RECORDS, TABLES = "samples", "tables"
MEANINGS = {
    "key": "digest of the target and its references; the members' name in the tar",
    "prompt": "a description of the target",
    "source": "photo, frame, composite or generated",
    "generator": "what composed or generated the target", "seed": "of the generator's draws; -1 where there is none",
    "split": "train, val or test; splits share no identity",
    "target": "the picture of several people", "references": "one picture a person, in the order of the members",
    "similarity_matrix": "references x faces of the target, cosine",
    "assignment": "the target's face of each reference",
    "id_sim": "mean of the rows' maxima (UMO)", "id_conf": "mean margin between first and second (UMO, eq. 5)",
    "mimr": "UMO's multi-identity matching reward", "bystanders": "faces of the target without a reference"}
"""Field -> its description, where the name does not say it."""


def croissant(about: dict[str, Any]) -> dict[str, Any]:
    """The JSON-LD of a dataset. `about`: its `dataset.json`."""
    counts = about["counts"]
    return {
        "@context": deepcopy(CONTEXT), "@type": "sc:Dataset", "name": "umo-dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "description": (f"{counts['samples']} samples of {counts['identities']} people: a prompt, a target that shows "
                        "several people, and a reference of each from another photo, with the face embeddings that "
                        "prove which is whose."),
        "license": card.license_details(about), "version": f"{about['schema'].rpartition('/')[2]}.0.0",
        "citeAs": "UMO: Scaling Multi-Identity Consistency for Image Customization via Matching Reward, "
                  "arXiv:2509.06818",
        "keywords": ["multi-identity image customization", "faces", "webdataset"],
        "distribution": _distribution(about), "recordSet": [_records()], **_responsible(about)}


def _distribution(about: dict[str, Any]) -> list[dict[str, Any]]:
    """Every file with its digest, and the Parquet files as the one set that records are read from."""
    files = []
    for shard in about["shards"]:
        files.append({**_file(f"{shard['path']}.tar", TAR, shard["sha256"]), "contentSize": f"{shard['bytes']} B",
                      "description": f"{shard['samples']} samples as a WebDataset shard"})
        files.append({**_file(f"{shard['path']}.parquet", PARQUET, shard["parquet_sha256"]),
                      "description": "the JSON of that shard's samples, one row each"})
    return [*files, {"@type": "cr:FileSet", "@id": TABLES, "name": TABLES, "encodingFormat": PARQUET,
                     "description": "the Parquet files beside the shards", "includes": "refs-*/*.parquet"}]


def _file(path: str, encoding: str, sha256: str) -> dict[str, Any]:
    return {"@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path, "encodingFormat": encoding,
            "sha256": sha256}


def _records() -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": RECORDS, "name": RECORDS, "key": {"@id": f"{RECORDS}/key"},
            "description": "One record a sample: its JSON. The pictures are members of that key in the shard's tar.",
            "field": [_field(name, kind) for name, kind in JSON.items()]}


def _field(column: str, kind: Kind) -> dict[str, Any]:
    """A column of the tables; a struct, or a list of them, has subfields."""
    struct = kind[0] if isinstance(kind, list) else kind
    if not isinstance(struct, dict):
        return {**_named(column, kind), "dataType": TYPES[_scalar(kind)], "source": _source(column)}
    # a part of a repeated struct is repeated itself: mlcroissant zips the parts together again
    parts = [{**_named(f"{column}/{part}", kind), "dataType": TYPES[_scalar(of)], "source": _source(column, part)}
             for part, of in struct.items()]
    return {**_named(column, kind), "subField": parts}


def _named(path: str, kind: Kind) -> dict[str, Any]:
    name = f"{RECORDS}/{path}"
    about = {"@type": "cr:Field", "@id": name, "name": name,
             "description": MEANINGS.get(path, path.rpartition("/")[2].replace("_", " "))}
    return {**about, "repeated": True} if isinstance(kind, list) else about


def _source(column: str, part: str = "") -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": TABLES}, "extract": {"column": column}}
    return {**source, "transform": {"jsonPath": f"$.{part}"}} if part else source


def _scalar(kind: Kind) -> str:
    """The innermost type of nested lists."""
    return _scalar(kind[0]) if isinstance(kind, list) else kind


def _responsible(about: dict[str, Any]) -> dict[str, Any]:
    """The responsible-AI fields."""
    made, generated = card.made_up(about), about["counts"].get("by_source", {}).get("generated", 0)
    said = (f" {generated} targets and their references were generated ({', '.join(about['generators'])}), and show people who "
            "are made up." if generated else "")
    return {
        "rai:dataCollection": "Photos and videos that the publisher had; where each came from is its `uri`, relative "
                              "to the publisher's folder, and its `license` where that is known." + said,
        "rai:dataCollectionType": ["Secondary Data analysis", *(["Software Collection"] if made else [])],
        "rai:hasSyntheticData": bool(made),
        "rai:dataPreprocessingProtocol": [
            "Pictures are turned upright, converted to sRGB, resized and stored as JPEG without metadata.",
            "References are cut around one face; a detector must find exactly that face in what is written.",
            "Targets need a reference of every person; near copies and unsure matches are dropped, and counted in "
            "funnel.json."],
        "rai:dataAnnotationProtocol": [
            "No human annotation: faces, identities and their matching come from a face model; prompts are captions "
            "where there are some, else built from positions."],
        "rai:machineAnnotationTools": [
            f"{model['backend']}/{model['name']} ({use}), licence: {model['license'] or 'not stated'}, sha256 "
            f"{model['sha256'] or 'not known'}" for use, model in about["models"].items()],
        "rai:personalSensitiveInformation": [
            "Faces of people who can be recognized, and embeddings of these faces: biometric data. Identities are no names "
            "but for those that the publisher gave. The README says how to have a person removed."],
        "rai:dataUseCases": [
            "Training and evaluating image customization models on several identities at once.",
            "Not for identifying, verifying or tracking people."],
        "rai:dataBiases": [
            "People appear as often as they were photographed; no balance of age, gender, skin or place was sought or "
            "measured. A face model's errors are more frequent for some groups than for others."],
        "rai:dataLimitations": [
            "Identities and matches were checked by one face model and by nobody's eyes.",
            "Faces below the detector's floor are not seen: strangers may remain in a target."],
        "rai:dataSocialImpact": "Models that render given people well can be used to deceive or to harass; the same "
                                "data serves to make them keep people apart, and to measure that.",
        "rai:dataReleaseMaintenancePlan": "When a person is removed, shards that held the person are written anew, and "
                                          "their digests here change with them.",
    }
