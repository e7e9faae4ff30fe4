"""Decoding: every mode Pillow reads, upright, sRGB; limits before decoding; damage as a reason."""
from __future__ import annotations

import io
import json
import resource
import struct
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageChops
import PIL.ImageCms
import PIL.PngImagePlugin
import pillow_heif
import pytest

from tests.builders import drawn_photo
from transforms import pictures
from transforms.pictures import BadPicture, Limits, decode

BAD = Path(__file__).parents[2] / "shared" / "faces" / "bad"
ANYTHING = Limits(min_side=1)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter of `pictures`


def saved(picture: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    if kind == "HEIF":  # the package that we read it with does not write it
        pillow_heif.from_pillow(picture).save(buffer, **options)
    else:
        picture.save(buffer, kind, **options)
    return buffer.getvalue()


def mean_difference(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    """Mean absolute difference over pixels and channels, of 255."""
    return float(np.asarray(PIL.ImageChops.difference(one, other)).mean())


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_every_listed_format_is_read(kind):
    picture = drawn_photo(kind)
    options = {"JPEG": {"quality": 98}, "JPEG2000": {"irreversible": False}, "WEBP": {"lossless": True}}.get(kind, {})
    seen = decode(saved(picture, kind, **options), ANYTHING)
    assert seen.size == picture.size and seen.mode == "RGB"
    tolerance = 45 if kind == "GIF" else 12
    assert mean_difference(seen, picture) < tolerance


@pytest.mark.parametrize("kind", ["PNG", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(orientation, kind):
    upright = drawn_photo("upright")
    turn = PIL.Image.Transpose
    undo = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_90,
            7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = PIL.Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    seen = decode(saved(stored, kind, exif=exif.tobytes()), ANYTHING)
    assert seen.size == upright.size and mean_difference(seen, upright) <= (0 if kind == "PNG" else 3)


def test_sixteen_bits_of_gray_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    seen = np.asarray(decode(saved(PIL.Image.fromarray(ramp)), ANYTHING))
    assert np.abs(seen[..., 0].astype(float) - ramp / 257).max() <= 0.5


def test_transparency_lies_on_white():
    layer = np.zeros((64, 64, 4), np.uint8)
    layer[:32, :, 3] = 255
    seen = np.asarray(decode(saved(PIL.Image.fromarray(layer)), ANYTHING))
    assert (seen[:32] == 0).all() and (seen[32:] == 255).all()


def test_a_profile_is_converted_to_srgb():
    lab = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("LAB"))
    srgb = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB"))
    picture = drawn_photo("profile")
    same = decode(saved(picture, icc_profile=srgb.tobytes()), ANYTHING)
    assert max(high for _, high in PIL.ImageChops.difference(same, picture).getextrema()) <= 2
    other = decode(saved(picture, icc_profile=lab.tobytes()), ANYTHING)  # for other channels
    assert np.array_equal(other, picture)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [drawn_photo("frame", n) for n in range(3)]
    seen = decode(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True), ANYTHING)
    assert np.array_equal(seen, np.asarray(frames[0]))


@pytest.mark.parametrize(("data", "limits", "reason"), [
    (b"", ANYTHING, "empty_file"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ANYTHING, "not_a_picture"),
    (saved(PIL.Image.new("1", (2000, 2000))), Limits(max_pixels=3_999_999), "too_many_pixels"),
    (saved(PIL.Image.new("1", (20000, 20000))), Limits(), "too_many_pixels"),
    (saved(PIL.Image.new("RGB", (500, 63))), Limits(), "too_small"),
    (saved(drawn_photo(1), "JPEG")[:2000], ANYTHING, "broken_picture"),
])
def test_what_is_not_used_has_a_reason(data, limits, reason):
    with pytest.raises(BadPicture) as bad:
        decode(data, limits)
    assert bad.value.reason == reason


@pytest.mark.skipif(not BAD.exists(), reason="needs ../shared/faces/bad")
def test_all_bad_files_come_out_as_expected():
    expected = json.loads((BAD / "expected.json").read_text())
    files = {name: wanted for name, wanted in expected.items() if (BAD / "files" / name).is_file()}
    assert len(files) >= 40
    for name, wanted in files.items():
        try:
            decode((BAD / "files" / name).read_bytes(), Limits())
            seen = "ok"
        except BadPicture:
            seen = "reject"
        assert seen == wanted, name


def test_the_limit_of_pixels_may_be_raised_above_pillows_own():
    data = saved(PIL.Image.new("1", (14000, 14000)))
    with pytest.raises(BadPicture, match="14000 x 14000"):
        decode(data, Limits())
    with pytest.raises(BadPicture) as bad:
        decode(data[:-500], Limits(max_pixels=200_000_000))
    assert bad.value.reason == "broken_picture"


def test_the_help_of_the_limit_shows_its_number():
    (limit,) = (field for field in fields(Limits) if field.name == "max_pixels")
    assert "89478485" in limit.metadata["help"] % {"default": limit.default}


def test_a_bomb_costs_no_memory():
    def block(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    data = (b"\x89PNG\r\n\x1a\n" + block(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
            + block(b"IDAT", zlib.compress(bytes(1000))) + block(b"IEND", b""))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadPicture) as bad:
        decode(data, Limits())
    assert bad.value.reason == "too_many_pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_text_bomb_is_caught():
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("bomb", "x" * 100_000_000, zip=True)
    with pytest.raises(BadPicture):
        decode(saved(drawn_photo(1), pnginfo=info), ANYTHING)


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_damage_of_any_kind_is_a_reason(kind):
    data = saved(drawn_photo(kind, width=80, height=64), kind)
    random = np.random.default_rng(7)
    for _ in range(150):
        damaged = bytearray(data)
        for at in random.integers(0, min(len(data), 400), 4):
            damaged[at] = random.integers(256)
        try:
            decode(bytes(damaged), Limits(max_pixels=1_000_000, min_side=1))
        except BadPicture as bad:
            assert bad.reason in ("not_a_picture", "broken_picture", "too_many_pixels", "too_small", "unreadable")


@pytest.mark.parametrize("kind", ["JPEG", "HEIF"])
def test_written_pictures_carry_nothing_but_pixels(kind):
    original = drawn_photo("written")
    exif = PIL.Image.Exif()
    exif[0x010F] = "a camera"
    srgb = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB"))
    said = {"quality": 95, "exif": exif.tobytes(), "xmp": b"<x/>", "icc_profile": srgb.tobytes()}
    extra = {"comment": b"at home", "dpi": (300, 300)} if kind == "JPEG" else {}
    read = decode(saved(original, kind, **said, **extra), ANYTHING)
    data = pictures.encode(read)
    assert data == pictures.encode(PIL.Image.fromarray(np.asarray(read)))
    picture = PIL.Image.open(io.BytesIO(data))
    assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"} and not picture.getexif()
    assert [component[1:3] for component in picture.layer] == [(1, 1)] * 3  # 4:4:4
    assert mean_difference(picture, original) < 2


@pytest.mark.parametrize(("longest", "scale", "size"), [
    (160, 1.0, (160, 100)), (640, 1.0, (320, 200)), (640, 1.5, (480, 300)), (400, 1.5, (400, 250))])
def test_resize_keeps_the_aspect_and_the_bound(longest, scale, size):
    assert pictures.resize(drawn_photo("resize"), longest, scale).size == size


def test_the_perceptual_hash_stays_where_the_picture_does():
    def bits(one: PIL.Image.Image, other: PIL.Image.Image) -> int:
        return (pictures.perceptual_hash(one) ^ pictures.perceptual_hash(other)).bit_count()

    picture = drawn_photo("hash")
    again = decode(pictures.encode(pictures.resize(picture, 200)), ANYTHING)
    assert bits(picture, again) <= 4
    assert bits(picture, drawn_photo("another")) > 10
