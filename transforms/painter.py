"""Asks a diffusers pipeline for pictures. What it takes is read off the signature of its call."""
from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageOps

from schemas.picture import Picture
from schemas.weights import Weights
from transforms.diffusion import DiffusionOptions, find_for_pictures, find_for_words
from transforms.failure import Failure, WrongUsage, in_a_line

DISTILLED_STEPS = 4
"""Of a pipeline whose configuration says `is_distilled`: what FLUX.2 klein's authors sample with. Its call has 50, for the
models that are not."""
SEVERAL = ("Flux2Pipeline", "Flux2KleinPipeline", "QwenImageEditPlusPipeline", "ZImageOmniPipeline")
"""Pipelines of which one picture may be asked with a list of pictures, which no signature says (read in diffusers 0.42). All
others get the pictures side by side, as one."""


class Painter:
    """A pipeline in this process; several threads may share it."""

    def __init__(self, model: str, options: DiffusionOptions, device: str, given: bool) -> None:
        """`model`: folder or hub name; `given`: whether it is to be given pictures.

        Raises MissingModel, Failure, WrongUsage."""
        self.found = find_for_pictures(model, options) if given else find_for_words(model)
        self.options, self.lock = options, threading.Lock()
        self.adapter = options.ip_adapter if given else None
        torch, diffusers = importlib.import_module("torch"), importlib.import_module("diffusers")
        self.torch = torch
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise Failure(f"--device {device}: torch sees no GPU here: say --device cpu")
        dtype = options.generate_dtype
        if dtype == "auto":
            dtype = "float32" if self.device == "cpu" else "bfloat16"
        for package in ("diffusers", "transformers"):  # our own progress is shown, and what fails is raised
            logging = importlib.import_module(f"{package}.utils.logging")
            logging.disable_progress_bar()
            logging.set_verbosity_error()
        self.pipe = self._load(diffusers, getattr(torch, dtype), given).to(self.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.takes = inspect.signature(self.pipe.__call__).parameters
        self.steps = options.generate_steps or (DISTILLED_STEPS if self.pipe.config.get("is_distilled") else None)
        if missing := {"prompt", "generator"} - self.takes.keys():
            raise WrongUsage(f"{self.weights.name} ({type(self.pipe).__name__}) takes no {' and no '.join(sorted(missing))}: "
                             "it cannot be asked in words for a picture that is the same again")
        for flag, value, name in (("--generate-guidance", options.generate_guidance, "guidance_scale"),
                                  ("--generate-steps", options.generate_steps, "num_inference_steps")):
            if value is not None and name not in self.takes:
                raise WrongUsage(f"{flag}: {type(self.pipe).__name__} takes none")

    @property
    def weights(self) -> Weights:
        return self.found.weights

    def _load(self, diffusers: Any, dtype: Any, given: bool) -> Any:
        how = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
        try:
            if given:
                pipe = diffusers.DiffusionPipeline.from_pretrained(self.found.folder, **how)
                if self.adapter:
                    file = Path(self.adapter)
                    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, local_files_only=True)
                return pipe
            try:
                return diffusers.AutoPipelineForText2Image.from_pretrained(self.found.folder, **how)
            except ValueError:  # of no family that has several pipelines
                return diffusers.DiffusionPipeline.from_pretrained(self.found.folder, **how)
        except Exception as error:  # diffusers', transformers' and safetensors' errors have no common base
            raise Failure(f"{self.weights.name} cannot be loaded: {in_a_line(error)}") from error

    def paint(self, wanted: Sequence[Picture], given: Sequence[Sequence[PIL.Image.Image]],
              ) -> Iterator[tuple[Picture, PIL.Image.Image]]:
        """What was wanted with its picture, mode RGB, batch by batch; `given`: of each, the pictures of those who are in it.
        Raises Failure."""
        for some in batches(wanted, self.options.generate_batch):
            asked = [wanted[place] for place in some]
            for one, picture in zip(asked, self._ask(asked, given[some[0]]), strict=True):
                yield one, picture.convert("RGB")

    def _ask(self, wanted: list[Picture], given: Sequence[PIL.Image.Image]) -> list[PIL.Image.Image]:
        """Pictures of one size; one, where there is something given."""
        width, height = wanted[0].size
        said: dict[str, Any] = {  # the area is for FLUX Kontext, which makes a megapixel of any size else
            "prompt": [one.prompt for one in wanted], "width": width, "height": height, "max_area": width * height,
            "num_inference_steps": self.steps, "guidance_scale": self.options.generate_guidance,
            "generator": [self.torch.Generator("cpu").manual_seed(one.seed) for one in wanted]}
        said = {name: value for name, value in said.items() if value is not None and name in self.takes}
        if given:
            said |= self._shown(given, wanted[0])
        try:
            with self.lock:
                return list(self.pipe(**said).images)
        except self.torch.cuda.OutOfMemoryError as error:
            raise Failure(f"{self.weights.name} needs more memory than {self.device} has: a smaller --generate-batch or "
                          "--generate-sizes") from error
        except Exception as error:  # whatever a pipeline raises: it is not ours
            raise Failure(f"{self.weights.name} fails at {width} x {height}: {in_a_line(error)}") from error

    def _shown(self, given: Sequence[PIL.Image.Image], wanted: Picture) -> dict[str, Any]:
        """How the pipeline is given pictures."""
        if self.adapter:
            return {"ip_adapter_image": [list(given)]}
        if "input_images" in self.takes:  # OmniGen, which finds them by their places in the prompt
            places = " ".join(f"<img><|image_{number}|></img>" for number in range(1, len(given) + 1))
            return {"prompt": [f"{wanted.prompt} {places}"], "input_images": [list(given)]}
        if type(self.pipe).__name__ in SEVERAL:
            return {"image": list(given)}
        return {"image": side_by_side(given, *wanted.size)}

    def close(self) -> None:
        """Let go of the model."""
        del self.pipe
        if self.device.startswith("cuda"):
            self.torch.cuda.empty_cache()


def batches(wanted: Sequence[Picture], most: int) -> list[list[int]]:
    """Places of pictures that are generated at once: of one size, at most so many, alone where something is given."""
    found: list[list[int]] = []
    open_: dict[tuple[int, int], list[int]] = {}
    for place, one in enumerate(wanted):
        batch = open_.get(one.size)
        if one.given or batch is None or len(batch) == most:
            batch = []
            found.append(batch)
            if not one.given:
                open_[one.size] = batch
        batch.append(place)
    return found


def side_by_side(given: Sequence[PIL.Image.Image], width: int, height: int) -> PIL.Image.Image:
    """One picture of that size of all that are given, whole, in rows as long as there are rows."""
    columns = next(number for number in range(1, len(given) + 1) if number * number >= len(given))
    rows = -(-len(given) // columns)
    across, down = width // columns, height // rows
    canvas = PIL.Image.new("RGB", (width, height), "white")
    for place, picture in enumerate(given):
        canvas.paste(PIL.ImageOps.pad(picture, (across, down), color="white"),
                     (place % columns * across, place // columns * down))
    return canvas
