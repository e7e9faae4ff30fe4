"""Faces and people: the assignment against brute force, the records, and ultralytics on weights made here."""
from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from schemas.person import Person, decode_mask, encode_mask
from tests import insightface_weights, yolo_weights
from transforms import person_models, persons
from transforms.face_models import MissingModel
from transforms.failure import Failure, WrongUsage
from transforms.parts import Parts
from transforms.person_models.ultralytics import WEIGHTS, _unfit

ADULT, CHILD = [0, 0, 120, 360], [30, 180, 100, 360]
ADULTS_FACE, CHILDS_FACE = [40, 20, 80, 70], [48, 190, 82, 230]
LYING = [0, 100, 300, 200]

CASES = {
    "nobody": ([], [], []),
    "a face without a person": ([[500, 20, 540, 60]], [ADULT], [-1]),
    "no people at all": ([ADULTS_FACE], [], [-1]),
    "a person without a face": ([ADULTS_FACE], [[400, 0, 500, 300], ADULT], [1]),
    "two who overlap, heads apart": ([[30, 10, 70, 60], [90, 10, 130, 60]], [[60, 0, 160, 300], [0, 0, 100, 300]], [1, 0]),
    "two who overlap, either face in both boxes": ([[30, 10, 70, 60], [60, 10, 100, 60]],
                                                   [[0, 0, 100, 300], [30, 0, 130, 300]], [0, 1]),
    "a child in front of an adult": ([ADULTS_FACE, CHILDS_FACE], [CHILD, ADULT], [1, 0]),
    "a child in front of an adult who looks away": ([CHILDS_FACE], [ADULT, CHILD], [1]),
    "a child in front of an adult, found as one": ([ADULTS_FACE, CHILDS_FACE], [ADULT], [0, -1]),
    "a baby in arms": ([[30, 20, 70, 66], [62, 70, 90, 100]], [ADULT, [50, 62, 110, 160]], [0, 1]),
    "one who lies, head to the left": ([[8, 120, 58, 170]], [LYING], [0]),
    "one who lies, head to the right and low": ([[245, 145, 295, 195]], [LYING], [0]),
    "a face that fills the box": ([[5, 10, 95, 130]], [[0, 0, 100, 140]], [0]),
    "a picture on a shirt": ([[45, 210, 75, 245]], [ADULT], [-1]),
    "a face cut by the picture's edge": ([[-6, 20, 34, 70]], [[0, 5, 80, 300]], [0]),
    "a head between the boxes": ([[90, 10, 130, 60]], [[0, 0, 100, 300], [125, 0, 220, 300]], [-1]),
}


