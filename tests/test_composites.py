"""Cut-outs and composites on drawn people, whose outline, face and surroundings are known."""
from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

pytest.importorskip("cv2", reason="needs opencv-python")

from transforms import composites, cutouts
from transforms.composites import Arrangement, NoPlace, Silhouette, arrange, compose, seams

SKIN, CLOTH, WALL = (205, 160, 130), (40, 60, 110), (90, 150, 90)
SIDE = 120


def drawn(width: int = 620, height: int = 560, x: int = 310, top: int = 130, wall: tuple[int, int, int] = WALL
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A person before a plain wall: the photo (uint8 [H, W, 3]), the outline (bool [H, W]), the face's box and its keypoints.

    The face is `SIDE` pixels high; above the box is hair, below a body down to the photo's end."""
    photo, mask = PIL.Image.new("RGB", (width, height), wall), PIL.Image.new("1", (width, height))
    box = np.array([x - SIDE / 2, top, x + SIDE / 2, top + SIDE], np.float64)
    shoulder = top + 1.55 * SIDE
    for canvas, hair, skin, cloth in ((PIL.ImageDraw.Draw(photo), (60, 40, 30), SKIN, CLOTH),
                                      (PIL.ImageDraw.Draw(mask), 1, 1, 1)):
        canvas.ellipse((box[0], top - 0.45 * SIDE, box[2], top + 0.9 * SIDE), fill=hair)
        canvas.rectangle((x - 0.22 * SIDE, top + 0.8 * SIDE, x + 0.22 * SIDE, shoulder), fill=skin)
        canvas.ellipse((box[0] + 6, top, box[2] - 6, top + 1.05 * SIDE), fill=skin)
        canvas.rounded_rectangle((x - SIDE, shoulder - 0.35 * SIDE, x + SIDE, height + SIDE), 0.4 * SIDE, fill=cloth)
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 1))
    pixels = (np.asarray(photo) + noise).clip(0, 255).astype(np.uint8)
    eye, mouth = top + 0.35 * SIDE, top + 0.75 * SIDE
    keypoints = np.array([x - 24, eye, x + 24, eye, x, top + 0.55 * SIDE, x - 18, mouth, x + 18, mouth], np.float64)
    return pixels, np.asarray(mask), box, keypoints


def cut(**how: object) -> cutouts.Cutout:
    photo, _, box, keypoints = drawn(**how)
    return cutouts.cut_out(photo, box, keypoints, [])


def test_the_outline_is_found_from_face_and_colours():
    photo, mask, box, keypoints = drawn()
    cutout = cutouts.cut_out(photo, box, keypoints, [])
    x0, y0 = np.round(box[:2] - cutout.face[:2]).astype(int)
    height, width = cutout.cover.shape
    truth = mask[y0:y0 + height, x0:x0 + width]
    found = cutout.cover > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    assert cutout.side == pytest.approx(SIDE, abs=1) and cutout.has_crown() and not cutout.plain


def test_a_known_outline_is_taken_before_a_drawn_one():
    photo, mask, box, keypoints = drawn()
    half = mask.copy()
    half[:, 320:] = False
    cutout = cutouts.cut_out(photo, box, keypoints, [], half)
    beyond = int(320 - box[0] + cutout.face[0]) + 8
    assert cutout.cover[:, beyond:].max() < 0.05 and cutout.cover.max() > 0.95


def test_edges_keep_nothing_of_what_was_behind():
    cutout = cut(wall=(0, 255, 0))
    edge = (cutout.cover > 0.02) & (cutout.cover < 0.98)
    greener = cutout.pixels[edge].astype(int)
    assert edge.sum() > 500 and np.mean(greener[:, 1] > greener[:, [0, 2]].max(axis=1) + 40) < 0.05


def test_a_head_that_the_photo_ends_in_has_no_crown():
    assert not cut(top=20).has_crown()


def test_black_and_white_is_seen():
    photo, _, box, keypoints = drawn()
    gray = np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert cutouts.cut_out(gray, box, keypoints, []).plain


def test_a_face_is_larger_in_no_cutout_than_the_most():
    photo, _, box, keypoints = drawn()
    large = np.asarray(PIL.Image.fromarray(photo).resize((1860, 1680)))
    assert cutouts.cut_out(large, box * 3, keypoints * 3, []).side == pytest.approx(cutouts.MOST_SIDE, abs=1)


def in_frame(centres: list[tuple[float, float]], order: tuple[int, ...], bottom: float = 1.5) -> Arrangement:
    where = np.array(centres)
    return Arrangement((where[:, 0].min() - 1.5, -1.5, where[:, 0].max() + 1.5, bottom), where, order)


