"""Read pictures that someone else made."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image

from backends.device.reading import MEBIBYTE, DamagedFile, first_line, regular_file

PICTURE_BYTES = 256 * MEBIBYTE
PICTURE_PIXELS = 50_000_000  # 4 bytes each in Pillow, twice where the mode changes
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none that starts another program
FAULTS = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error, zlib.error, OverflowError, MemoryError,
    IndexError, KeyError, AttributeError, RuntimeError, AssertionError, Image.DecompressionBombError,
)  # fmt: skip

# Of a damaged picture Pillow warns, then reads it or not: a refusal stays one line.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_picture(path: Path, mode: str, most: int = PICTURE_PIXELS) -> Image.Image:
    """Read a picture of at most `most` pixels in one of Pillow's modes; anything else is a `DamagedFile`."""
    regular_file(path, PICTURE_BYTES)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                size = f"{picture.width}x{picture.height}"
                raise DamagedFile(f"{path}: expected a picture of at most {most:,} pixels, got {size}")
            return picture.convert(mode)
    except FAULTS as error:
        raise DamagedFile(f"{path}: cannot be read as a picture ({first_line(error)})") from error
