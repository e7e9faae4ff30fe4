"""The dataset card: `README.md` with the front matter that `datasets` and the Hugging Face Hub read.

A pure function of `dataset.json` and the funnel: the same dataset gives the same bytes. Front matter:
https://huggingface.co/docs/hub/datasets-cards and https://huggingface.co/docs/hub/datasets-manual-configuration"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from pipeline.funnel import Step
from schemas.reject import REASONS
from schemas.sample import JSON, Kind

NPZ: dict[str, Kind] = {"target": [["float16"]], "refs": [["float16"]]}
"""`KEY.npz`, as `datasets` decodes it: [K, D] and [N, D]."""
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
"""Limits of the Hub's `size_categories`."""
LICENSE_NAME = "photos-keep-their-own-licences"
LICENSE_DETAILS = ("No licence is granted here. Every photo keeps the licence of its author, which stands in each "
                   "sample's JSON where it is known and is empty where it is not; embeddings and boxes come from "
                   "models, under their own licences.")
NOT_COMMERCIAL = re.compile("non-commercial|not for commercial")
"""In a model's licence: the dataset's own licence field says so too."""
MADE_UP = ("composite", "generated")
"""Values of a sample's `source` that are no photo and no frame of a video."""


def card(about: dict[str, Any], steps: Sequence[Step], origin: str = "") -> str:
    """The README.md of a dataset. `about`: its `dataset.json`; `origin`: Markdown on where the photos come from."""
    sections = (_what(about), *([_origin(origin)] if origin else []), _made(about, steps), _loading(about), _members(),
                _statistics(about), _funnel(steps), _models(about), _people(), _limits(about))
    front = yaml.safe_dump(front_matter(about), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def front_matter(about: dict[str, Any]) -> dict[str, Any]:
    """The metadata above the text, one config a reference count."""
    configs = configs_of(about)
    return {
        "pretty_name": "Photos of several people with a reference of each (umo-dataset)",
        "license": "other", "license_name": _license_name(about), "license_details": license_details(about),
        "language": ["en"], "task_categories": ["text-to-image", "image-to-image"],
        "tags": ["webdataset", "identity-preserving-generation", "subject-driven-generation", "multi-identity",
                 "faces"],
        "size_categories": [size_category(about["counts"]["samples"])],
        "configs": [{"config_name": f"refs-{count}",
                     "data_files": [{"split": split, "path": f"refs-{count}/{split}-*.tar"} for split in splits]}
                    for count, splits in configs.items()],
        "dataset_info": [_info(count, splits) for count, splits in configs.items()],
    }


def _license_name(about: dict[str, Any]) -> str:
    excluded = any(NOT_COMMERCIAL.search(model["license"]) for model in about["models"].values())
    return LICENSE_NAME + ("-models-exclude-commercial-use" if excluded else "")


def license_details(about: dict[str, Any]) -> str:
    """What may be done with the dataset, with the licence of each model that it was made by."""
    return LICENSE_DETAILS + " Models: " + "; ".join(
        f"{use} by {model['backend']}/{model['name']}, {model['license'] or 'not stated'}"
        for use, model in about["models"].items()) + "."


def configs_of(about: dict[str, Any]) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Reference count -> split -> its shards, train first."""
    configs: dict[int, dict[str, list[dict[str, Any]]]] = {}
    order = {"train": 0, "val": 1, "test": 2}
    for shard in sorted(about["shards"], key=lambda shard: (shard["references"], order[shard["split"]], shard["path"])):
        configs.setdefault(shard["references"], {}).setdefault(shard["split"], []).append(shard)
    return configs


def _info(count: int, splits: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    total = sum(shard["bytes"] for shards in splits.values() for shard in shards)
    return {"config_name": f"refs-{count}", "features": features(count),
            "splits": [{"name": split, "num_bytes": sum(shard["bytes"] for shard in shards),
                        "num_examples": sum(shard["samples"] for shard in shards)} for split, shards in splits.items()],
            "download_size": total, "dataset_size": total}


def features(references: int) -> list[dict[str, Any]]:
    """Explicit features of a sample with that many references, in the order of a tar's members, in the front matter's
    words (`datasets.Features._from_yaml_list` reads them)."""
    pictures = [*(f"ref_{number}.jpg" for number in range(1, references + 1)), "target.jpg"]
    return [_feature("json", JSON), _feature("npz", NPZ), *({"name": name, "dtype": "image"} for name in pictures),
            *({"name": name, "dtype": "string"} for name in ("txt", "__key__", "__url__"))]


def _feature(name: str, kind: Kind) -> dict[str, Any]:
    if isinstance(kind, dict):
        return {"name": name, "struct": [_feature(*item) for item in kind.items()]}
    if isinstance(kind, list):
        return {"name": name, "list": _items(kind[0])}
    return {"name": name, "dtype": kind}


def _items(kind: Kind) -> Any:
    """What a list holds, in the card's words."""
    if isinstance(kind, dict):
        return [_feature(*item) for item in kind.items()]
    return {"list": _items(kind[0])} if isinstance(kind, list) else kind


def size_category(samples: int) -> str:
    """The Hub's name for a size."""
    names = [f"{limit // 10 ** 9}B" if limit >= 10 ** 9 else f"{limit // 10 ** 6}M" if limit >= 10 ** 6
             else f"{limit // 10 ** 3}K" for limit in SIZES]
    for place, limit in enumerate(SIZES):
        if samples < limit:
            return f"n<{names[0]}" if place == 0 else f"{names[place - 1]}<n<{names[place]}"
    return f"n>{names[-1]}"


def made_up(about: dict[str, Any]) -> int:
    """How many samples have a target that was composed or generated."""
    return sum(about["counts"].get("by_source", {}).get(source, 0) for source in MADE_UP)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _what(about: dict[str, Any]) -> str:
    counts = about["counts"]
    made = made_up(about)
    kinds = (f"{made} targets are composed or generated, the others are photos or frames of videos"
             if made else "All targets are photos or frames of videos; nothing was generated")
    return f"""# Photos of several people with a reference of each

{counts['samples']} samples of {counts['identities']} people for training image customization models on several
identities at once (UMO, [arXiv 2509.06818](https://arxiv.org/abs/2509.06818)). A sample is a prompt, a target that
shows two or more people, and for each of them one reference cut from *another* picture. Which reference is whose face
in the target is checked by embeddings and stands in the sample. {kinds}."""


def _origin(text: str) -> str:
    """The publisher's own text, its headings one level down."""
    return "## Where the photos come from\n\n" + re.sub(r"^#", "##", text.strip(), flags=re.MULTILINE)


def _made(about: dict[str, Any], steps: Sequence[Step]) -> str:
    options = about["options"]
    extract, pair, write = options["extract"], options["pair"], options["write"]
    bounds = about["models"]["faces"]["bounds"]
    came = f"{steps[0].came_in} {steps[0].unit}" if steps else "pictures"
    margin = bounds["margin"] if pair["min_margin"] is None else pair["min_margin"]
    made = _synthesized(about)
    return f"""## How it was made

By `umo-dataset`, from {came}, in four stages; every option is in `dataset.json`:

1. **extract** turned each picture upright and to sRGB, found its faces, embedded them (`--faces {extract['faces']}`),
   and cut a reference crop of each (`--ref-crop {extract['ref_crop']}`, longest side {extract['ref_size']} pixels). A
   crop stays only if a detector finds exactly one face in it as it is written, and that face is still the same
   person's.
2. **cluster** grouped the faces into people. Faces of one picture are different people.
{made}3. **pair** gave each person of a target a face of the same person from another picture, never from the same shot:
   cosine at least {bounds['same_person']} (same person), at most {bounds['near_copy']} (above, it is nearly the same
   picture). The matching over all faces must be the best of each row and of each column, with a margin (ID-Conf) of
   {margin} or more. At most {pair['max_bystanders']} people without a reference may be in a target. Splits share no
   identity.
4. **write** read the pictures again, resized targets to {write['target_size']} pixels at most (longest side) and
   stored JPEG, quality 95, 4:4:4, without metadata."""


def _synthesized(about: dict[str, Any]) -> str:
    """What `synthesize` did, '' where it made nothing."""
    if not about["generators"]:
        return ""
    by = f"({', '.join(about['generators'])}; the seed of each is in its sample)"
    if all(name.startswith("composite/") for name in about["generators"]):
        return f"""   **synthesize** then cut people out of the photos and composed pictures of
   several of them {by}. These were looked at as photos are,
   and kept only where the people put in, and nobody else, were found at their places. Their references are other photos than
   those that anybody in them was cut out of. They are in train, but for those whose people are all in another split.
"""
    options = about["options"]["synthesize"]
    which = "strict_same_person" if options["generated_bound"] == "strict" else "same_person"
    bound = about["models"]["faces"]["bounds"][which]
    return f"""   **synthesize** then generated pictures of people who are made up
   {by}, by way of {options['generate_mode']}, scenes in the
   styles {options['generated_styles'].replace(',', ', ')}. These were looked at as photos are, their faces grouped into people
   among themselves, and kept only where they show as many people as they were to show; where portraits were given to
   the model, just those people. Their references are other generated pictures, of a cosine of at least {bound}. They are in
   train.
"""


def _loading(about: dict[str, Any]) -> str:
    config = next(iter(configs_of(about)), 2)
    return f"""## How to load it

OUT is this folder, or where it lies. Each reference count is a config of its own.

```python
from datasets import load_dataset            # reads the types of every field from this card

samples = load_dataset("OUT", "refs-{config}", split="train")
samples[0]["target.jpg"], samples[0]["ref_1.jpg"], samples[0]["json"]["assignment"]
```

```python
import glob, webdataset

shards = sorted(glob.glob("OUT/refs-{config}/train-*.tar"))
for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
    sample["target.jpg"], sample["ref_1.jpg"], sample["json"], sample["npz"]["target"]
```

```python
import torch
from pipeline.loader import dataset          # pip install umo-dataset[train]

batches = dataset("OUT", batch_size=4)       # the keys of UNO's and UMO's trainers
for batch in torch.utils.data.DataLoader(batches, batch_size=None, num_workers=4):
    batch["img"], batch["txt"], batch["ref_imgs"]
```"""


MEMBERS = (
    ("`json`", "everything below"),
    ("`npz`", "`target` float16 [K, D]: embeddings of all faces of the target by ascending x0; `refs` float16 [N, D]: "
              "of the references in order"),
    ("`ref_1.jpg` …", "one reference a person"), ("`target.jpg`", "the picture of them all"), ("`txt`", "the prompt"))
FIELDS = (
    ("`key`, `schema`", "32 hex characters; the version of this layout"),
    ("`prompt`", "a description of the target"),
    ("`source`", "`photo`, `frame`, `composite` or `generated`"),
    ("`generator`, `seed`", "what composed or generated the target, and of what draws; `\"\"` and `-1` for a photo or a frame"),
    ("`split`", "`train`, `val` or `test`"),
    ("`target`", "`image_key` (digest of the photo's bytes), `uri` (relative), `group` (album, video), `clip`, "
                 "`license`, `width`, `height` of the member"),
    ("`references[i]`", "`member`, `identity`, `image_key`, `uri`, `license`, `crop` (pixels of the upright photo), "
                        "`face_box` (pixels of the member), `target_face_box`, `target_keypoints` (5 × x, y), "
                        "`target_person_box` (pixels of the target member), `similarity`, `margin`; boxes are x0, y0, "
                        "x1, y1"),
    ("`similarity_matrix`", "references × faces of the target, plain cosine of the embeddings"),
    ("`assignment`", "the face of the target that each reference stands for"),
    ("`id_sim`, `id_conf`, `mimr`", "UMO's measures of that matrix: mean of the rows' maxima, mean margin, reward"),
    ("`bystanders`", "faces of the target that no reference is given for"),
    ("`models`", "what made the embeddings"))


def _members() -> str:
    return ("## What a sample holds\n\nConsecutive members of a tar under one key:\n\n"
            + table(("member", "content"), MEMBERS)
            + "\n\nNothing is null: an unknown string is `\"\"`, an unknown box `[]`, an unknown number `-1.0`. "
            "`json` holds:\n\n" + table(("field", "content"), FIELDS)
            + "\n\nBeside each tar lies a Parquet file with the same JSON, one row a sample.")


def _statistics(about: dict[str, Any]) -> str:
    rows = [(f"refs-{count}", split, sum(shard["samples"] for shard in shards), len(shards),
             f"{sum(shard['bytes'] for shard in shards) / 2 ** 20:.1f}")
            for count, splits in configs_of(about).items() for split, shards in splits.items()]
    return "## Statistics\n\n" + table(("config", "split", "samples", "shards", "MiB"), rows)


def _funnel(steps: Sequence[Step]) -> str:
    rows = [(step.step, step.unit, step.came_in, step.kept, ", ".join(
        f"{count} {reason}" for reason, count in sorted(step.dropped.items(), key=lambda item: (-item[1], item[0]))))
            for step in steps]
    reasons = sorted({reason for step in steps for reason in step.dropped})
    meanings = "\n".join(f"- `{reason}`: {REASONS[reason].means}" for reason in reasons)
    return ("## What came in and what was dropped\n\n" + table(("step", "of", "in", "kept", "dropped"), rows)
            + (f"\n\n{meanings}" if meanings else ""))


def _models(about: dict[str, Any]) -> str:
    rows = [(use, f"{model['backend']}/{model['name']}", model["license"] or "not stated",
             f"`{model['sha256']}`" if model["sha256"] else "the revision in its name")
            for use, model in about["models"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    return ("## Models and licences\n\n" + table(("used for", "model", "licence", "sha256 of the weights"), rows)
            + f"\n\nLibraries: {versions}.\n\n{LICENSE_DETAILS} Whoever publishes or uses the pictures has to have the "
            "right to.")


def _people() -> str:
    return """## The people in it

The pictures show people who can be recognized, and the embeddings of their faces are biometric data (GDPR, article
9). Identities are digests or numbers, but for names that the publisher gave, and no metadata of the photos (places,
cameras) is written; but a `uri` is the path of a photo as the publisher named it, and a face is a face. Use it only
where the people in it, or the law, allow that, and never to identify or track anybody.

To have a person removed, send the publisher a photo of the face. Where the photos that show the person are taken out of
the input, the same `umo-dataset build` leaves nothing of them in the dataset or its work directory; then the new state is
published. Copies that others took before are not reached by that."""


def _limits(about: dict[str, Any]) -> str:
    model = about["models"]["faces"]
    return f"""## Limits

- Who is who was decided by one face model, {model['name']} (bounds: {model['bounds']['origin']}), and by nobody's
  eyes: some pairs are wrong, and more often for people whom such models tell apart badly. A similarity means something
  for this model alone.
- People appear as often as they were photographed; no balance of age, gender, skin or place was sought or measured.
- Prompts without a caption are built from positions: they say who stands where, not what the picture shows.
- Faces below the detector's floor are not seen: strangers in the background may remain in a target."""
