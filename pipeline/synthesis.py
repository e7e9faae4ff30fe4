"""The stage `synthesize`: pictures of several people beside the photos, looked at as photos are."""
from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import asdict

import apache_beam as beam

from pipeline.options import from_record, recorded
from pipeline.progress import shown
from pipeline.stages import RunOptions, check_extracted
from schemas.chunk import Chunk, Item
from schemas.embedder import Embedder
from schemas.weights import Weights
from transforms import digests, face_models, person_models, progress
from transforms.casting import photos_of_people, read_cast
from transforms.casting import scenes as cast_scenes
from transforms.cluster import embedder_of
from transforms.compose import ComposeScenes, name_scenes, opencv_modules
from transforms.examination import ModelOptions
from transforms.extract import FOLDERS, ExtractChunks, ExtractOptions, NamedChunk, WorkerOptions, close_examiners, matters
from transforms.failure import WrongUsage
from transforms.parts import SYNTHETIC, Parts, filesystem, join, remove, state_of
from transforms.recognize import RECOGNIZED, RecognizePeople, recognized_part
from transforms.synthetic import FOLDER, SynthesizeOptions, proposals, root_of, synthesized, tar_of


def synthesize(workdir: str, options: SynthesizeOptions, models: ModelOptions, workers: WorkerOptions,
               run: RunOptions) -> None:
    """Compose pictures of the people of the photos, and keep those in which they are found again."""
    if options.synthesize == "none":
        if synthesized(workdir):
            _commit_synthetic(workdir, [], [], {}, {})
        return
    opencv_modules()  # or say at once that they are missing
    check_extracted(workdir)
    sources = [Parts(workdir, folder) for folder in ("images", "faces", "crops", "identities")]
    sources[3].check_made_from(sources[1], sources[0])
    embedder, persons = _same_models(workdir, models)
    bounds, made = face_models.bounds(embedder), Parts(workdir, FOLDER, synthetic=True)
    how = ExtractOptions(**{**asdict(from_record(ExtractOptions, sources[0].options())), **asdict(models), **asdict(workers)})
    cast = read_cast(workdir, bounds.quality)
    scenes = cast_scenes(cast, proposals(photos_of_people(workdir), options.synthetic_fraction), options.seed)
    if not scenes:
        progress.tell("nothing is composed: fewer than two people are seen in two photos, large enough to be cut out of one")
    named = name_scenes(scenes, matters(how, embedder, persons))
    count = {one.part: len(one.scenes) for one in named}

    def step(what: str, todo: list[str], make: Callable[[beam.PCollection], object], elements: Iterable[object]) -> None:
        if todo:
            with shown(what, sum(count[part] for part in todo), "composites"):
                run.run(lambda pipeline: make(pipeline | beam.Create(list(elements))))

    new = [one for one in named if one.part not in made.existing()]
    step("compose", [one.part for one in new], lambda some: some | ComposeScenes(workdir), new)
    inner = join(workdir, FOLDER)
    there = set(count).intersection(*(Parts(inner, folder).existing() for folder in FOLDERS))
    unseen = [part for part in count if part not in there]
    step("extract", unseen, lambda some: some | ExtractChunks(inner, how, embedder, persons),
         [NamedChunk(part, Chunk(root_of(workdir), (Item(tar_of(part)),), tar=True, source="composite")) for part in unseen])
    close_examiners()
    state = state_of(*sources)
    wanted = {recognized_part(workdir, part, digests.of(state), bounds): part for part in count}
    there = set(wanted).intersection(*(Parts(workdir, folder).existing() for folder in RECOGNIZED))
    unknown = [part for name, part in wanted.items() if name not in there]
    step("recognize", unknown, lambda some: some | RecognizePeople(workdir, digests.of(state)), unknown)
    _commit_synthetic(workdir, list(count), list(wanted), state, recorded(options))


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


def _commit_synthetic(workdir: str, composed: list[str], recognized: list[str], state: dict[str, str],
                      options: dict[str, object]) -> None:
    """Ledgers of what was synthesised, that of `synthetic` last; then the tars that no part is beside any more are removed."""
    for folder in RECOGNIZED:
        Parts(workdir, folder).commit({SYNTHETIC: recognized})
    inner = join(workdir, FOLDER)
    for folder in FOLDERS:
        Parts(inner, folder).commit({SYNTHETIC: composed})
    Parts(workdir, FOLDER).commit({SYNTHETIC: composed}, state, options)
    fs, path = filesystem(inner)
    valid = {tar_of(part) for part in composed}
    for found in fs.ls(path, detail=False):
        name = posixpath.basename(found.rstrip("/"))
        if name.endswith(".tar") and name not in valid:
            remove(join(inner, name))
