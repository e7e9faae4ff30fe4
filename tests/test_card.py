"""The card and the Croissant file: what their readers parse, and that nothing in them contradicts the samples."""
from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipeline import card, croissant
from pipeline.funnel import Step
from tests.test_reading import FACES, about_of, members_of, sample

STEPS = [Step("images", "extract", "images", 10, 8, {"too_small": 2}),
         Step("samples", "pair", "targets", 8, 5, {"bystanders": 2, "near_copies": 1})]


def shard(references: int, split: str, number: int = 0, samples: int = 5) -> dict[str, Any]:
    return {"path": f"refs-{references}/{split}-{number:06d}", "references": references, "split": split,
            "samples": samples, "bytes": 2 ** 20, "sha256": f"{references}" * 64, "parquet_sha256": "f" * 64}


ABOUT = about_of([shard(10, "train"), shard(2, "val"), shard(2, "train"), shard(2, "train", 1)])


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_one_config_a_reference_count_with_its_splits() -> None:
    matter = front(card.card(ABOUT, STEPS))
    assert matter["configs"] == [
        {"config_name": "refs-2", "data_files": [{"split": "train", "path": "refs-2/train-*.tar"},
                                                 {"split": "val", "path": "refs-2/val-*.tar"}]},
        {"config_name": "refs-10", "data_files": [{"split": "train", "path": "refs-10/train-*.tar"}]}]
    assert [info["splits"] for info in matter["dataset_info"]] == [
        [{"name": "train", "num_bytes": 2 ** 21, "num_examples": 10}, {"name": "val", "num_bytes": 2 ** 20,
                                                                     "num_examples": 5}],
        [{"name": "train", "num_bytes": 2 ** 20, "num_examples": 5}]]
    assert matter["license"] == "other" and matter["size_categories"] == ["n<1K"]


def test_features_name_every_member_in_order() -> None:
    assert [feature["name"] for feature in card.features(10)] == [
        "json", "npz", *(f"ref_{number}.jpg" for number in range(1, 11)), "target.jpg", "txt", "__key__", "__url__"]


@pytest.mark.parametrize("number", [0, 11])
def test_types_are_those_of_the_json(number: int) -> None:
    """`card.JSON` and `schemas.sample.to_json` say the same, and a list that may be empty has a type all the same."""
    _, about = members_of(sample(number, FACES, "train"))
    assert kinds_of(about, card.JSON)


