"""Whole runs with generated pictures: by small random pipelines, whose noise shows nobody; and, where pictures of known people
stand in its place as a run that was stopped would have left them, to samples."""
from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pytest

pytest.importorskip("diffusers", reason="needs pip install 'umo-dataset[generate]'")

from pipeline import stages
from pipeline.cli import main, parse
from pipeline.options import of
from pipeline.synthesis import check
from schemas.scene import Proposal, read_proposals
from schemas.weights import Weights
from tests import diffusers_weights
from transforms import digests, face_models, pictures
from transforms.casting import photos_of_people
from transforms.generate import GenerateOptions, GeneratePictures, Generator, NamedPictures, name_sitting
from transforms.parts import PHOTOS, SYNTHETIC, NotReady, Parts
from transforms.recognize import looked_at_part
from transforms.sittings import sittings
from transforms.synthetic import SynthesizeOptions, proposals, write_part

FACES = Path(__file__).parents[2] / "shared" / "faces"
pytestmark = pytest.mark.skipif(not FACES.exists(), reason="needs ../shared/faces")
LABELS = json.loads((FACES / "dev" / "labels.json").read_text())["images"] if FACES.exists() else {}
REAL = ["age_003.jpg", "age_005.jpg", "age_009.jpg", "age_010.jpg", "misc_004.jpg"]
"""Two people, together and alone, and hills."""
ALONE = "--extract-processes", "1"
SOME = "--generate-steps", "1", "--generate-sizes", "64x64,96x64", "--generate-batch", "3", *ALONE
FOLDERS = ("images", "faces", "crops", "identities", "people", "drafts", "samples", "splits")

PORTRAITS = ["age_005.jpg", "age_009.jpg", "age_010.jpg", "azure_011.jpg", "azure_007.jpg", "azure_009.jpg", "azure_010.jpg",
             "misc_004.jpg"]
"""The second is a near copy of a face of the first scene, and no reference for it; the third is."""
SCENES = [  # the picture, how many people it was to show, the portraits that it was made from, and what is to be said of it
    ("age_003.jpg", 2, ("age_005.jpg", "age_009.jpg"), ""),
    ("azure_001.jpg", 4, ("azure_011.jpg", "azure_007.jpg", "azure_009.jpg", "azure_010.jpg"), ""),
    ("age_002.jpg", 2, ("age_005.jpg", "age_009.jpg"), "wrong_people"),  # somebody besides
    ("azure_002.jpg", 2, ("age_005.jpg", "age_009.jpg"), "wrong_people"),  # two others
    ("azure_003.jpg", 3, (), "too_few_faces"), ("jp_008.jpg", 2, (), "too_similar"),
    ("azure_005.jpg", 3, (), "low_quality"), ("jp_007.jpg", 0, (), "")]  # of whom nothing was said, seen nowhere else

WEIGHTS = Weights("diffusers", "made-up", "", "")


def build(photos: Path, out: Path, *options: str) -> int:
    return main(["build", str(photos), "--output", str(out), *options])


def members_of(out: Path) -> dict[str, dict[str, bytes]]:
    """Key of a sample -> its members."""
    found: dict[str, dict[str, bytes]] = {}
    for path in out.rglob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                found.setdefault(key, {})[name] = tar.extractfile(member).read()
    return found


def work(out: Path) -> str:
    return f"{out}.work"


def rows(out: Path) -> list[Proposal]:
    made = Parts(work(out), "synthetic", synthetic=True)
    return [one for part in made.parts() for one in read_proposals(made.read(part))]


