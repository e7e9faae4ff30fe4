"""Diffusers pipelines: where one lies, and who made it.

Any pipeline that diffusers itself has is loaded, from a folder or from the hub's cache, and nothing else: no code of a
repository is run, and no pickled weights are read."""
from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from schemas.weights import Weights
from transforms import digests
from transforms.face_models import MissingModel
from transforms.failure import Failure, WrongUsage

DEFAULT = "black-forest-labs/FLUX.2-klein-4B"
"""Apache-2.0, weights too; four billion parameters, distilled to four steps; it takes words and several pictures alike, so that
one model does every mode. Its card says so; here it has not been run, for want of its weights."""
BACKEND = "diffusers"
PACKAGES = ("accelerate", "diffusers", "torch", "transformers")
"""Whose versions can change a byte."""
INSTALL = "pip install 'umo-dataset[generate]'"


@dataclass(frozen=True)
class DiffusionOptions:
    image_model: str | None = field(default=None, metadata={
        "metavar": "MODEL", "recorded": False,
        "help": "image-conditioned diffusers pipeline, by folder or hub name, which makes scenes from portraits (FLUX Kontext, "
                "Qwen-Image-Edit, OmniGen, or one for an IP-Adapter); default: MODEL of the text-to-image pipeline, which must "
                "take pictures then"})
    ip_adapter: str | None = field(default=None, metadata={
        "metavar": "FILE", "recorded": False,
        "help": "an IP-Adapter's .safetensors, by which the image model is given pictures; its image encoder lies in the "
                "folder image_encoder beside it; default: none"})
    generate_dtype: str = field(default="auto", metadata={
        "choices": ("auto", "float32", "float16", "bfloat16"),
        "help": "type of the generating weights; default: auto, bfloat16 on a GPU and float32 else"})
    generate_steps: int | None = field(default=None, metadata={
        "least": 1,
        "help": "denoising steps of a generated picture; default: the pipeline's own number, 4 where it is distilled"})
    generate_guidance: float | None = field(default=None, metadata={
        "least": 0, "help": "guidance scale of a generated picture; default: the pipeline's own"})
    generate_batch: int = field(default=4, metadata={
        "least": 1,
        "help": "pictures that are generated from words at once, for which there must be memory; those that are given pictures "
                "are generated one at a time; default: %(default)s"})


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that lies here."""

    folder: str
    weights: Weights
    """`name` ends with `@` and the commit that was fetched from the hub, or the first digits of the digest of a folder's
    weights."""


def find_for_words(model: str) -> Pipeline:
    """The pipeline that makes pictures of words; nothing is loaded or fetched. `model`: a folder or hub name.

    Raises MissingModel where packages or weights are missing, with the command that brings them."""
    return _find(model or DEFAULT, "--synthesize diffusers")


def find_for_pictures(model: str, options: DiffusionOptions) -> Pipeline:
    """The pipeline that makes pictures of pictures, with its adapter if it has one; nothing is loaded or fetched.

    Raises as `find_for_words` does, WrongUsage where it takes no pictures, Failure where it is not diffusers' own."""
    found = _find(options.image_model or model or DEFAULT, "--image-model" if options.image_model else "--synthesize diffusers")
    adapter = options.ip_adapter and _adapter(Path(options.ip_adapter))
    kind = json.loads((Path(found.folder) / "model_index.json").read_text())["_class_name"]
    pipeline = getattr(importlib.import_module("diffusers"), str(kind), None)
    if pipeline is None:
        raise Failure(f"{found.weights.name} is a {kind}, which the installed diffusers does not have, and no model's own code "
                      "is run: name another --image-model")
    taken = inspect.signature(pipeline.__call__).parameters
    if not {"ip_adapter_image"} & taken.keys() if adapter else not {"image", "input_images"} & taken.keys():
        raise WrongUsage(f"{found.weights.name} ({kind}) takes " + ("no IP-Adapter: leave out --ip-adapter" if adapter else
                         "words alone: name a pipeline that takes pictures by --image-model, or another --generate-mode"))
    if not adapter:
        return found
    both = digests.of(found.weights.sha256 or found.weights.name, adapter.sha256)
    licenses = [one.license for one in (found.weights, adapter)]
    return Pipeline(found.folder, Weights(BACKEND, f"{found.weights.name}+{adapter.name}", both,
                                          "; ".join(licenses) if all(licenses) else ""))


