"""The stage `synthesize`: pictures of several people beside the photos, looked at as photos are."""
from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import TypeAlias

import apache_beam as beam

from pipeline.options import from_record, recorded
from pipeline.progress import shown
from pipeline.stages import RunOptions, check_extracted, cluster
from schemas.chunk import Chunk, Item
from schemas.embedder import Bounds, Embedder
from schemas.weights import Weights
from transforms import digests, face_models, person_models, progress
from transforms.casting import photos_of_people, read_cast
from transforms.casting import scenes as cast_scenes
from transforms.cluster import ClusterOptions, embedder_of
from transforms.compose import ComposeScenes, name_scenes, opencv_modules
from transforms.diffusion import find_for_pictures, find_for_words
from transforms.examination import ModelOptions
from transforms.extract import FOLDERS, ExtractChunks, ExtractOptions, NamedChunk, WorkerOptions, close_examiners, matters
from transforms.failure import WrongUsage
from transforms.generate import GenerateOptions, GeneratePictures, Generator, close_painters, name_sitting, rows_of
from transforms.parts import MADE_BY, PHOTOS, SYNTHETIC, Parts, filesystem, join, remove, state_of
from transforms.recognize import RECOGNIZED, RecognizePeople, looked_at_part, recognized_part
from transforms.sittings import sittings
from transforms.synthetic import FOLDER, SynthesizeOptions, proposals, root_of, synthesized, tar_of


@dataclass(frozen=True)
class Models:
    """Diffusers pipelines, as they were found."""

    words: Weights
    pictures: Weights | None
    """Of the one that is given pictures; None where the mode needs none."""

    def record(self) -> dict[str, object]:
        """As it is kept with what they made."""
        some = {"text_to_image": self.words, **({"image_to_image": self.pictures} if self.pictures else {})}
        return {"synthesize": self.words.named, "models": {use: asdict(model) for use, model in some.items()}}


def check(options: SynthesizeOptions, how: GenerateOptions) -> Models | None:
    """What generates, None where nothing does: raises what would stop `synthesize` for want of a package, weights or a file,
    and WrongUsage where options contradict each other, before any work is done."""
    kind, model = options.kind_and_model()
    if kind == "composite":
        opencv_modules()
    if kind != "diffusers":
        return None
    how.sizes(), how.scene_prompts()
    words = find_for_words(model).weights
    return Models(words, find_for_pictures(model, how).weights if how.generate_mode == "portrait-then-scene" else None)


def synthesize(workdir: str, options: SynthesizeOptions, generating: GenerateOptions, models: ModelOptions,
               workers: WorkerOptions, run: RunOptions) -> None:
    """Compose or generate pictures of several people, and keep those in which the right ones are found."""
    found = check(options, generating)
    kind, model = options.kind_and_model()
    if kind == "none":
        if synthesized(workdir):
            _commit(workdir, [], [], {}, {})
        return
    check_extracted(workdir)
    sources = [Parts(workdir, folder) for folder in ("images", "faces", "crops", "identities")]
    sources[3].check_made_from(sources[1], sources[0])
    embedder, persons = _same_models(workdir, models)
    bounds, made, inner = face_models.bounds(embedder), Parts(workdir, FOLDER, synthetic=True), join(workdir, FOLDER)
    how = ExtractOptions(**{**asdict(from_record(ExtractOptions, sources[0].options())), **asdict(models), **asdict(workers)})
    wanted, matter = proposals(photos_of_people(workdir), options.synthetic_fraction), matters(how, embedder, persons)
    if found is None:
        steps = _composing(workdir, wanted, options.seed, bounds, matter)
    else:
        steps = _generating(workdir, wanted, options.seed, model, generating, found, models.device, workers.accelerator)
    count = {part: number for _, todo, _ in steps for part, (_, number) in todo.items()}

    def step(what: str, todo: Collection[str], elements: Iterable[object], make: beam.PTransform) -> None:
        if todo:
            with shown(what, sum(count[part] for part in todo), "pictures"):
                run.over(workdir, elements, make)

    for what, todo, make in steps:
        new = sorted(todo.keys() - made.existing())
        step(what, new, [todo[part][0] for part in new], make)
        close_painters()
    looked_at = {part: looked_at_part(part, matter) for part in count}
    there = set(looked_at.values()).intersection(*(Parts(inner, folder).existing() for folder in FOLDERS))
    source = "composite" if found is None else "generated"
    unseen = {part: NamedChunk(name, Chunk(root_of(workdir), (Item(tar_of(part)),), tar=True, source=source))
              for part, name in looked_at.items() if name not in there}
    step("extract", unseen, unseen.values(), ExtractChunks(inner, how, embedder, persons))
    close_examiners()
    for folder in FOLDERS:
        Parts(inner, folder).commit({PHOTOS: looked_at.values()})  # of a work directory that knows nothing else
    state = state_of(*sources)
    if found is not None and count:
        cluster(inner, ClusterOptions(), run)
        state["generated"] = Parts(inner, "identities").digest()
    recognized = {recognized_part(workdir, part, digests.of(state), bounds): part for part in count}
    there = set(recognized).intersection(*(Parts(workdir, folder).existing() for folder in RECOGNIZED))
    unknown = [part for name, part in recognized.items() if name not in there]
    step("recognize", unknown, unknown, RecognizePeople(workdir, digests.of(state), matter, found is not None))
    _commit(workdir, list(count), list(recognized), state,
            recorded(options) if found is None else {**recorded(options), **recorded(generating), **found.record()})


