"""The report of small datasets laid out by the project's own writers, read back with an HTML parser."""
from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import charts, contact_sheet, report
from pipeline.contact_sheet import Candidate
from pipeline.funnel import Step
from schemas.embedder import Bounds
from schemas.sample import Reference, Sample, Target, to_json
from transforms import matching, pictures
from transforms.failure import Failure
from transforms.parts import get, join, put, remove
from transforms.shards import npz, write_members

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>&"\''
SIZE = (200, 320)
"""Height and width of a target."""
FUNNEL = [Step("images", "extract", "images", 9, 8, {"broken_picture": 1}),
          Step("crops", "extract", "faces", 12, 12, {}),
          Step("samples", "pair", "targets", 8, 4, {"one_photo_each": 3, "too_few_people": 1}),
          Step("shards", "write", "samples", 4, 4, {})]
_OUTPUTS = itertools.count()


def noise(random: np.random.Generator, height: int, width: int) -> PIL.Image.Image:
    """A picture of coloured squares."""
    coarse = random.integers(0, 255, (height // 20, width // 20, 3), np.uint8)
    return PIL.Image.fromarray(np.repeat(np.repeat(coarse, 20, 0), 20, 1))


def make_sample(seed: int, references: int, bystanders: int = 0, text: str = "people") -> Sample:
    """A sample whose similarities are those of its embeddings; reference i is face i of the target, from the right."""
    random = np.random.default_rng(seed)
    faces = references + bystanders
    own = np.linalg.qr(random.normal(size=(32, faces)))[0].T
    order = np.arange(references)[::-1]
    near = own[order] + 0.1 * random.normal(size=(references, 32))
    target, rows = own.astype(np.float16), (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float16)
    matrix = matching.similarity_matrix(rows, target)
    margins = matching.margins(matrix)
    return Sample(
        key=hashlib.md5(str(seed).encode()).hexdigest(), split="train", prompt=text, source="photo",
        target=Target("t" * 32, text, "/root", "", "", text, SIZE[1], SIZE[0]),
        references=[Reference(f"id{face}", f"f{face}", "r" * 32, text, "/root", "CC0-1.0",
                              [0.0, 0.0, 80.0, 100.0], [-5.0, 20.0, 60.0, 85.0],
                              [30.0 * face, 40.0, 30.0 * face + 25, 65.0], [1.0] * 10, [], float(matrix[at, face]),
                              float(margins[at])) for at, face in enumerate(order.tolist())],
        similarity_matrix=matrix.tolist(), assignment=order.tolist(), id_sim=matching.id_sim(matrix),
        id_conf=matching.id_conf(matrix), mimr=matching.mimr(matrix), bystanders=bystanders, identities=[],
        target_embeddings=target.ravel().tolist(), reference_embeddings=rows.ravel().tolist())


def write_dataset(output: str, samples: list[Sample]) -> str:
    """A finished dataset with one shard a config, laid out as the contract has it."""
    random = np.random.default_rng(0)
    shards, configs = [], Counter(len(sample.references) for sample in samples)
    for references in sorted(configs):
        path, abouts, tar, parquet = f"refs-{references}/train-000000", [], io.BytesIO(), io.BytesIO()
        members: list[tuple[str, bytes]] = []
        for sample in sorted((one for one in samples if len(one.references) == references), key=lambda one: one.key):
            abouts.append(to_json(sample, (1.0, 1.0), (SIZE[1], SIZE[0]), "dlib/model"))
            members += [(f"{sample.key}.json", json.dumps(abouts[-1]).encode()), (f"{sample.key}.npz", npz()),
                        *((f"{sample.key}.ref_{number}.jpg", pictures.encode(noise(random, 100, 80)))
                          for number in range(1, references + 1)),
                        (f"{sample.key}.target.jpg", pictures.encode(noise(random, *SIZE))),
                        (f"{sample.key}.txt", sample.prompt.encode())]
        write_members(tar, members)
        pq.write_table(pa.Table.from_pylist(abouts), parquet)
        put(join(output, f"{path}.tar"), tar.getvalue())
        put(join(output, f"{path}.parquet"), parquet.getvalue())
        shards.append({"path": path, "references": references, "split": "train", "samples": len(abouts),
                       "bytes": len(tar.getvalue()), "sha256": hashlib.sha256(tar.getvalue()).hexdigest()})
    bounds = Bounds(same_person=0.45, strict_same_person=0.7, near_copy=0.95, outlier=0.2, cohesion=0.2, margin=0.2,
                    quality=0.3, crowding_weight=1.0, crowding_growth=0.0, edge=0.3, normalized_edge=0.3, join=0.15,
                    adopt=0.2, small_join=0.45, spill=16, origin="a test")
    about = {"schema": "umo-dataset/1", "options": {"pair": {"min_margin": None, "seed": 0}},
             "models": {"faces": {"backend": "dlib", "name": ATTACK, "sha256": "0" * 64, "license": "CC0-1.0",
                                  "bounds": asdict(bounds)}},
             "libraries": {"numpy": "2"}, "shards": shards,
             "counts": {"samples": len(samples), "identities": 7, "by_config_and_split": {
                 f"refs-{references}/train": count for references, count in configs.items()}}}
    put(join(output, "dataset.json"), json.dumps(about).encode())
    put(join(output, "funnel.json"), json.dumps([step.to_json() for step in FUNNEL]).encode())
    return output


SAMPLES = [make_sample(1, 2), make_sample(2, 2, text=ATTACK), make_sample(3, 3, bystanders=1),
           make_sample(4, 12)]


@pytest.fixture
def output() -> str:
    """A finished dataset on a filesystem that is not local."""
    return write_dataset(f"memory://report-{next(_OUTPUTS)}/out", SAMPLES)


class Page(HTMLParser):
    """Elements and text of a page, and where each sample's begin."""

    VOID = frozenset(("meta", "br", "rect", "image", "col"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.by_sample: dict[str, Counter[str]] = {}
        """Sample key -> its elements: classes, and `reference N` for each box."""
        self.sample = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [values[name] for name in ("href", "src", "xlink:href", "action") if name in values]
        self.handlers += [name for name in values if name.startswith("on")]
        if values.get("id", "").startswith("sample-"):
            self.sample = values["id"].removeprefix("sample-")
            self.by_sample[self.sample] = Counter()
        if self.sample:
            self.by_sample[self.sample].update(values.get("class", "").split())
            if "data-reference" in values:
                self.by_sample[self.sample][f"reference {values['data-reference']}"] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag
        if tag == "article":
            self.sample = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_each_sample_has_a_box_for_each_reference_in_the_target_and_in_the_reference(output: str) -> None:
    page = Page(report.render(output))
    assert not page.open
    assert set(page.by_sample) == {sample.key for sample in SAMPLES}
    for sample in SAMPLES:
        seen, count = page.by_sample[sample.key], len(sample.references)
        assert seen["reference"] == count
        assert seen["own"] == count  # cells of the assignment
        assert [seen[f"reference {number}"] for number in range(1, count + 2)] == [2] * count + [0]
        assert seen["alone"] == (1 if sample.bystanders else 0)


def test_nothing_runs_and_nothing_is_fetched(output: str) -> None:
    html = report.render(output)
    page = Page(html)
    assert page.tags["script"] == page.tags["img"] == page.tags["link"] == 0 and not page.handlers
    assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "url(" not in html and "@import" not in html


def test_text_of_users_is_shown_and_not_read_as_html(output: str) -> None:
    text = "".join(Page(report.render(output)).text)
    assert text.count(ATTACK) == 7  # prompt, uri of target and both references, licence, model twice


def test_the_same_dataset_gives_the_same_bytes_wherever_it_lies(output: str, tmp_path: Any) -> None:
    url = report.report(output)
    assert url == join(output, "report.html")
    first = get(url)
    assert report.report(output) == url and get(url) == first
    assert get(report.report(write_dataset(str(tmp_path / "elsewhere"), SAMPLES))) == first


def test_the_funnel_names_what_was_dropped_and_the_bottleneck(output: str) -> None:
    text = "".join(Page(report.render(output)).text)
    assert "the picture is cut or damaged" in text and "broken_picture" in text
    assert "What limits it most. 3 targets were dropped" in text


def test_bounds_of_the_model_are_drawn(output: str) -> None:
    text = "".join(Page(report.render(output)).text)
    assert all(bound in text for bound in ("same person from 0.45", "near copy above 0.95", "kept from 0.2"))


def test_a_dataset_without_samples_has_a_report() -> None:
    text = "".join(Page(report.render(write_dataset("memory://report-empty/out", []))).text)
    assert "0 samples of" in text and "There are none." in text


def test_people_are_shown_with_the_nearest_who_may_be_in_no_sample(output: str) -> None:
    before = Page(report.render(output))
    about = json.loads(get(join(output, "dataset.json")))
    about["least_sure"] = [{"identity": "id1", "faces": 1234, "similarity": 0.71, "nearest": "id0", "nearest_similarity": 0.68},
                           {"identity": "id0", "faces": 5, "similarity": 0.9, "nearest": ATTACK, "nearest_similarity": 0.3}]
    put(join(output, "dataset.json"), json.dumps(about).encode())
    after = Page(report.render(output))
    assert after.tags["image"] == before.tags["image"] + 3
    text = "".join(after.text)
    assert text.index("1,234") < text.index("0.68") < text.index(ATTACK, text.index("0.68"))


@pytest.mark.parametrize("name", ["dataset.json", "funnel.json", "refs-2/train-000000.tar",
                                  "refs-3/train-000000.parquet"])
def test_a_missing_file_is_named(output: str, name: str) -> None:
    remove(join(output, name))
    with pytest.raises(Failure, match=name):
        report.render(output)


@pytest.mark.parametrize(("name", "data"), [
    ("funnel.json", b'[{"step": "images"}]'), ("funnel.json", b"{"), ("refs-2/train-000000.tar", b"\0" * 99),
    ("refs-2/train-000000.parquet", b"PAR1"),
    ("funnel.json", b'[{"step": "s", "stage": "s", "unit": "s", "in": 1, "kept": 0, "dropped": {"of_tomorrow": 1}}]')])
def test_a_damaged_file_is_named(output: str, name: str, data: bytes) -> None:
    put(join(output, name), data)
    with pytest.raises(Failure, match=name):
        report.render(output)


@pytest.mark.parametrize(("margins", "limit", "expected"), [
    ({}, 3, {}),
    ({"refs-2": [0.5, 0.3, 0.4]}, 2, {"refs-2": [0.3, 0.4]}),
    ({"refs-10": [0.9, 0.8], "refs-2": [0.3, 0.2, 0.1]}, 3, {"refs-2": [0.1, 0.2], "refs-10": [0.8]}),
    ({"refs-2": [0.3, 0.2, 0.1], "refs-3": [0.7]}, 9, {"refs-2": [0.1, 0.2, 0.3], "refs-3": [0.7]})])
def test_configs_take_turns(margins: dict[str, list[float]], limit: int, expected: dict[str, list[float]]) -> None:
    candidates = [Candidate(margin, "key", f"{config}/train-000000")
                  for config, found in margins.items() for margin in found]
    picked = contact_sheet.pick(candidates, limit)
    assert {config: [one.margin for one in queue] for config, queue in picked.items()} == expected
    assert list(picked) == list(expected)


def test_others_are_all_entries_but_the_assigned() -> None:
    assert report.others([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[7.0, 8.0]]], [[2, 0], [1]]).tolist() == [1, 2, 5, 6, 7]
    assert report.others([], []).tolist() == []


@pytest.mark.parametrize(("values", "expected"), [
    ([], {}), ([1, 1, 2], {"1": 2, "2": 1}), ([3, 4, 5, 9], {"1": 0, "2": 0, "3–4": 2, "5–8": 1, "9–16": 1})])
def test_doubling(values: list[int], expected: dict[str, int]) -> None:
    assert charts.doubling(values) == expected


@pytest.mark.parametrize(("value", "expected"), [(0, 2), (1, 2), (2, 2), (3, 4), (9, 10), (10, 10), (11, 20),
                                                (999, 1000)])
def test_nice_top(value: float, expected: float) -> None:
    assert charts.nice_top(value) == expected


def test_bars_of_a_histogram_stand_where_their_values_are() -> None:
    plot = charts.histogram("t", "s", "a", {"x": np.array([0.0, 0.1, 0.6, 1.0]), "y": np.array([-1.0])}, -1.0, 1.0, 0.5,
                            {"line": 0.5, "outside": 2.0, "unknown": None})
    assert [(bar.x, bar.width, bar.series) for bar in plot.bars] == [(50, 25, 0), (75, 25, 0), (0, 25, 1)]
    assert plot.bars[0].tip == "x: 2 from 0.00 to 0.50 (50.0 %)"
    assert [(mark.at, mark.text) for mark in plot.bounds] == [(75, "line 0.5")]


def test_bars_of_a_step_stand_end_to_end() -> None:
    rows = report.funnel_rows(FUNNEL[2]).rows
    assert [(row.reason, row.start, row.share) for row in rows] == [
        ("", 0, 50), ("one_photo_each", 50, 37.5), ("too_few_people", 87.5, 12.5)]


def test_boxes_are_scaled_with_the_picture_and_kept_inside_it() -> None:
    picture = contact_sheet.thumbnail(PIL.Image.new("RGB", (800, 400)), 480,
                                      {3: [-20, 100, 400, 200], 1: [700, 300, 900, 390]})
    assert (picture.width, picture.height) == (480, 240)
    assert [(box.number, box.x, box.y, box.width, box.height) for box in picture.boxes] == [
        (3, 1.5, 60, 238.5, 60), (1, 420, 180, 58.5, 54)]
    assert all(0 <= box.tag_x <= 480 - contact_sheet.TAG and 0 <= box.tag_y <= 240 - contact_sheet.TAG for box in picture.boxes)