def dropped(out: Path) -> dict[str, dict[str, int]]:
    """Step -> what was dropped, by reason; every step's sum is checked where it is made."""
    return {step["step"]: step["dropped"] for step in json.loads((Path(work(out)) / "funnel.json").read_text())}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with diffusers_weights.one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    """A pipeline from words, and one that is given a picture."""
    folder = tmp_path_factory.mktemp("models")
    return diffusers_weights.pipeline(folder / "words"), diffusers_weights.pipeline(folder / "shown", shown=True, seed=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Photos, and a dataset of nothing else."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "photos").mkdir()
    for name in REAL:
        (folder / "photos" / name).write_bytes(picture_of(name, 0.7))
    assert build(folder / "photos", folder / "out", *ALONE) == 0
    return folder


def options_of(models: tuple[str, str], *more: str) -> list[str]:
    return ["--synthesize", f"diffusers:{models[0]}", "--image-model", models[1], *SOME, *more]


@pytest.fixture(scope="module")
def noise(plain, models) -> Path:
    """A dataset of the same photos, beside which noise was generated."""
    shutil.copytree(work(plain / "out"), work(plain / "noise"))
    assert build(plain / "photos", plain / "noise", *options_of(models)) == 0
    return plain / "noise"


def test_what_is_generated_is_recorded(noise, models):
    made = rows(noise)
    scenes, portraits = [one for one in made if one.wanted > 1], [one for one in made if one.wanted == 1]
    assert len(scenes) == photos_of_people(work(noise)) and len(portraits) >= 2 * max(one.wanted for one in scenes)
    by = Counter((one.wanted > 1 or bool(one.given), one.generator.partition("@")[0], one.license) for one in made)
    assert set(by) == {(False, "diffusers:words", "made-up-licence"), (True, "diffusers:shown", "made-up-licence")}
    of_key = {one.image_key: one for one in portraits}
    for one in made:
        assert one.prompt.startswith(one.caption) and one.seed >= 0 and not one.reason and not one.people
        assert all(of_key[key].wanted == 1 for key in one.given) and len(one.given) in (0, one.wanted)
    assert {one.style for one in scenes} <= {"stylised", "imaginative"}
    for part in Parts(work(noise), "synthetic", synthetic=True).parts():
        with tarfile.open(Path(work(noise), "synthetic", part.replace(".parquet", ".tar"))) as tar:
            stored = {digests.of_bytes(tar.extractfile(member).read()) for member in tar}
        assert stored == {one.image_key for one in read_proposals(Parts(work(noise), "synthetic").read(part))}
    ledger = Parts(work(noise), "synthetic").options()
    assert str(noise.parent.parent) not in json.dumps(ledger) and ledger["synthesize"].startswith("diffusers:words@")
    assert ledger["models"]["image_to_image"]["name"].startswith("shown@") and ledger["generate_steps"] == 1


def test_noise_shows_nobody_and_changes_nothing(plain, noise):
    steps = dropped(noise)
    assert steps["synthetic"] == {"no_face": len(rows(noise))}
    assert members_of(noise) == members_of(plain / "out")
    for folder in FOLDERS:
        parts = Parts(work(plain / "out"), folder)
        assert Parts(work(noise), folder).parts([PHOTOS]) == parts.parts()
        assert all((Path(parts.url) / part).read_bytes() == (Path(work(noise), folder) / part).read_bytes()
                   for part in parts.parts())
    about = json.loads((noise / "dataset.json").read_text())
    assert about["generators"] == [] and set(about["models"]) == {"faces"}


def test_a_second_run_makes_nothing(noise, models):
    before = {path: path.stat().st_mtime_ns for kind in ("parquet", "tar") for path in Path(work(noise)).rglob(f"*.{kind}")}
    assert build(noise.parent / "photos", noise, *options_of(models)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_a_crash_lost_is_generated_again_the_same_and_nothing_else(noise, models, tmp_path):
    """A tar without its part, and portraits without the scenes that are made from them."""
    out = tmp_path / "noise"
    shutil.copytree(work(noise), work(out))
    mine = Path(work(out), "synthetic")
    tars = {path.name: path.read_bytes() for path in mine.glob("*.tar")}
    made = [part for part in mine.glob("*.parquet")
            if any(one.given for one in read_proposals(Parts(work(out), "synthetic").read(part.name)))]
    assert len(made) == 1
    made[0].unlink()
    made[0].with_suffix(".tar").write_bytes(b"half")
    (mine / "_parts.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in mine.glob("*.tar") if path.stem != made[0].stem}
    assert main(["synthesize", "--workdir", work(out), *options_of(models)]) == 0
    assert {path.name: path.read_bytes() for path in mine.glob("*.tar")} == tars
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(("mode", "people"), [("scene", True), ("panels", False)])
def test_other_modes_need_no_image_model(noise, models, mode, people, tmp_path):
    out = tmp_path / "noise"
    shutil.copytree(work(noise), work(out))
    more = ["--generate-sizes", "160x160"] if mode == "panels" else []
    assert main(["synthesize", "--workdir", work(out), "--synthesize", f"diffusers:{models[0]}", *SOME, *more,
                 "--generate-mode", mode, "--prompts", str(prompts(tmp_path)), "--portraits", "1"]) == 0
    made = rows(out)
    assert {one.generator.partition("@")[0] for one in made} == {"diffusers:words"} and not any(one.given for one in made)
    assert any(one.wanted == 1 for one in made) == people
    scenes = [one for one in made if one.wanted > 1]
    assert len({one.key for one in made}) == len(made) and len(scenes) == 4
    assert {one.wanted for one in scenes} == {3}
    if mode == "panels":
        assert len({one.prompt for one in scenes}) == 1 and len({one.caption for one in scenes}) == 4
        images = Parts(Path(work(out), "synthetic").as_posix(), "images").read_all(["width", "height"])
        assert set(images["width"].to_pylist()) == set(images["height"].to_pylist()) == {76}


def prompts(folder: Path) -> Path:
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": "A woodcut of three friends.", "people": 3}))
    return folder / "prompts.jsonl"


def stand_in(out: Path, models: tuple[str, str], *more: str) -> None:
    """Put known people where the pipelines' pictures would stand, in the very parts that the command would make."""
    argv = ["synthesize", "--workdir", work(out), *options_of(models), *more]
    values = parse(argv).values
    options, how = of(SynthesizeOptions, values), of(GenerateOptions, values)
    found = check(options, how)
    count = proposals(photos_of_people(work(out)), options.synthetic_fraction)
    named = [one for sitting in sittings(count, how, 0) for one in name_sitting(sitting, how, found.words, found.pictures)]
    assert len(named) == 2
    portraits = {name: picture_of(name) for name in PORTRAITS}
    key_of = {name: digests.of_bytes(data) for name, data in portraits.items()}
    write_part(work(out), named[0].part, [(data, row(name, data, "words", 1, ())) for name, data in portraits.items()])
    write_part(work(out), named[1].part, [
        (data, row(name, data, "shown", wanted, [key_of[one] for one in given]))
        for name, wanted, given, _ in SCENES for data in [picture_of(name)]])


def picture_of(name: str, scale: float = 0.8) -> bytes:
    """A labelled picture, smaller."""
    picture = pictures.decode((FACES / "dev" / "images" / name).read_bytes(), pictures.UNLIMITED)
    return pictures.encode(pictures.resize(picture, round(scale * max(picture.size))))


def row(name: str, data: bytes, by: str, wanted: int, given) -> Proposal:
    return Proposal(digests.of(name), "", digests.of_bytes(data), f"diffusers:{by}@0", f"{name}, told at length", 7, [], "",
                    "made-up-licence", "", "", f"{name}, described", "stylised", wanted, list(given))


@pytest.fixture(scope="module")
def people(plain, models) -> Path:
    """A dataset of photos, and of generated pictures of the same people and of others."""
    out = plain / "people"
    shutil.copytree(work(plain / "out"), work(out))
    stand_in(out, models, "--generated-bound", "usual")
    assert build(plain / "photos", out, *options_of(models, "--generated-bound", "usual")) == 0
    return out


def names_of(out: Path) -> dict[str, str]:
    """image_key of a generated picture -> the picture that stood in."""
    return {one.image_key: one.caption.partition(",")[0] for one in rows(out)}


def test_only_scenes_of_the_right_people_are_kept(people):
    said = {row["uri"]: row["reason"] for row in Parts(work(people), "rejects").read_all(producers=[SYNTHETIC]).to_pylist()}
    names = {one.uri: one.caption.partition(",")[0] for one in rows(people)}
    wanted = {name: reason for name, _, _, reason in SCENES if reason} | {"misc_004.jpg": "no_face"}
    assert {names[uri]: reason for uri, reason in said.items()} == wanted
    assert dropped(people)["synthetic"] == dict(Counter(wanted.values()))


def test_generated_people_are_told_apart_among_themselves(people):
    """By the labels: one name for each, which nobody of the photos bears, though they show the same people."""
    real = {row["identity"] for row in Parts(work(people), "identities").read_all().to_pylist()}
    found = Parts(work(people), "identities").read_all(producers=[SYNTHETIC]).to_pylist()
    names, who = names_of(people), {}
    for face in found:
        image_key, _, number = face["face_id"].partition(":")
        labelled = sorted(LABELS[names[image_key]]["faces"], key=lambda one: one["box"][0])
        who.setdefault(labelled[int(number)]["identity"], set()).add(face["identity"])
    assert all(len(called) == 1 for called in who.values()), who
    assert len(set.union(*who.values())) == len(who) >= 8
    assert not real & set.union(*who.values())


def test_samples_of_generated_scenes_say_what_they_are(people):
    abouts = [json.loads(its["json"]) for its in members_of(people).values()]
    names, made = names_of(people), {}
    for about in abouts:
        if about["source"] == "generated":
            name = names[about["target"]["image_key"]]
            made[name] = about
            assert about["generator"] == "diffusers:shown@0" and about["seed"] == 7 and about["target"]["license"]
            assert about["prompt"] == f"{name}, described" and about["split"] == "train"
            assert about["target"]["license"] == "made-up-licence"
            labelled = sorted(LABELS[name]["faces"], key=lambda one: one["box"][0])
            for reference, face in zip(about["references"], about["assignment"], strict=True):
                shown = LABELS[names[reference["image_key"]]]["faces"]  # of a generated picture, or it is a KeyError
                assert labelled[face]["identity"] in {one["identity"] for one in shown}
                assert reference["identity"].startswith("generated-") and reference["license"] == "made-up-licence"
    assert set(made) == {"age_003.jpg", "azure_001.jpg"}
    assert dropped(people)["samples"]["one_photo_each"] == 1  # jp_007.jpg
    assert main(["verify", str(people), "--deep"]) == 0


def test_verify_holds_generated_references_to_the_bound_that_was_asked_for(people, tmp_path, capsys):
    shutil.copytree(people, tmp_path / "out")
    about = json.loads((people / "dataset.json").read_text())
    about["options"]["synthesize"]["generated_bound"] = "strict"
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(about))
    assert main(["verify", str(tmp_path / "out")]) == 1
    assert "similarity is out of bounds" in "".join(capsys.readouterr())


def test_no_byte_of_the_photos_part_changes(plain, people):
    for folder in FOLDERS:
        parts = Parts(work(plain / "out"), folder)
        assert Parts(work(people), folder).parts([PHOTOS]) == parts.parts()
        for part in parts.parts():
            assert (Path(parts.url) / part).read_bytes() == (Path(work(people), folder) / part).read_bytes()
    before, after = members_of(plain / "out"), members_of(people)
    assert before and len(after) > len(before) and all(after[key] == its for key, its in before.items())


def test_the_card_and_croissant_say_what_was_generated_and_by_what(people):
    about, card = json.loads((people / "dataset.json").read_text()), (people / "README.md").read_text()
    assert about["generators"] == ["diffusers:shown@0"] and about["counts"]["by_source"]["generated"] == 2
    assert about["models"]["text_to_image"]["license"] == "made-up-licence" and "diffusers" in about["libraries"]
    assert "people who are made up" in card and "portrait-then-scene" in card and "made-up-licence" in card
    assert str(people.parent.parent) not in card + json.dumps(about)
    croissant = json.loads((people / "croissant.json").read_text())
    assert croissant["rai:hasSyntheticData"] is True and "(diffusers:shown@0)" in croissant["rai:dataCollection"]
    mlcroissant = pytest.importorskip("mlcroissant")
    assert not mlcroissant.Dataset(jsonld=str(people / "croissant.json")).metadata.ctx.issues.errors


def test_the_strict_bound_is_the_default(plain, people, models, tmp_path):
    out = tmp_path / "strict"
    shutil.copytree(work(people), work(out))
    shutil.copytree(people, out)
    assert build(plain / "photos", out, *options_of(models)) == 0
    bounds = face_models.bounds(stages.embedder_of(work(out)))
    usual, strict = ([reference["similarity"] for its in members_of(some).values()
                      for about in [json.loads(its["json"])] if about["source"] == "generated"
                      for reference in about["references"]] for some in (people, out))
    assert min(usual) < bounds.strict_same_person and len(strict) < len(usual)
    assert all(similarity >= bounds.strict_same_person for similarity in strict)
    assert main(["verify", str(out)]) == 0


def test_later_stages_refuse_a_synthesize_that_was_stopped(people, models, tmp_path):
    workdir = str(tmp_path / "work")
    shutil.copytree(work(people), workdir)
    Parts(workdir, "faces").commit({SYNTHETIC: []})
    with pytest.raises(NotReady, match="umo-dataset synthesize"):
        stages.check_synthesized(workdir)
    assert main(["synthesize", "--workdir", workdir, *options_of(models, "--generated-bound", "usual")]) == 0
    assert stages.check_synthesized(workdir)


def test_switched_off_nothing_of_it_is_left(plain, people, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(people, out)
    shutil.copytree(work(people), work(out))
    assert build(plain / "photos", out) == 0
    inner = Path(work(out), "synthetic")
    assert not list(inner.rglob("*.tar")) and not list(inner.rglob("*.parquet"))
    assert members_of(out) == members_of(plain / "out")


def test_what_is_looked_at_otherwise_is_not_generated_again():
    assert looked_at_part("made.parquet", [640]) != looked_at_part("made.parquet", [200])
    made = [one.part for sitting in sittings(9, GenerateOptions(), 0)
            for one in name_sitting(sitting, GenerateOptions(), WEIGHTS, WEIGHTS)]
    assert len(set(made)) == 4  # of words and of portraits, in two sittings
    for other in ({"generate_steps": 3}, {"generate_dtype": "float16"}, {"generate_batch": 1}):
        how = GenerateOptions(**other)
        assert not set(made) & {name_sitting(sitting, how, WEIGHTS, WEIGHTS)[0].part for sitting in sittings(9, how, 0)}
    again = [name_sitting(sitting, GenerateOptions(generated_bound="usual", image_model="x"), WEIGHTS, WEIGHTS)
             for sitting in sittings(9, GenerateOptions(), 0)]
    assert [one.part for some in again for one in some] == made


def test_a_gpu_is_asked_for_where_the_user_says_which():
    generator = Generator("w", "model", GenerateOptions(), "auto", WEIGHTS, given=False)
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([NamedPictures("part", ())]) | GeneratePictures(generator, "type:nvidia-l4;count:1")
    where = pipeline.to_runner_api().components.environments.values()
    hints = [dict(one.resource_hints) for one in where if one.resource_hints]
    assert hints == [{"beam:resources:accelerator:v1": b"type:nvidia-l4;count:1"}]


@pytest.mark.parametrize(("more", "said"), [
    (["--synthesize", "diffusers:/no/such/folder"], "no folder /no/such/folder, nor is it in the hub's cache: python -c"),
    (["--synthesize", "diffusers:WORDS"], "takes words alone"),
    (["--synthesize", "diffusers:WORDS", "--generate-mode", "scene", "--prompts", "/no/such.txt"], "cannot be read"),
    (["--synthesize", "diffusers:WORDS", "--generate-mode", "scene", "--generate-sizes", "100x100"], "multiples of 16")])
def test_what_is_missing_is_told_before_any_work(more, said, models, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    shutil.copy2(FACES / "dev" / "images" / REAL[0], tmp_path / "photos")
    assert build(tmp_path / "photos", tmp_path / "out", *[word.replace("WORDS", models[0]) for word in more]) in (1, 2)
    text = capsys.readouterr().err
    assert said in text and "Traceback" not in text and len(text.splitlines()) == 1
    assert not (tmp_path / "out.work" / "images").exists()