def kinds_of(value: Any, kind: card.Kind) -> bool:
    """Whether a JSON value has a Kind, its keys in the same order."""
    if isinstance(kind, dict):
        return list(value) == list(kind) and all(kinds_of(value[name], of) for name, of in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(kinds_of(one, kind[0]) for one in value)
    return type(value) is {"string": str, "int64": int, "float64": float}[kind]


@pytest.mark.parametrize(("samples", "category"), [
    (0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (123_456, "100K<n<1M"), (5_000_000, "1M<n<10M"),
    (999_999_999, "100M<n<1B"), (1_000_000_000, "n>1B")])
def test_size_category(samples: int, category: str) -> None:
    assert card.size_category(samples) == category


def test_the_text_says_what_was_made_and_dropped() -> None:
    text = card.card(ABOUT, STEPS)
    for line in ("| refs-2 | train | 10 | 2 | 2.0 |", "| samples | targets | 8 | 5 | 2 bystanders, 1 near_copies |",
                 "- `bystanders`: it shows somebody without a reference", "`" + "0" * 64 + "`", "CC0-1.0",
                 'load_dataset("OUT", "refs-2", split="train")', "All targets are photos or frames of videos",
                 "the same `umo-dataset build` leaves nothing"):
        assert line in text
    assert text == card.card(json.loads(json.dumps(ABOUT)), list(STEPS))
    composed = card.card(with_made_up(3), STEPS)
    assert "3 targets are composed or generated" in composed and "**synthesize**" in composed and "composite/1" in composed
    assert "**synthesize**" not in text


def test_the_publishers_text_on_the_photos_is_a_section() -> None:
    text = card.card(ABOUT, STEPS, "# Our photos\n\nTaken by us.\n\n## Rights\n\nCC0\n")
    assert "## Where the photos come from\n\n## Our photos\n\nTaken by us.\n\n### Rights\n\nCC0\n" in text
    assert "Where the photos come from" not in card.card(ABOUT, STEPS)


def with_made_up(count: int) -> dict[str, Any]:
    return {**ABOUT, "generators": ["composite/1"],
            "counts": {**ABOUT["counts"], "by_source": {"photo": 17, "composite": count}}}


def test_a_cell_cannot_break_its_table() -> None:
    assert card.table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |"


def test_datasets_parses_the_front_matter() -> None:
    datasets = pytest.importorskip("datasets")
    matter = front(card.card(ABOUT, STEPS))
    infos = [datasets.DatasetInfo._from_yaml_dict(info) for info in matter["dataset_info"]]
    assert [info.splits["train"].num_examples for info in infos] == [10, 5]
    features = infos[1].features
    assert features["ref_10.jpg"] == datasets.Image()
    reference = features["json"]["references"].feature
    assert reference["target_person_box"] == datasets.List(datasets.Value("float64"))
    assert features.arrow_schema.field("npz").type.field("target").type == pa.list_(pa.list_(pa.float16()))
    assert features._to_yaml_list() == card.features(10)


def test_the_hub_parses_the_front_matter() -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard(card.card(ABOUT, STEPS)).data
    assert data.license == "other" and data.license_name.startswith(card.LICENSE_NAME)


@pytest.mark.parametrize(("license", "excluded"), [
    ("non-commercial research only (insightface model zoo)", True), ("MIT (YuNet), Apache-2.0 (SFace)", False),
    ("CC0-1.0; landmarks (iBUG 300-W): not for commercial use", True), ("", False)])
def test_the_licence_field_says_what_the_models_exclude(license, excluded) -> None:
    persons = {"backend": "ultralytics", "name": "n.pt", "sha256": "0" * 64, "license": "AGPL-3.0"}
    about = ABOUT | {"models": {"faces": ABOUT["models"]["faces"] | {"license": license}, "persons": persons}}
    matter = front(card.card(about, STEPS))
    assert matter["license_name"].endswith("-models-exclude-commercial-use") is excluded
    assert (license or "not stated") in matter["license_details"] and "AGPL-3.0" in matter["license_details"]
    assert matter["license_details"] == croissant.croissant(about)["license"]


def test_croissant_has_every_file_with_its_digest() -> None:
    files = {file["@id"]: file for file in croissant.croissant(ABOUT)["distribution"]}
    assert len(files) == 2 * 4 + 1
    assert files["refs-10/train-000000.tar"]["sha256"] == "10" * 64
    assert files["refs-2/train-000001.parquet"]["sha256"] == "f" * 64
    assert {file["contentUrl"] for file in files.values() if "contentUrl" in file} < set(files)


def test_croissant_says_whether_anything_is_synthetic() -> None:
    assert croissant.croissant(ABOUT)["rai:hasSyntheticData"] is False
    assert croissant.croissant(with_made_up(3))["rai:hasSyntheticData"] is True


def test_mlcroissant_finds_no_error_and_reads_the_responsible_fields() -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    told = json.dumps(croissant.croissant(ABOUT))
    metadata = mlcroissant.Dataset(jsonld=croissant.croissant(ABOUT)).metadata
    assert json.dumps(croissant.croissant(ABOUT)) == told  # the library adds to what it is given
    assert not metadata.ctx.issues.errors
    assert "biometric" in metadata.personal_sensitive_information[0]
    assert metadata.data_limitations and metadata.data_biases and metadata.machine_annotation_tools
    fields = {field.id for record_set in metadata.record_sets for field in record_set.fields}
    assert fields == {f"samples/{name}" for name in card.JSON}