def _adapter(file: Path) -> Weights:
    """Raises WrongUsage, MissingModel."""
    if file.suffix != ".safetensors":
        raise WrongUsage(f"--ip-adapter {file}: a .safetensors is wanted, pickled weights are not read")
    files = [file, file.parent / "image_encoder" / "model.safetensors"]
    for one in files:
        if not one.exists():
            raise MissingModel(f"--ip-adapter {file}: there is no {one}: fetch the adapter with its image encoder")
    sha256 = _digest_of(files)
    return Weights(BACKEND, f"{file.stem}@{sha256[:12]}", sha256, license_of(file.parent))


def _find(name: str, flag: str) -> Pipeline:
    try:
        for package in ("torch", "transformers", "diffusers"):
            if importlib.util.find_spec(package) is None:
                raise ImportError(name=package)
        hub = importlib.import_module("huggingface_hub")
    except (ImportError, ValueError) as error:  # the latter where a module is None
        raise MissingModel(f"{flag} needs {getattr(error, 'name', None) or package}: {INSTALL}") from error
    local = Path(name).is_dir()
    if local:
        folder, mend = Path(name), "save it again with save_pretrained"
    else:
        mend = fetching(name)
        try:
            folder = Path(hub.snapshot_download(name, local_files_only=True))
        except (OSError, ValueError) as error:  # not in the cache; a name that cannot be one
            raise MissingModel(f"{flag}: no folder {name}, nor is it in the hub's cache: {mend}") from error
    files = weight_files(folder, f"{flag} {name}", mend)
    sha256 = _digest_of(files) if local else ""
    called = f"{folder.resolve().name}@{sha256[:12]}" if local else f"{name}@{folder.name}"
    return Pipeline(str(folder), Weights(BACKEND, called, sha256, license_of(folder)))


def fetching(name: str) -> str:
    """The command that brings what is loaded of a hub's repository, and nothing else of it."""
    return f"python -c \"from diffusers import DiffusionPipeline as P; P.download('{name}', use_safetensors=True)\""


def weight_files(folder: Path, what: str, mend: str) -> list[Path]:
    """The .safetensors of a pipeline's components. Raises MissingModel, which says `what` lacks them and what mends it."""
    try:
        components = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError):
        raise MissingModel(f"{what} has no model_index.json, and is no diffusers pipeline: {mend}") from None
    found = []
    for name, of in sorted(components.items()):
        if not isinstance(of, list) or of[0] is None:
            continue
        if not (folder / name).is_dir():
            raise MissingModel(f"{what} lacks its {name}: {mend}")
        if (folder / name / "config.json").exists():  # a model: schedulers and tokenizers have other names for theirs
            weights = sorted((folder / name).glob("*.safetensors"))
            indexes = [json.loads(file.read_text())["weight_map"] for file in (folder / name).glob("*.safetensors.index.json")]
            if not weights or not all((folder / name / file).exists() for index in indexes for file in index.values()):
                raise MissingModel(f"{what} lacks .safetensors of its {name} (pickled weights are not read): {mend}")
            found += weights
    return found


def _digest_of(files: Sequence[Path]) -> str:
    """sha256 of weights; worked out once, unless they change."""
    return _digest(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=8)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    return digests.of_files(*(Path(name) for name, _, _ in files))


def license_of(folder: Path) -> str:
    """What a model's card, its README's front matter, says of its licence; '' where it says nothing."""
    hub = importlib.import_module("huggingface_hub")
    try:
        about = hub.metadata_load(folder / "README.md") or {}
    except (OSError, ValueError):
        return ""
    license = about.get("license") or ""
    return str(about.get("license_name") or license) if license == "other" else str(license)
