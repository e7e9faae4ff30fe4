"""Whole runs with composites: nothing of the photos' part changes, nobody is their own reference, and it is the same again."""
from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("cv2", reason="needs opencv-python")

from pipeline import stages
from pipeline.cli import main
from pipeline.stages import RunOptions
from schemas.person import encode_mask
from schemas.scene import read_proposals
from tests.builders import EMBEDDER, make_workdir, party
from transforms import face_models
from transforms.casting import read_cast, scenes
from transforms.cluster import ClusterOptions
from transforms.compose import ComposeScene, license_of
from transforms.parts import SYNTHETIC, NotReady, Parts
from transforms.synthetic import proposals

FACES = Path(__file__).parents[2] / "shared" / "faces"
needs_faces = pytest.mark.skipif(not FACES.exists(), reason="needs ../shared/faces")
PHOTOS = ["age_003.jpg", "age_005.jpg", "age_009.jpg", "age_010.jpg", "age_011.jpg", "age_012.jpg", "age_004.jpg",
          "age_015.webp", "age_018.jpg", "misc_004.jpg"]
"""Five people in two photos or more each, two photos of two of them, and hills."""
COMPOSITES = "--synthesize", "composite", "--synthetic-fraction", "0.6"
FOLDERS = ("images", "faces", "crops", "identities", "people", "drafts", "samples", "splits")


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


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Photos, and a dataset of nothing else."""
    folder = tmp_path_factory.mktemp("men")
    (folder / "photos").mkdir()
    for name in PHOTOS:
        shutil.copy2(FACES / "dev" / "images" / name, folder / "photos" / name)
    assert build(folder / "photos", folder / "out") == 0
    return folder


@pytest.fixture(scope="module")
def made(plain) -> Path:
    """A dataset of the same photos and of composites."""
    shutil.copytree(plain / "out.work", plain / "both.work")
    assert build(plain / "photos", plain / "both", *COMPOSITES) == 0
    return plain / "both"


def work(out: Path) -> str:
    return f"{out}.work"


@needs_faces
def test_no_byte_of_the_photos_part_changes(plain, made):
    for folder in FOLDERS:
        parts = Parts(work(plain / "out"), folder)
        for part in parts.parts():
            assert (Path(parts.url) / part).read_bytes() == (Path(work(made), folder) / part).read_bytes()
        assert Parts(work(made), folder).parts() == parts.parts()
    before, after = members_of(plain / "out"), members_of(made)
    assert before and len(after) > len(before) and all(after[key] == its for key, its in before.items())


@needs_faces
def test_composites_become_samples_that_say_what_they_are(made):
    abouts = [json.loads(its["json"]) for its in members_of(made).values()]
    composites = [about for about in abouts if about["source"] == "composite"]
    assert len(composites) >= 3
    assert all(about["generator"].startswith("composite/") and about["seed"] >= 0 for about in composites)
    assert {(about["generator"], about["seed"]) for about in abouts if about["source"] == "photo"} == {("", -1)}
    assert main(["verify", str(made), "--deep"]) == 0
    assert json.loads((made / "croissant.json").read_text())["rai:hasSyntheticData"] is True
    card, dataset = (made / "README.md").read_text(), json.loads((made / "dataset.json").read_text())
    generator = composites[0]["generator"]
    assert dataset["generators"] == [generator] and dataset["options"]["synthesize"]["synthesize"] == "composite"
    assert generator in card and "**synthesize**" in card
    steps = {step["step"]: step for step in json.loads((made / "funnel.json").read_text())}
    assert steps["synthetic"]["kept"] >= len(composites) and steps["images"]["in"] == len(PHOTOS)


@needs_faces
def test_references_are_the_right_people_from_other_photos(made):
    labels = json.loads((FACES / "dev" / "labels.json").read_text())["images"]
    uris = {row["image_key"]: row["uri"] for row in Parts(work(made), "images").read_all().to_pylist()}
    sources = {one.image_key: one for part in Parts(work(made), "synthetic", synthetic=True).parts()
               for one in read_proposals(Parts(work(made), "synthetic").read(part))}
    samples = Parts(work(made), "samples").read_all(producers=[SYNTHETIC]).to_pylist()
    assert samples
    for sample in samples:
        people = {one.identity: one for one in sources[sample["target"]["image_key"]].people}
        cut_out_of = {uris[one.image_key] for one in people.values()}
        for reference in sample["references"]:
            assert reference["uri"] not in cut_out_of
            x = sum(reference["target_face_box"][::2]) / 2
            assert people[reference["identity"]].box[0] < x < people[reference["identity"]].box[2]
            there, own = ({face["identity"] for face in labels[uri]["faces"]} for uri in (
                reference["uri"], uris[people[reference["identity"]].image_key]))
            assert there & own


@needs_faces
def test_a_second_run_makes_nothing(made):
    before = {path: path.stat().st_mtime_ns for path in Path(work(made)).rglob("*.parquet")}
    before |= {path: path.stat().st_mtime_ns for path in made.rglob("*.tar")}
    assert build(made.parent / "photos", made, *COMPOSITES) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@needs_faces
def test_what_was_lost_on_the_way_is_made_again_the_same(made, tmp_path):
    """As a crash leaves it: a tar without its part, pictures that nobody looked at, a ledger that is not there."""
    out = tmp_path / "both"
    shutil.copytree(made, out)
    shutil.copytree(work(made), work(out))
    inner, mine = Path(work(made), "synthetic"), Path(work(out), "synthetic")
    tars = {path.name: path.read_bytes() for path in inner.glob("*.tar")}
    next(mine.glob("*.parquet")).unlink()
    next(mine.glob("*.tar")).write_bytes(b"half")
    shutil.rmtree(mine / "faces")
    (mine / "_parts.json").unlink()
    assert main(["synthesize", "--workdir", work(out), *COMPOSITES]) == 0
    assert {path.name: path.read_bytes() for path in mine.glob("*.tar")} == tars
    rows = [Parts(work(some), "faces").read_all(["face_id", "embedding"], [SYNTHETIC]) for some in (made, out)]
    assert rows[0].drop_columns("part").equals(rows[1].drop_columns("part"))
    roots = Parts(work(out), "images").read_all(["root"], [SYNTHETIC])["root"].to_pylist()
    assert set(roots) == {str(mine)}  # and pictures are read where they lie now


@needs_faces
def test_later_stages_refuse_a_synthesize_that_was_stopped_and_one_of_other_identities(made, tmp_path, capsys):
    workdir = str(tmp_path / "work")
    shutil.copytree(work(made), workdir)
    synthesize = ["synthesize", "--workdir", workdir, *COMPOSITES]
    with pytest.raises(NotReady, match="umo-dataset synthesize"):
        stages.check_synthesized(workdir)  # it was moved: its rows say where pictures lie
    assert main(synthesize) == 0 and stages.check_synthesized(workdir)
    Parts(workdir, "faces").commit({SYNTHETIC: []})
    with pytest.raises(NotReady, match="umo-dataset synthesize"):
        stages.check_synthesized(workdir)
    assert main(synthesize) == 0
    assert main(["cluster", "--workdir", workdir, "--join", "0.9"]) == 0
    assert main(["pair", "--workdir", workdir]) == 1 and "umo-dataset synthesize" in capsys.readouterr().err


@needs_faces
def test_switched_off_nothing_of_it_is_left(plain, made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    shutil.copytree(work(made), work(out))
    assert build(plain / "photos", out) == 0
    assert not list(Path(work(out), "synthetic").rglob("*.tar")) and not list(Path(work(out), "synthetic").rglob("*.parquet"))
    assert members_of(out) == members_of(plain / "out")
    assert main(["verify", str(out)]) == 0


@pytest.fixture
def made_up(tmp_path) -> str:
    workdir = make_workdir(tmp_path, party(4, groups=0), scale=4)
    stages.cluster(workdir, ClusterOptions(), RunOptions())
    return workdir


def test_other_models_than_the_photos_were_looked_at_by_are_wrong_usage(made_up, capsys):
    assert main(["synthesize", "--workdir", made_up, "--synthesize", "composite"]) == 2  # with dlib's own models
    assert f"say --faces {EMBEDDER.named}" in capsys.readouterr().err


def test_a_photo_that_is_gone_costs_its_scenes_alone(made_up, tmp_path):
    cast = read_cast(made_up, face_models.bounds(EMBEDDER).quality)
    foreground = next(cast.foreground(row) for row in np.flatnonzero(cast.eligible))
    (tmp_path / "photos" / foreground.source.uri).unlink()
    composer = ComposeScene(made_up)
    for scene in scenes(cast, 20, 0):
        picture, row = composer(scene)
        cast = [one.face_id == foreground.face_id for one in scene.foregrounds]
        assert any(cast[:scene.people]) <= (row.reason == "gone") <= any(cast)
        assert (picture is None) == bool(row.reason)


def test_an_outline_that_the_person_model_gave_is_where_it_was(made_up):
    cast = read_cast(made_up, face_models.bounds(EMBEDDER).quality)
    one = cast.foreground(int(np.flatnonzero(cast.eligible)[0]))
    table = Parts(made_up, "faces").read(one.part)
    mask = np.zeros((300, 200), bool)
    mask[10:, 20:150] = True
    row = table["face_id"].to_pylist().index(one.face_id)
    boxes, masks = [None] * len(table), [None] * len(table)
    boxes[row], masks[row] = [40.4, 100.0, 240.0, 399.6], encode_mask(mask)
    for name, values in (("person_box", boxes), ("person_mask", masks)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    Parts(made_up, "faces").write(one.part, table)
    outline = ComposeScene(made_up)._outline(one, 800, 1280)
    wanted = np.zeros((800, 1280), bool)
    wanted[110:400, 60:190] = True
    assert (outline == wanted).all()
    other = next(face for face in table["face_id"].to_pylist() if face != one.face_id)
    assert ComposeScene(made_up)._outline(dataclasses.replace(one, face_id=other), 800, 1280) is None


def test_without_opencv_it_says_what_to_install(made_up, monkeypatch, capsys):
    for name in ("transforms.cutouts", "transforms.composites"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["synthesize", "--workdir", made_up, "--synthesize", "composite"]) == 1
    assert "pip install opencv-python" in capsys.readouterr().err


@pytest.mark.parametrize(("photos", "fraction", "wanted"), [(100, 0.5, 100), (100, 0.2, 25), (0, 0.5, 0), (10, 0.0, 0)])
def test_a_fraction_is_of_photos_and_composites(photos, fraction, wanted):
    assert proposals(photos, fraction) == wanted


def test_a_licence_of_several_photos_is_all_of_theirs_or_unknown(made_up):
    cast = read_cast(made_up, 0.0)
    source = cast.foreground(0).source
    known, other, unknown = (dataclasses.replace(source, license=license) for license in ("CC0-1.0", "CC-BY-4.0", None))
    assert license_of([known, other, known]) == "CC-BY-4.0; CC0-1.0" and license_of([known, unknown]) == ""
