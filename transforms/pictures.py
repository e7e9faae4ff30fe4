"""Pictures: from any file's bytes to an upright picture in sRGB, and from that to the JPEG that is written."""
from __future__ import annotations

import io
import logging
import struct
import tempfile
import warnings
import zlib
from dataclasses import dataclass, field

import numpy as np
import pi_heif
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
from scipy.fft import dctn

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Formats that are opened. PostScript and its like run programs, and are not among them."""
EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
                        ".ppm", ".pgm", ".jp2", ".avif", ".heic", ".heif", ".hif"))
"""Names taken for pictures in a folder, lower case; a name without any extension is taken too. Content decides."""
UNREAD_EXTENSIONS = frozenset((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".3gp", ".wmv",
                               ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".jxl", ".psd", ".svg"))
"""Names of videos, raw photos and pictures of other formats: a user who has some in a folder is told that they are not read."""
ORIENTATION = 0x0112
"""EXIF tag of the orientation, 1 to 8."""

pi_heif.register_heif_opener()
PIL.Image.init()  # registers every format; open(formats=…) knows no others
PIL.Image.MAX_IMAGE_PIXELS = None  # `Limits.max_pixels` is checked instead, from the header too
warnings.filterwarnings("ignore", module="PIL")  # of damaged files, which have a reason here
logging.getLogger("PIL").setLevel(logging.CRITICAL)

DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, ArithmeticError, LookupError, TypeError,
          AttributeError, AssertionError, RuntimeError)
"""What Pillow raises for damaged files."""


@dataclass(frozen=True)
class Limits:
    """What a picture must keep to."""

    max_pixels: int = field(default=89_478_485, metadata={
        "least": 1,
        "help": "pictures with more pixels are rejected before decoding; default: %(default)s, where Pillow's own limit "
                "lies, a quarter GiB"})
    min_side: int = field(default=64, metadata={
        "least": 1,
        "help": "pictures whose shorter side has fewer pixels are rejected; default: %(default)s, about two small faces"})


UNLIMITED = Limits(max_pixels=2 ** 40, min_side=1)
"""For pictures that were checked before: those of `images`, and our own."""


class BadPicture(Exception):
    """A picture that is not used; `reason` is of the closed list in `schemas.reject`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def decode(data: bytes, limits: Limits) -> PIL.Image.Image:
    """Mode RGB, in sRGB, upright: the first frame of a file, whatever its name says.

    Raises BadPicture. The size is checked from the header, before anything is decoded."""
    if not data:
        raise BadPicture("empty_file", "0 bytes")
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    except DAMAGE as error:
        raise BadPicture("not_a_picture", f"{data[:12]!r}…, {type(error).__name__}") from None
    width, height = picture.size
    if width * height > limits.max_pixels:
        raise BadPicture("too_many_pixels", f"{width} x {height}")
    if min(width, height) < limits.min_side:
        raise BadPicture("too_small", f"{width} x {height}")
    try:
        picture.load()
        upright = _upright(_to_srgb(picture), _orientation(picture))
    except MemoryError:
        raise BadPicture("unreadable", f"no memory for {width} x {height}") from None
    except DAMAGE as error:
        raise BadPicture("broken_picture", f"{type(error).__name__}: {error}"[:200]) from None
    upright.info.clear()  # Pillow would write a comment on
    return upright


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        return 1  # a broken EXIF block says nothing; the picture may be whole


def _upright(picture: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    turn = PIL.Image.Transpose
    turns = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
             6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90}
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def _to_srgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I"):  # 16 bits of gray: convert() would clip them
        return PIL.Image.fromarray((np.asarray(picture, np.float64) / 257).round().clip(0, 255).astype(np.uint8)
                                   ).convert("RGB")
    if picture.mode == "F":
        values = np.asarray(picture, np.float64)
        scale = 255 if values.max(initial=0) <= 1 else 1
        return PIL.Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = PIL.ImageCms.profileToProfile(picture, source, PIL.ImageCms.createProfile("sRGB"),
                                                      outputMode="RGB")
            if converted is not None:
                return converted
        except (PIL.ImageCms.PyCMSError, *DAMAGE):
            pass  # a broken profile, or one for other channels: the pixels are taken as they stand
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def resize(picture: PIL.Image.Image, longest: int, max_scale: float = 1.0) -> PIL.Image.Image:
    """The picture with its longer side `longest` pixels, or less where that enlarges more than `max_scale`."""
    width, height = picture.size
    scale = min(longest / max(width, height), max_scale)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return picture if size == picture.size else picture.resize(size, PIL.Image.Resampling.LANCZOS)


def cut(picture: PIL.Image.Image | np.ndarray, box: np.ndarray) -> PIL.Image.Image:
    """The part of a picture, or of its pixels (uint8 [H, W, 3]), inside a box of whole pixels x0 y0 x1 y1."""
    x0, y0, x1, y1 = (int(value) for value in box)
    if isinstance(picture, np.ndarray):
        return PIL.Image.fromarray(picture[y0:y1, x0:x1])
    return picture.crop((x0, y0, x1, y1))


def encode(picture: PIL.Image.Image) -> bytes:
    """JPEG, quality 95, 4:4:4, no metadata of any kind, for `decode` leaves none (contract, section 3).

    Through a file: Pillow's encoder gives the interpreter's lock free only where it writes to one (measured: two threads
    encode 1.9 times as fast as one, and 0.95 times where it writes to memory)."""
    with tempfile.TemporaryFile() as file:
        picture.save(file, "JPEG", quality=95, subsampling=0)
        file.seek(0)
        return file.read()


def perceptual_hash(picture: PIL.Image.Image) -> int:
    """64 bits that stay when a picture is resized or re-encoded.

    Signs of the 8 x 8 lowest DCT coefficients of a 32 x 32 gray copy about their median (pHash: Zauner 2010)."""
    gray = picture.convert("L").resize((32, 32), PIL.Image.Resampling.LANCZOS)
    low = dctn(np.asarray(gray, np.float64), norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
