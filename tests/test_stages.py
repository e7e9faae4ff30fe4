"""Cluster, pair and write on people who are known: what comes out, that it is the same again, and that nothing is stale."""
from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline import funnel, stages, verify
from pipeline.build import finish
from pipeline.cli import main
from pipeline.dataset import LEAST_SURE
from pipeline.stages import RunOptions
from tests.builders import EMBEDDER, Photo, make_workdir, party
from transforms import face_models, matching
from transforms.cluster import ClusterOptions
from transforms.failure import Failure
from transforms.pair import PairOptions
from transforms.parts import NotReady, Parts
from transforms.write import WriteOptions

RUN = RunOptions()
BOUNDS = face_models.bounds(EMBEDDER)


def through_pair(workdir: str, **options: object) -> list[dict]:
    stages.cluster(workdir, ClusterOptions(), RUN)
    stages.pair(workdir, PairOptions(**options), RUN)
    return Parts(workdir, "samples").read_all().to_pylist()


def dropped(workdir: str) -> dict[str, str]:
    return {row["uri"]: row["reason"] for row in Parts(workdir, "rejects").read_all().to_pylist()
            if row["stage"] == "pair"}


def digest_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished dataset of six people."""
    folder = tmp_path_factory.mktemp("party")
    workdir = make_workdir(folder, party())
    through_pair(workdir)
    stages.write(workdir, str(folder / "out"), WriteOptions(), RUN)
    finish(workdir, str(folder / "out"), None)
    return folder


def person_of(photos: list[Photo], workdir: str) -> dict[str, str]:
    """face_id -> person."""
    people = {photo.name: photo.people for photo in photos}
    return {f"{row['image_key']}:{n}": name for row in Parts(workdir, "images").read_all().to_pylist()
            for n, name in enumerate(people[row["uri"]])}


def test_every_reference_is_the_right_person_from_another_picture(finished):
    workdir = str(finished / "work")
    truth = person_of(party(), workdir)
    samples = Parts(workdir, "samples").read_all().to_pylist()
    assert len(samples) == 6
    for sample in samples:
        images = [reference["image_key"] for reference in sample["references"]]
        assert len({*images, sample["target"]["image_key"]}) == len(images) + 1
        for reference, face in zip(sample["references"], sample["assignment"], strict=True):
            assert truth[reference["face_id"]] == truth[f"{sample['target']['image_key']}:{face}"]
            assert BOUNDS.same_person <= reference["similarity"] <= BOUNDS.near_copy
            assert reference["margin"] >= BOUNDS.margin


def test_the_measures_are_those_of_the_matrix(finished):
    for sample in Parts(str(finished / "work"), "samples").read_all().to_pylist():
        matrix = np.array(sample["similarity_matrix"])
        assert (sample["id_sim"], sample["id_conf"], sample["mimr"]) == (
            matching.id_sim(matrix), matching.id_conf(matrix), matching.mimr(matrix))
        assert matching.holds_both_ways(matrix, np.array(sample["assignment"])).all()


def test_a_finished_dataset_verifies_and_is_the_same_again(finished, tmp_path):
    verify.verify(str(finished / "out"), deep=False)
    workdir = make_workdir(tmp_path, party())
    through_pair(workdir)
    stages.write(workdir, str(tmp_path / "out"), WriteOptions(), RUN)
    finish(workdir, str(tmp_path / "out"), None)
    assert digest_of(tmp_path / "out") == digest_of(finished / "out")


def test_a_second_run_writes_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    through_pair(str(finished / "work"))
    assert not stages.write(str(finished / "work"), str(finished / "out"), WriteOptions(), RUN)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("folder", ["identities", "people"])
def test_what_was_removed_of_cluster_is_made_again(finished, tmp_path, folder):
    workdir = shutil.copytree(finished / "work", tmp_path / "work")
    before = Parts(str(workdir), folder).read_all()["identity"]
    shutil.rmtree(workdir / folder)
    stages.cluster(str(workdir), ClusterOptions(), RUN)
    assert Parts(str(workdir), folder).read_all()["identity"].equals(before)


def test_every_step_accounts_for_what_came_in(finished):
    steps = json.loads((finished / "out" / "funnel.json").read_text())
    assert [step["step"] for step in steps] == ["images", "crops", "identities", "samples", "shards"]
    for step in steps:
        assert step["in"] == step["kept"] + sum(step["dropped"].values())
    assert steps[3]["dropped"] == {"too_few_people": 12} and steps[3]["kept"] == 6


def test_no_path_of_this_machine_leaves_the_work_directory(finished):
    for path in (finished / "out").rglob("*"):
        if path.is_file():
            assert str(finished).encode() not in path.read_bytes(), path


def test_dataset_names_its_least_sure_people(finished):
    """Somebody is the less sure the nearer others are, for how near the own faces are: all are named here, for they are few."""
    about = json.loads((finished / "out" / "dataset.json").read_text())
    samples = Parts(str(finished / "work"), "samples").read_all().to_pylist()
    used = {reference["identity"] for sample in samples for reference in sample["references"]}
    people = {row["identity"]: row for row in Parts(str(finished / "work"), "people").read_all().to_pylist()}
    named = about["least_sure"]
    assert {row["identity"] for row in named} == used and len(named) == len(used) <= LEAST_SURE
    apart = [row["similarity"] - row["nearest_similarity"] for row in named]
    assert apart == sorted(apart)
    for row in named:
        its = people[row["identity"]]
        assert (row["nearest"], row["faces"]) == (its["nearest"], its["faces"])
        assert row["similarity"] == pytest.approx(1 - its["spread"], abs=1e-4)
        assert row["nearest_similarity"] == pytest.approx(its["nearest_similarity"], abs=1e-4)


@pytest.mark.parametrize("fault", ["bytes", "missing", "split"])
def test_verify_finds_what_is_wrong(finished, tmp_path, fault, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished / "out", out)
    shard = next(out.rglob("*.tar"))
    about = json.loads((out / "dataset.json").read_text())
    if fault == "bytes":
        shard.write_bytes(shard.read_bytes().replace(b'"similarity"', b'"Similarity"', 1))
    elif fault == "missing":
        shard.unlink()
    else:
        about["shards"][0]["split"] = "val"
        (out / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(Failure, match="fault"):
        verify.verify(str(out), deep=False)
    assert capsys.readouterr().out


def test_why_a_picture_makes_no_sample(tmp_path):
    photos = [
        Photo("a1.jpg", ("a",)), Photo("a2.jpg", ("a",)), Photo("b1.jpg", ("b",)), Photo("c1.jpg", ("c",)),
        *(Photo(f"more-{n}.jpg", (f"m{n}",)) for n in range(30)),
        Photo("good.jpg", ("a", "b")), Photo("stranger.jpg", ("a", "b", "nobody")), Photo("strangers.jpg", ("x", "y")),
        Photo("empty.jpg", ()),
    ]
    workdir = make_workdir(tmp_path, photos)
    samples = through_pair(workdir, val_fraction=0.0)
    reasons = dropped(workdir)
    assert [sample["target"]["uri"] for sample in samples] == ["good.jpg"]
    assert reasons["stranger.jpg"] == "bystanders" and reasons["strangers.jpg"] == "one_photo_each"
    assert reasons["empty.jpg"] == reasons["a1.jpg"] == "too_few_people"
    assert len(reasons) == len(photos) - 1
    stages.pair(workdir, PairOptions(max_bystanders=1, val_fraction=0.0), RUN)
    with_strangers = {sample["target"]["uri"]: sample for sample in Parts(workdir, "samples").read_all().to_pylist()}
    assert sorted(with_strangers) == ["good.jpg", "stranger.jpg"]
    assert with_strangers["stranger.jpg"]["bystanders"] == 1
    assert np.array(with_strangers["stranger.jpg"]["similarity_matrix"]).shape == (2, 3)


def test_one_person_twice_is_never_a_target(tmp_path):
    workdir = make_workdir(tmp_path, [*party(), Photo("mirror.jpg", ("person-0", "person-0"))], noise=0.4)
    through_pair(workdir)
    assert dropped(workdir)["mirror.jpg"] == "same_person_twice"


def test_near_copies_are_refused_and_counted(tmp_path):
    workdir = make_workdir(tmp_path, party(), noise=0.05)
    assert through_pair(workdir) == []
    assert Counter(dropped(workdir).values())["near_copies"] == 6


def test_a_burst_does_not_hide_a_persons_other_photos(tmp_path):
    burst = [Photo(f"burst-{n}.jpg", ("person-0",), burst="one afternoon") for n in range(150)]
    targets = [Photo(f"target-{n}.jpg", ("person-0", "person-1"), burst="one afternoon") for n in range(8)]
    other = [photo for photo in party() if photo.name.startswith("alone") and photo.name != "alone-person-0-0.jpg"]
    workdir = make_workdir(tmp_path, [*other, *burst, *targets])
    samples = through_pair(workdir, val_fraction=0.0)
    used = [{reference["uri"] for reference in sample["references"]} for sample in samples
            if sample["target"]["uri"].startswith("target")]
    assert len(used) == 8 and all("alone-person-0-1.jpg" in uris for uris in used)


def test_a_clip_never_serves_itself_and_its_group_comes_first(tmp_path):
    people = [f"p{n}" for n in range(12)]
    others = [Photo(f"{name}-{video}{clip}.jpg", (name,), video, f"{video}{clip}", "frame")
              for name in people for video, clip in (("v", 1), ("v", 2), ("w", 1))]
    targets = [Photo("target.jpg", ("p0", "p1"), "v", "v1", "frame")]
    workdir = make_workdir(tmp_path, [*others, *targets])
    samples = through_pair(workdir, samples_per_target=2, val_fraction=0.0)
    clips = [{reference["uri"].split("-")[1] for reference in sample["references"]} for sample in samples]
    assert sorted(map(sorted, clips)) == [["v2.jpg"], ["w1.jpg"]]  # never v1, the target's own
    first = through_pair(workdir, val_fraction=0.0)
    assert {reference["uri"].split("-")[1] for reference in first[0]["references"]} == {"v2.jpg"}


def test_several_samples_of_a_target_use_other_references(tmp_path):
    workdir = make_workdir(tmp_path, party())
    samples = through_pair(workdir, samples_per_target=2)
    by_target = Counter(sample["target"]["uri"] for sample in samples)
    assert max(by_target.values()) == 2
    for uri in by_target:
        used = [reference["image_key"] for sample in samples if sample["target"]["uri"] == uri
                for reference in sample["references"]]
        assert len(used) == len(set(used))


def test_later_stages_refuse_what_is_stale(tmp_path):
    workdir = make_workdir(tmp_path, party())
    with pytest.raises(NotReady, match="umo-dataset cluster"):
        stages.pair(workdir, PairOptions(), RUN)
    stages.cluster(workdir, ClusterOptions(), RUN)
    fewer = Parts(workdir, "faces").parts()[:-1]
    Parts(workdir, "faces").commit({"photos": fewer})
    with pytest.raises(NotReady, match="umo-dataset extract"):  # stopped between two ledgers
        stages.pair(workdir, PairOptions(), RUN)
    for name in ("images", "crops", "rejects"):
        Parts(workdir, name).commit({"photos": fewer})
    with pytest.raises(NotReady, match="umo-dataset cluster"):
        stages.pair(workdir, PairOptions(), RUN)


def test_a_photo_that_changed_or_is_gone_costs_its_samples_alone(tmp_path):
    workdir = make_workdir(tmp_path, party())
    samples = through_pair(workdir, val_fraction=0.0)
    targets = [sample["target"]["uri"] for sample in samples]
    (tmp_path / "photos" / targets[0]).write_bytes(b"other bytes")
    (tmp_path / "photos" / targets[1]).unlink()
    stages.write(workdir, str(tmp_path / "out"), WriteOptions(), RUN)
    steps = {step.step: step for step in funnel.account(workdir)}
    assert steps["shards"].dropped["changed"] >= 1 and steps["shards"].dropped["gone"] >= 1
    assert steps["shards"].kept == len(samples) - sum(steps["shards"].dropped.values())


def test_shards_that_are_no_longer_made_are_removed(tmp_path):
    workdir, out = make_workdir(tmp_path, party()), tmp_path / "out"
    through_pair(workdir, val_fraction=0.0)
    stages.write(workdir, str(out), WriteOptions(), RUN)
    finish(workdir, str(out), None)
    assert (out / "refs-4").exists() or (out / "refs-3").exists()
    stages.pair(workdir, PairOptions(val_fraction=0.0, max_identities=2), RUN)
    stages.write(workdir, str(out), WriteOptions(), RUN)
    finish(workdir, str(out), None)
    assert {path.parent.name for path in out.rglob("*.tar")} == {"refs-2"}
    verify.verify(str(out), deep=False)


def whole(workdir: str, out: Path) -> None:
    stages.write(workdir, str(out), WriteOptions(), RUN)
    finish(workdir, str(out), None)


@pytest.mark.parametrize("damage", ["missing", "bytes", "parquet"])
def test_a_damaged_shard_is_written_anew(finished, tmp_path, damage):
    workdir, out = str(tmp_path / "work"), tmp_path / "out"
    shutil.copytree(finished / "work", workdir)
    whole(workdir, out)
    before = digest_of(out)
    shard = next(out.rglob("*.tar"))
    if damage == "bytes":
        shard.write_bytes(shard.read_bytes().replace(b'"similarity"', b'"Similarity"', 1))
        (out / "dataset.json").unlink()
    else:
        (shard if damage == "missing" else shard.with_suffix(".parquet")).unlink()
    whole(workdir, out)
    assert digest_of(out) == before


def test_a_photo_that_is_back_gives_its_samples_back(tmp_path):
    workdir, out = make_workdir(tmp_path, party()), tmp_path / "out"
    samples = through_pair(workdir, val_fraction=0.0)
    away = tmp_path / "photos" / samples[0]["target"]["uri"]
    away.rename(tmp_path / "away.jpg")
    whole(workdir, out)
    verify.verify(str(out), deep=False)
    (tmp_path / "away.jpg").rename(away)
    whole(workdir, out)
    verify.verify(str(out), deep=False)
    assert json.loads((out / "dataset.json").read_text())["counts"]["samples"] == len(samples)


def test_stages_alone_after_a_finished_dataset(tmp_path):
    workdir, out = make_workdir(tmp_path, party()), tmp_path / "out"
    through_pair(workdir)
    whole(workdir, out)
    assert main(["pair", "--workdir", workdir, "--min-identities", "3"]) == 0
    assert [step["step"] for step in json.loads(Path(workdir, "funnel.json").read_text())][-1] == "samples"


def test_where_no_sample_can_be_made_no_dataset_is_left(tmp_path):
    workdir, out = make_workdir(tmp_path, party()), tmp_path / "out"
    through_pair(workdir)
    whole(workdir, out)
    stages.pair(workdir, PairOptions(min_identities=9), RUN)
    with pytest.raises(Failure, match="no sample"):
        whole(workdir, out)
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_target_that_straddles_is_counted_once_whatever_it_gives(tmp_path):
    """Two circles of friends joined by one picture: where they are in two splits, its two samples are one lost target."""
    circles = [[f"{side}{n}" for n in range(5)] for side in "xy"]
    photos = [Photo(f"alone-{name}-{take}.jpg", (name,)) for circle in circles for name in circle for take in range(3)]
    photos += [Photo(f"both-{a}-{b}.jpg", (a, b)) for circle in circles for n, a in enumerate(circle) for b in circle[:n]]
    workdir = make_workdir(tmp_path, [*photos, Photo("bridge.jpg", ("x0", "y0"))])
    through_pair(workdir, samples_per_target=2, val_fraction=0.5)
    steps = {step.step: step for step in funnel.account(workdir)}
    assert steps["samples"].dropped["straddles_split"] == 1 and dropped(workdir)["bridge.jpg"] == "straddles_split"


def test_new_bounds_make_new_identities_and_samples(tmp_path, monkeypatch):
    workdir = make_workdir(tmp_path, party())
    assert through_pair(workdir)
    dlib = sys.modules["transforms.face_models.dlib"]
    monkeypatch.setattr(dlib, "BOUNDS", dataclasses.replace(BOUNDS, near_copy=BOUNDS.same_person))
    assert through_pair(workdir) == []
