"""Read pictures that someone else made."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from backends.device.reading import MEBIBYTE, DamagedFile, first_line, regular_file

PICTURE_BYTES = 256 * MEBIBYTE
PICTURE_PIXELS = 50_000_000  # 4 bytes each in Pillow, twice where the mode changes
BITS, PHOTOMETRIC, BLACK_IS_ZERO = 258, 262, 1  # tags of a TIFF file, and a value
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none that starts another program
FAULTS = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error, zlib.error, OverflowError, MemoryError,
    IndexError, KeyError, AttributeError, RuntimeError, AssertionError, Image.DecompressionBombError,
)  # fmt: skip

# Of a damaged picture Pillow warns, then reads it or not: a refusal stays one line.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_picture(path: Path, mode: str, most: int = PICTURE_PIXELS) -> Image.Image:
    """Read a picture of at most `most` pixels in one of Pillow's modes of 8 bits; anything else is a `DamagedFile`.

    Grey of 16 bits, and of floats from 0 to 1, is scaled to 8 bits; Pillow alone would clip it.
    """
    regular_file(path, PICTURE_BYTES)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                size = f"{picture.width}x{picture.height}"
                raise DamagedFile(f"{path}: expected a picture of at most {most:,} pixels, got {size}")
            return _in_8_bits(path, picture).convert(mode)
    except FAULTS as error:
        raise DamagedFile(f"{path}: cannot be read as a picture ({first_line(error)})") from error


def _in_8_bits(path: Path, picture: Image.Image) -> Image.Image:
    """Return a picture with at most 8 bits a channel; where its depth does not tell what is white: `DamagedFile`."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    white = _white(picture)
    if white is None:
        raise DamagedFile(f"{path}: expected grey of 8 or 16 bits, or floats from 0 to 1; save it with 8 bits")
    values = np.asarray(picture)
    low = values.min()
    high = values.max()
    if not 0 <= low <= high <= white:
        raise DamagedFile(f"{path}: expected grey from 0 to {white}, got {low:g} to {high:g}; save it with 8 bits")
    return Image.fromarray(np.rint(values * np.float32(255 / white)).astype(np.uint8))


def _white(picture: Image.Image) -> int | None:
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        tags = picture.tag_v2
        if tags.get(PHOTOMETRIC) != BLACK_IS_ZERO or tags.get(BITS) not in ((16,), (32,)):
            return None
    if picture.mode == "F":
        return 1
    return 65535 if picture.mode.startswith("I;16") or picture.format in ("PNG", "PPM") else None