Step: TypeAlias = tuple[str, dict[str, tuple[object, int]], beam.PTransform]
"""What is done, part of `synthetic` -> the element that it is made of and how many pictures it has, and what makes it."""


def _composing(workdir: str, count: int, seed: int, bounds: Bounds, matter: list[object]) -> list[Step]:
    scenes = cast_scenes(read_cast(workdir, bounds.quality), count, seed)
    if not scenes:
        progress.tell("nothing is composed: fewer than two people are seen in two photos, large enough to be cut out of one")
    named = name_scenes(scenes, matter)
    return [("compose", {one.part: (one, len(one.scenes)) for one in named}, ComposeScenes(workdir))]


def _generating(workdir: str, count: int, seed: int, model: str, how: GenerateOptions, found: Models, device: str,
                accelerator: str | None) -> list[Step]:
    """What is made from words, then what is given pictures of that: one model at a time is loaded."""
    if not count:
        progress.tell("nothing is generated: as many pictures are proposed as photos show somebody known, and none does")
    named = [one for sitting in sittings(count, how, seed) for one in name_sitting(sitting, how, found.words, found.pictures)]
    steps: list[Step] = []
    for weights, given in ((found.words, False), (found.pictures, True)):
        some: dict[str, tuple[object, int]] = {one.part: (one, rows_of(one)) for one in named if bool(one.given_in) == given}
        if weights and some:
            generator = Generator(workdir, model, how, device, weights, given)
            steps.append(("generate", some, GeneratePictures(generator, accelerator)))
    return steps


def _same_models(workdir: str, models: ModelOptions) -> tuple[Embedder, Weights | None]:
    """The models by which the photos were looked at. Raises WrongUsage where others are named."""
    embedder, persons = face_models.embedder(models.faces), person_models.weights(models.persons)
    was, faces = embedder_of(workdir), Parts(workdir, "faces")
    if embedder != was:
        raise WrongUsage(f"--faces {models.faces} is not what {workdir} was extracted with: say --faces {was.named}")
    about = faces.schema(faces.parts()[0]).metadata.get(b"person_model")
    if (persons and persons.to_json().encode()) != about:
        by = f"{json.loads(about)['backend']}:{json.loads(about)['name']}" if about else person_models.NONE
        raise WrongUsage(f"--persons {models.persons} is not what {workdir} was extracted with: say --persons {by}")
    return embedder, persons


def _commit(workdir: str, made: list[str], recognized: list[str], state: dict[str, str], options: dict[str, object]) -> None:
    """Ledgers of what was synthesised, that of `synthetic` last; then what no part is beside any more is removed."""
    for folder in RECOGNIZED:
        Parts(workdir, folder).commit({SYNTHETIC: recognized})
    inner = join(workdir, FOLDER)
    if not made:
        for folder in FOLDERS:
            Parts(inner, folder).commit({PHOTOS: []})
    if "generated" not in state:  # nobody was generated
        for folder in sorted(name for name, command in MADE_BY.items() if command == "cluster"):
            Parts(inner, folder).discard()
    Parts(workdir, FOLDER).commit({SYNTHETIC: made}, state, options)
    fs, path = filesystem(inner)
    valid = {tar_of(part) for part in made}
    for found in fs.ls(path, detail=False):
        name = posixpath.basename(found.rstrip("/"))
        if name.endswith(".tar") and name not in valid:
            remove(join(inner, name))