def test_who_stands_before_a_face_is_no_arrangement():
    people = [Silhouette.of(cut())] * 2
    assert seams(in_frame([(0, 0), (0.4, 0)], (0, 1)), people) is None
    assert seams(in_frame([(0, 0), (2.0, 0)], (0, 1)), people) is not None


def test_where_a_photo_ends_in_somebody_is_a_seam_unless_it_is_hidden():
    whole, ends_right = Silhouette.of(cut(height=900)), Silhouette.of(cut(width=390, height=900))
    beside = [(0.0, 0.0), (2.2, 0.0)]
    assert seams(in_frame(beside, (0, 1)), [whole, whole]).sum() == 0
    shown = seams(in_frame(beside, (1, 0)), [ends_right, whole])
    assert shown[0] > 0.5 and shown[1] == 0  # open to the left one's right, where nobody is
    hidden = seams(in_frame([(0.0, 0.0), (1.55, 0.0)], (0, 1)), [ends_right, whole])
    assert hidden[0] < shown[0] / 2  # the other stands before it


def test_everybody_has_a_place_and_nobody_a_seam():
    people = [Silhouette.of(cut(height=900))] * 5
    kept, arrangement = arrange(people, np.random.default_rng(3))
    assert kept == [0, 1, 2, 3, 4] and sorted(arrangement.order) == kept
    assert seams(arrangement, people).sum() <= composites.SEAMS


def test_who_cannot_be_shown_whole_is_left_out_or_nobody_is():
    whole, cut_off = Silhouette.of(cut(height=900)), Silhouette.of(cut(top=30, height=900))  # a photo that ends in the hair
    assert arrange([whole, cut_off, whole, cut_off], np.random.default_rng(0))[0] == [0, 2]
    for nobody_else in ([whole], [whole, cut_off], []):
        with pytest.raises(NoPlace):
            arrange(nobody_else, np.random.default_rng(0))


@pytest.mark.parametrize("photo", [None, np.full((500, 700, 3), (200, 120, 40), np.uint8)])
def test_a_composite_shows_each_face_where_it_says(photo):
    people = [cut(height=900), cut(height=900, wall=(200, 200, 210))]
    arrangement = in_frame([(0, 0), (2.0, 0.1)], (1, 0))
    picture, boxes = compose(people, arrangement, photo, np.random.default_rng(1))
    pixels = np.asarray(picture).astype(int)
    for x0, y0, x1, y1 in boxes:
        assert x1 - x0 == pytest.approx(SIDE, rel=2 * composites.JITTER)
        middle = pixels[int(y0 + 0.4 * (y1 - y0)):int(y1 - 0.3 * (y1 - y0)), int(x0 + 30):int(x1 - 30)].mean(axis=(0, 1))
        assert np.abs(middle - SKIN).max() < 45 and middle[0] > middle[1] > middle[2]  # skin, in another light
    again, _ = compose(people, arrangement, photo, np.random.default_rng(1))
    assert again.tobytes() == picture.tobytes()


@pytest.mark.parametrize("seed", range(6))
def test_no_body_ends_above_the_edge_that_it_was_to_reach(seed):
    people = [cut(height=int(130 + 2.75 * SIDE)), cut(height=900)]  # the first one's photo ends where the frame does
    bottom = (people[0].cover.shape[0] - people[0].face[[1, 3]].mean()) / people[0].side
    beside = Arrangement((-1.5, -1.5, 3.7, bottom), np.array([(0.0, 0.0), (2.2, 0.0)]), (0, 1))
    picture, boxes = compose(people, beside, np.full((500, 700, 3), (250, 250, 250), np.uint8), np.random.default_rng(seed))
    x = int(boxes[0, [0, 2]].mean())
    below = np.asarray(picture)[-6:, x - 20:x + 20].astype(int).mean(axis=(0, 1))
    assert below[2] > below[0] + 20  # cloth, which is blue, and not the white of what is behind


def test_one_in_black_and_white_makes_the_scene_so():
    photo, _, box, keypoints = drawn(height=900)
    gray = cutouts.cut_out(np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2), box, keypoints, [])
    picture, _ = compose([cut(height=900), gray], in_frame([(0, 0), (2, 0)], (0, 1)), None, np.random.default_rng(0))
    assert np.ptp(np.asarray(picture).astype(int), axis=2).max() <= 1


def test_light_moves_by_a_bounded_step_from_the_photos_to_the_scenes():
    cutout = cut()
    bright = composites.matched(cutout, cutout.mean + (60, 0, 0), cutout.deviation)
    lab = cutouts.to_lab(bright) - cutouts.to_lab(cutout.pixels)
    inside = cutout.cover > 0.9
    assert 0 < lab[inside][:, 0].mean() <= composites.MATCH * composites.MOST_SHIFT + 0.5
    same = composites.matched(cutout, cutout.mean, cutout.deviation)
    assert np.abs(same - cutout.pixels).max() < 1.5