def boxes(values: list[list[float]]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


@pytest.mark.parametrize("case", CASES)
def test_faces_go_to_whose_they_are(case):
    faces, people, chosen = CASES[case]
    found = persons.assign(boxes(faces), boxes(people))
    assert found.tolist() == chosen and found.dtype == np.int64


def crowds(most: int = 4) -> st.SearchStrategy[np.ndarray]:
    """Boxes of up to `most` faces or people, close enough to each other to be in doubt."""
    corner, side = st.floats(-20, 100, width=32), st.floats(1, 120, width=32)
    return st.lists(st.tuples(corner, corner, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
                    max_size=most).map(boxes)


def fit(face: list[float], person: list[float]) -> float:
    """The docstring of `persons`, one pair at a time."""
    wide = min(face[2], person[2]) - max(face[0], person[0])
    high = min(face[3], person[3]) - max(face[1], person[1])
    inside = max(0, wide) * max(0, high) / ((face[2] - face[0]) * (face[3] - face[1]))
    away = np.hypot((face[0] + face[2]) / 2 - (person[0] + person[2]) / 2, (face[1] + face[3]) / 2 - person[1])
    away /= np.hypot(person[2] - person[0], person[3] - person[1])
    return inside * (1 - away) if inside >= 0.5 and away <= 0.5 else 0


@given(crowds(), crowds())
def test_no_other_way_to_give_people_one_face_each_fits_better(faces, people):
    values = [[fit(face, person) for person in people.astype(float).tolist()] for face in faces.astype(float).tolist()]
    assert persons.fits(faces, people) == pytest.approx(np.array(values).reshape(len(faces), len(people)))
    best = max(sum(values[face][person] for face, person in enumerate(choice) if person >= 0)
               for choice in itertools.product(range(-1, len(people)), repeat=len(faces))
               if len(set(choice) - {-1}) == sum(person >= 0 for person in choice))
    chosen = persons.assign(faces, people)
    pairs = [(face, person) for face, person in enumerate(chosen.tolist()) if person >= 0]
    assert len({person for _, person in pairs}) == len(pairs)
    assert all(values[face][person] > 0 for face, person in pairs)
    assert sum(values[face][person] for face, person in pairs) == pytest.approx(best)


@given(crowds(), crowds(), st.sampled_from([0.25, 2.0, 8.0]), st.randoms(use_true_random=False))
def test_neither_the_scale_nor_the_order_of_people_matters(faces, people, scale, random):
    order = random.sample(range(len(people)), len(people))
    one, other = persons.fits(faces, people), persons.fits(faces * np.float32(scale), people[order] * np.float32(scale))
    assert other == pytest.approx(one[:, order], abs=1e-9)


def test_a_box_without_area_is_refused():
    with pytest.raises(ValueError, match="x0 < x1"):
        persons.assign(boxes([[1, 1, 1, 5]]), boxes([ADULT]))


@given(st.integers(1, 20), st.integers(1, 20), st.randoms(use_true_random=False))
def test_a_mask_comes_back_from_its_bytes(height, width, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    back = decode_mask(encode_mask(mask))
    assert back.dtype == bool and (back == mask).all() and back.shape == mask.shape


def test_a_mask_takes_a_bit_a_pixel_at_most():
    assert len(encode_mask(np.random.default_rng(0).random((200, 100)) < 0.5)) < 200 * 104 / 8 + 400


@pytest.mark.parametrize(("box", "mask", "said"), [
    ([0.5, 0.5, 9.5, 19.5], np.zeros((19, 10), bool), r"bool \(20, 10\)"),
    ([0, 0, 9, 9], np.zeros((9, 9), np.uint8), "uint8"),
    ([5, 0, 5, 9], None, "x0 < x1")])
def test_a_person_is_described_as_the_record_says(box, mask, said):
    with pytest.raises(ValueError, match=said):
        Person(np.array(box, np.float32), 1.0, mask)


def test_no_person_model_is_a_model():
    assert person_models.load("none", "auto") is None
    assert person_models.weights("none") is None


@pytest.mark.parametrize("name", ["detectron", "", "none:x"])
def test_an_unknown_model_is_wrong_usage(name):
    with pytest.raises(WrongUsage, match="known are none, ultralytics"):
        person_models.load(name, "auto")


def test_a_missing_package_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingModel, match=re.escape(person_models.BACKENDS["ultralytics"].install)):
        person_models.load("ultralytics", "cpu")


@pytest.mark.parametrize(("width", "height"), [(640, 480), (99, 301), (4000, 3000), (7, 1)])
def test_a_mask_is_put_back_where_the_picture_was_fitted(width, height):
    pytest.importorskip("ultralytics", reason="needs ultralytics")
    from ultralytics.data.augment import LetterBox

    rows, columns = np.mgrid[:height, :width]
    drawn = ((((columns + 0.5) / width - 0.5) / 0.3) ** 2 + (((rows + 0.5) / height - 0.5) / 0.4) ** 2) <= 1
    fitted = LetterBox(160, auto=False)(image=np.repeat(drawn[..., None] * np.uint8(255), 3, axis=2))[..., 0] > 150
    area = (width // 5, height // 20, width - width // 5, height)
    back = _unfit(fitted, area, width, height)
    expected = drawn[area[1]:area[3], area[0]:area[2]]
    assert back.shape == expected.shape and back.dtype == bool
    assert (back & expected).sum() > 0.9 * (back | expected).sum()


@pytest.fixture(scope="module")
def torch():
    """torch, where it and ultralytics are."""
    pytest.importorskip("ultralytics", reason="needs ultralytics")
    return pytest.importorskip("torch", reason="needs torch")


@pytest.fixture(scope="module")
def trained(torch, tmp_path_factory) -> Path:
    return yolo_weights.trained(tmp_path_factory.mktemp("weights") / "drawn-seg.pt")


@pytest.fixture(scope="module")
def model(trained):
    return person_models.load(f"ultralytics:{trained}", "auto")


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes or two masks."""
    if one.dtype == bool:
        return (one & other).sum() / (one | other).sum()
    both = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(0).prod()
    return both / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - both)


def whole(person: Person, width: int, height: int) -> np.ndarray:
    """The mask of the whole picture."""
    mask = np.zeros((height, width), bool)
    x0, y0, x1, y1 = person.area
    mask[y0:y1, x0:x1] = person.mask
    return mask


@pytest.mark.parametrize(("width", "height"), [(128, 128), (128, 96)])
def test_drawn_people_are_found_and_outlined(model, width, height):
    random = np.random.default_rng(1)
    drawn = [yolo_weights.drawn_people(random, width, height) for _ in range(20)]
    good, found = 0, model.detect([picture for picture, _ in drawn])
    for (_, masks), people in zip(drawn, found, strict=True):
        assert [tuple(one.box[:2]) for one in people] == sorted(tuple(one.box[:2]) for one in people)
        for mask in masks:
            near = [one for one in people if overlap(one.box.astype(float), yolo_weights.box_of(mask)) > 0.5]
            good += any(overlap(whole(one, width, height), mask) > 0.5 for one in near)
        for one in people:
            assert one.mask.dtype == bool and 0.25 <= one.score <= 1
            assert (one.box[:2] >= 0).all() and (one.box[2:] <= (width, height)).all()
    assert good >= 30  # of 40
    assert sum(len(people) for people in found) <= 44  # the discs are nobody


def test_a_picture_gives_the_same_alone_and_among_others(model):
    random = np.random.default_rng(2)
    sizes = [(128, 128), (200, 120), (128, 128), (120, 260), (640, 480)]
    drawn = [yolo_weights.drawn_people(random, *size)[0] for size in sizes]
    together, alike = model.detect(drawn), model.detect([drawn[0], drawn[2]])
    assert sum(len(people) for people in together) > 3
    for people, others in [*((people, model.detect([picture])[0]) for picture, people in zip(drawn, together, strict=True)),
                           (alike[0], together[0]), (alike[1], together[2])]:
        assert len(people) == len(others)
        for one, other in zip(people, others, strict=True):
            assert np.allclose(one.box, other.box, atol=1e-2) and one.score == pytest.approx(other.score, abs=1e-4)
            assert (one.mask == other.mask).mean() > 0.99


def test_people_and_colors_are_those_that_ultralytics_sees_in_the_file(model, trained, tmp_path):
    from ultralytics import YOLO

    picture = yolo_weights.drawn_people(np.random.default_rng(3))[0]
    PIL.Image.fromarray(picture).save(tmp_path / "drawn.png")
    boxes = YOLO(trained).predict(tmp_path / "drawn.png", device="cpu", verbose=False)[0].boxes
    theirs = sorted((*box, score) for box, score in zip(boxes.xyxy.tolist(), boxes.conf.tolist(), strict=True))

    def ours(seen: np.ndarray) -> list[tuple[float, ...]]:
        return sorted((*one.box.tolist(), one.score) for one in model.detect([seen])[0])

    assert len(theirs) >= 2 and np.allclose(ours(picture), theirs, atol=1e-2)
    swapped = ours(np.ascontiguousarray(picture[..., ::-1]))
    assert len(swapped) != len(theirs) or not np.allclose(swapped, theirs, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (300, 200), (1, 900)])
def test_an_empty_picture_shows_nobody(model, shape):
    assert model.detect([]) == []
    assert model.detect([np.full((*shape, 3), 200, np.uint8)]) == [[]]


def test_provenance_is_the_files(model, trained):
    about = person_models.weights(f"ultralytics:{trained}")
    assert about == model.weights
    assert (about.backend, about.name, about.license) == (
        "ultralytics", "drawn-seg.pt", "AGPL-3.0 (https://ultralytics.com/license)")
    assert about.sha256 == hashlib.sha256(trained.read_bytes()).hexdigest()


def test_weights_tell_their_own_licence(torch, tmp_path):
    path = yolo_weights.save(yolo_weights.network(["person"], segment=False), tmp_path / "mine.pt", license="mine alone")
    assert person_models.weights(f"ultralytics:{path}").license == "mine alone"


@pytest.mark.parametrize(("names", "number"), [(["dog", "Person", "cat"], 1), (["mensch"], 0)])
def test_people_are_one_class_of_several(torch, tmp_path, names, number):
    network = yolo_weights.network(names, segment=False)
    for level in network.model[-1].cv3:
        level[-1].bias.data[:] = torch.eye(len(names))[number] * 9 - 3  # sees it everywhere, and nothing else
    model = person_models.load(f"ultralytics:{yolo_weights.save(network, tmp_path / 'mine.pt')}", "cpu")
    people = model.detect([np.zeros((64, 64, 3), np.uint8)])[0]
    assert people and all(one.mask is None for one in people)
    assert model._predictor.args.classes == [number]


def test_weights_without_people_are_refused(torch, tmp_path):
    path = yolo_weights.save(yolo_weights.network(["dog", "cat"], segment=False), tmp_path / "pets.pt")
    with pytest.raises(Failure, match="none of them is called person"):
        person_models.load(f"ultralytics:{path}", "cpu")


class Evil:
    """Runs code where it is unpickled without care."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("place", ["model", "date"])
def test_weights_that_would_run_code_are_refused(torch, tmp_path, place):
    from ultralytics.utils import SAFE_LOAD

    assert not SAFE_LOAD  # as ultralytics is by default, and was imported before
    made, path = tmp_path / "made", tmp_path / "evil.pt"
    yolo_weights.save(yolo_weights.network(["person"], segment=False), path, **{place: Evil(made)})
    with pytest.raises(Failure, match="could run code"):
        person_models.load(f"ultralytics:{path}", "cpu")
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()


@pytest.mark.parametrize("data", [b"", b"not a model", pickle.dumps({"model": 1}), b"PK\x05\x06" + bytes(18)])
def test_what_is_no_checkpoint_is_refused(torch, tmp_path, data):
    path = tmp_path / "broken.pt"
    path.write_bytes(data)
    with pytest.raises(Failure, match="no checkpoint"):
        person_models.load(f"ultralytics:{path}", "cpu")


@pytest.mark.parametrize("held", [{"model": {"0.weight": 1}}, {"model": None}, {}])
def test_a_checkpoint_without_a_model_is_refused(torch, tmp_path, held):
    path = tmp_path / "other.pt"
    torch.save(held, path)
    with pytest.raises(Failure, match="gives no boxes"):
        person_models.load(f"ultralytics:{path}", "cpu")


def test_an_old_ultralytics_is_not_trusted(torch, trained, monkeypatch):
    monkeypatch.delattr("ultralytics.nn.tasks.SAFE_LOAD")
    with pytest.raises(MissingModel, match="pip install --upgrade"):
        person_models.load(f"ultralytics:{trained}", "cpu")


def test_absent_weights_are_not_fetched_but_told_how_to(torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from ultralytics import settings

    monkeypatch.setitem(settings, "weights_dir", str(tmp_path / "kept"))
    monkeypatch.setattr("socket.socket", None)
    with pytest.raises(MissingModel) as missing:
        person_models.weights("ultralytics")
    for part in (str(tmp_path), str(tmp_path / "kept"), f"get('{WEIGHTS}')"):
        assert part in str(missing.value)
    assert "\n" not in str(missing.value)
    with pytest.raises(MissingModel, match="no such file"):
        person_models.load(f"ultralytics:{tmp_path / WEIGHTS}", "cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["", "kept", "it's here"])
def test_weights_are_found_by_name(torch, trained, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    from ultralytics import settings

    monkeypatch.setitem(settings, "weights_dir", str(tmp_path / folder))
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "yolov5s.pt").write_bytes(trained.read_bytes())
    assert person_models.load("ultralytics:yolov5s.pt", "cpu").weights.name == "yolov5s.pt"


def test_other_formats_are_wrong_usage(torch):
    with pytest.raises(WrongUsage, match="takes a .pt file"):
        person_models.load("ultralytics:yolo11n.onnx", "cpu")


def test_devices_are_auto_cpu_or_cuda(torch, trained):
    with pytest.raises(WrongUsage, match="auto, cpu, cuda or cuda:N"):
        person_models.load(f"ultralytics:{trained}", "mps")
    with pytest.raises(Failure, match="CUDA devices"):
        person_models.load(f"ultralytics:{trained}", "cuda:99")


SCRIPT = """
import socket, sys, threading
tried = []
def refuse(*args, **more):
    tried.append(args[:2])
    raise OSError("no network")
socket.getaddrinfo = lambda host, *args, **more: [(2, 1, 6, "", ("127.0.0.1", 9))] if tried.append(host) else []
socket.socket.connect = socket.create_connection = refuse
if sys.argv[1] == "before":
    import ultralytics.utils.events
    assert ultralytics.utils.events.events.enabled
    tried.clear()
import numpy as np
from transforms import person_models
model = person_models.load("ultralytics:" + sys.argv[2], "cpu")
assert model.detect([np.full((90, 60, 3), 200, np.uint8)]) == [[]]
for thread in threading.enumerate():
    thread is threading.current_thread() or thread.join(10)
assert not tried, tried
"""


@pytest.mark.parametrize("imported", ["before", "by us"])
def test_nothing_is_sent_written_or_printed(trained, tmp_path, imported):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO", "PYTEST", "GITHUB"))}
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, imported, str(trained)], cwd=tmp_path / "work", capture_output=True, text=True,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1]), "YOLO_CONFIG_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "work").iterdir())
    if imported == "by us":
        assert done.stdout + done.stderr == ""


def test_extract_ties_faces_to_people(trained, tmp_path):
    """Drawn people with markers for heads, from pictures to rows of `faces`."""
    pack = insightface_weights.write_pack(tmp_path / "pack")
    photos, random, drawn = tmp_path / "photos", np.random.default_rng(5), {}
    photos.mkdir()
    for n in range(4):
        picture, masks = yolo_weights.drawn_people(random, people=1)
        picture = np.array(picture)
        drawn[f"{n}.png"] = [yolo_weights.box_of(mask) for mask in masks]
        for at, (x0, y0, x1, _) in enumerate(drawn[f"{n}.png"]):
            side = int(x1 - x0) // 2
            insightface_weights.draw(picture, f"{n}-{at}", int(x0) + side // 2, int(y0), side)
        PIL.Image.fromarray(picture).save(photos / f"{n}.png")
    workdir = str(tmp_path / "work")
    assert main(["extract", str(photos), "--workdir", workdir, "--device", "cpu", "--faces", f"insightface:{pack}",
                 "--persons", f"ultralytics:{trained}"]) == 0
    faces = Parts(workdir, "faces")
    uris = {row["image_key"]: row["uri"] for row in Parts(workdir, "images").read_all().to_pylist()}
    rows = faces.read_all().to_pylist()
    tied = [row for row in rows if row["person_box"]]
    assert len(rows) == 4 and len(tied) >= 3
    for row in tied:
        box, person = np.array(row["box"]), Person(np.array(row["person_box"], np.float32), 1.0)
        own = min(drawn[uris[row["image_key"]]], key=lambda one: abs((one[0] + one[2]) / 2 - (box[0] + box[2]) / 2))
        assert overlap(person.box, own) > 0.5
        x0, y0, x1, y1 = person.area
        assert decode_mask(row["person_mask"]).shape == (y1 - y0, x1 - x0)
    about = json.loads(faces.schema(faces.parts()[0]).metadata[b"person_model"])
    assert about == dataclasses.asdict(person_models.weights(f"ultralytics:{trained}"))
