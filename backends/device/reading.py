"""Read files that someone else wrote: JSON, arrays, archives of arrays, pictures.

Every reader takes what is expected, checks size, dtype and shape before it allocates anything, and raises `DamagedFile`
for whatever else the file holds. Nothing here unpickles.
"""

from __future__ import annotations

import json
import math
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from backends.device.errors import UserError

MEBIBYTE = 1 << 20
JSON_BYTES = 64 * MEBIBYTE
ARRAY_BYTES = 4096 * MEBIBYTE
PICTURE_PIXELS = 100_000_000
NAME_CHARACTERS = 200
HEADER_FAULTS = (ValueError, EOFError, TypeError, SyntaxError, TokenError, struct.error, RecursionError, MemoryError)
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, KeyError, OSError, *HEADER_FAULTS)

# What an array's axis may be: this length, one of these, or any but zero.
Axis = int | tuple[int, ...] | None


class DamagedFile(UserError):
    """A file that does not hold what its reader expects."""


class Expected(NamedTuple):
    """What an array has to be: one of some dtypes, and a length for each axis; without `shape`, any shape."""

    dtypes: tuple[DTypeLike, ...]
    shape: Sequence[Axis] | None = None
    required: bool = True


def regular_file(path: Path, most: int) -> int:
    """Return the size of a regular file in bytes; a larger one, and anything but a file, is a `DamagedFile`."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise DamagedFile(f"{path}: expected a file, found something else")
    if status.st_size > most:
        raise DamagedFile(f"{path}: expected at most {most:,} bytes, got {status.st_size:,}")
    return status.st_size


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON as its standard has it, without NaN and infinite numbers; anything else is a `DamagedFile`."""
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise DamagedFile(f"{where}: not JSON ({reason})") from error


def read_json(path: Path, most: int = JSON_BYTES) -> dict[str, Any]:
    """Read a file that holds one JSON object, of at most `most` bytes."""
    regular_file(path, most)
    try:
        content = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def map_npy(path: Path, expected: Expected, most: int = ARRAY_BYTES) -> NDArray[Any]:
    """Memory-map an ``.npy`` file, read-only."""
    size = regular_file(path, most)
    try:
        with path.open("rb") as stream:
            shape, dtype = _header(stream)
            start = stream.tell()
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror})") from error
    except HEADER_FAULTS as error:
        raise DamagedFile(f"{path}: not an .npy file of numbers in C order ({_reason(error)})") from error
    _check(str(path), expected, dtype, shape)
    if size - start != _bytes(dtype, shape):
        raise DamagedFile(f"{path}: expected {_bytes(dtype, shape):,} bytes of {dtype} {shape}, got {size - start:,}")
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape)


def read_npz(path: Path, expected: Mapping[str, Expected], most: int = ARRAY_BYTES) -> dict[str, NDArray[Any]]:
    """Read the expected arrays of an ``.npz`` file, of at most `most` bytes together; others in it are not read."""
    regular_file(path, most)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            for name, wanted in expected.items():
                if f"{name}.npy" in present:
                    arrays[name] = _member(path, archive, name, wanted, most - sum(a.nbytes for a in arrays.values()))
                elif wanted.required:
                    raise DamagedFile(f"{path}: expected an array {name!r}, found none")
    except ZIP_FAULTS as error:
        raise DamagedFile(f"{path}: not an .npz file of numbers ({_reason(error)})") from error
    return arrays


def _member(path: Path, archive: zipfile.ZipFile, name: str, expected: Expected, most: int) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        shape, dtype = _header(stream)
        _check(f"{path}: {name}", expected, dtype, shape)
        wanted = _bytes(dtype, shape)
        if wanted > most:
            raise DamagedFile(f"{path}: {name}: {dtype} {shape} has {wanted:,} bytes, expected at most {most:,}")
        data = stream.read(wanted)
        if len(data) != wanted or stream.read(1):  # the last read also checks the archive's CRC
            raise DamagedFile(f"{path}: {name}: expected {wanted:,} bytes of {dtype} {shape}")
    return np.frombuffer(bytearray(data), dtype).reshape(shape)


def read_picture(
    path: Path, mode: str, most: int = PICTURE_PIXELS, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """Read a picture of at most `most` pixels in one of Pillow's modes, as ``RGB``."""
    regular_file(path, ARRAY_BYTES)
    try:
        with Image.open(path, formats=formats) as picture:
            if picture.width * picture.height > most:
                size = f"{picture.width}x{picture.height}"
                raise DamagedFile(f"{path}: expected at most {most:,} pixels, got {size}")
            return picture.convert(mode)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error, zlib.error, OverflowError,
            MemoryError, IndexError, KeyError, AttributeError, Image.DecompressionBombError) as error:  # fmt: skip
        raise DamagedFile(f"{path}: cannot be read as a picture ({_reason(error)})") from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version}")
    shape, in_fortran_order, dtype = readers[version](stream)
    if dtype.hasobject or dtype.fields or dtype.subdtype or (in_fortran_order and len(shape) > 1):
        raise ValueError(f"{dtype} {'in Fortran order' if in_fortran_order else ''}")
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype


def _check(where: str, expected: Expected, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    dtypes = [np.dtype(d) for d in expected.dtypes]
    fits = expected.shape is None or (
        len(shape) == len(expected.shape)
        and all(_fits(length, axis) for length, axis in zip(shape, expected.shape, strict=True))
    )
    if not fits or not any(dtype == d or (d == np.dtype(str) and dtype.kind == "U") for d in dtypes):
        axes = "any shape" if expected.shape is None else f"({', '.join(map(_axis, expected.shape))})"
        raise DamagedFile(f"{where}: expected {' or '.join(map(str, dtypes))} {axes}, got {dtype} {shape}")


def _fits(length: int, axis: Axis) -> bool:
    if axis is None:
        return length > 0
    return length in axis if isinstance(axis, tuple) else length == axis


def _axis(axis: Axis) -> str:
    if axis is None:
        return "any"
    return " or ".join(map(str, axis)) if isinstance(axis, tuple) else str(axis)


def _bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
