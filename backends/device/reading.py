"""Read files that someone else wrote: JSON, arrays, archives of arrays.

Every reader takes what is expected, checks size, dtype and shape before it allocates anything, and raises `DamagedFile`
for whatever else the file holds. Nothing here unpickles.
"""

from __future__ import annotations

import io
import json
import math
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from tokenize import TokenError
from typing import IO, Any, NamedTuple, Union

import numpy as np
from numpy.typing import DTypeLike, NDArray

from backends.device.errors import UserError

MEBIBYTE = 1 << 20
JSON_BYTES = 64 * MEBIBYTE
ARRAY_BYTES = 4096 * MEBIBYTE
ONE_HEADER = Lock()  # numpy parses one as Python code, where threads of CPython 3.11 disturb each other: gh-106905
HEADER_FAULTS = (ValueError, EOFError, TypeError, SyntaxError, TokenError, struct.error, RecursionError, MemoryError)
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, KeyError, OSError, *HEADER_FAULTS)

INTEGERS = tuple(np.dtype(code) for code in "bBhHiIlL")
NUMBERS = (*INTEGERS, *(np.dtype(code) for code in "efd"))

# What an array's axis may be: this length, one of these, or any but zero.
Axis = Union[int, tuple[int, ...], None]


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
            shape, dtype, in_fortran_order = _header(stream)
            start = stream.tell()
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror})") from error
    except HEADER_FAULTS as error:
        raise DamagedFile(f"{path}: not an .npy file of numbers ({first_line(error)})") from error
    _check(str(path), expected, dtype, shape)
    if in_fortran_order and len(shape) > 1:
        raise DamagedFile(f"{path}: expected an array in C order, got Fortran's")
    if size - start != _bytes(dtype, shape):
        raise DamagedFile(f"{path}: expected {_bytes(dtype, shape):,} bytes of {dtype} {shape}, got {size - start:,}")
    if 0 in shape:  # nothing to map
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape)


def read_npz(path: Path, expected: Mapping[str, Expected], most: int = ARRAY_BYTES) -> dict[str, NDArray[Any]]:
    """Read the expected arrays of an ``.npz`` file, of at most `most` bytes together; others in it are not read."""
    regular_file(path, most + MEBIBYTE)
    arrays: dict[str, NDArray[Any]] = {}
    left = most
    try:
        with open_zip(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            for entry in archive.infolist():  # opening one checks its name: a damaged one would be an array left out
                archive.open(entry).close()
            for name, wanted in expected.items():
                if member := members.get(f"{name}.npy"):
                    with archive.open(member) as content:
                        arrays[name] = _member(f"{path}: {name}", member, content, wanted, left)
                    left -= arrays[name].nbytes
                elif wanted.required:
                    raise DamagedFile(f"{path}: expected an array {name!r}, found none")
    except ZIP_FAULTS as error:
        raise DamagedFile(f"{path}: not an .npz file of numbers ({first_line(error)})") from error
    return arrays


def read_whole_npz(path: Path, most: int = ARRAY_BYTES) -> dict[str, NDArray[Any]]:
    """Read every array of an ``.npz`` file of numbers, of at most `most` bytes together."""
    regular_file(path, most + MEBIBYTE)
    arrays: dict[str, NDArray[Any]] = {}
    left = most
    try:
        with open_zip(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as content:
                    arrays[name] = _member(f"{path}: {name}", member, content, Expected(NUMBERS), left)
                left -= arrays[name].nbytes
    except ZIP_FAULTS as error:
        raise DamagedFile(f"{path}: not an .npz file of numbers ({first_line(error)})") from error
    return arrays


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose list of contents has at most a mebibyte; `ZIP_FAULTS` are what else it may raise."""
    with _InPieces(path) as stream, zipfile.ZipFile(stream) as archive:
        yield archive


class _InPieces(io.FileIO):
    """A file that is never read at once: an archive may claim that its list of contents is as long as all of it."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MEBIBYTE:
            raise ValueError(f"a list of contents of {size:,} bytes")
        return super().read(MEBIBYTE if size is None or size < 0 else size)


def _member(where: str, member: zipfile.ZipInfo, stream: IO[bytes], expected: Expected, most: int) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
        raise ValueError(f"compressed by method {member.compress_type}")
    shape, dtype, in_fortran_order = _header(stream)
    _check(where, expected, dtype, shape)
    wanted = _bytes(dtype, shape)
    if wanted > most:
        raise DamagedFile(f"{where}: {dtype} {shape} has {wanted:,} bytes, expected at most {most:,}")
    if not stream.tell() + wanted == member.file_size:
        raise DamagedFile(f"{where}: expected {wanted:,} bytes of {dtype} {shape}, got {member.file_size:,} in all")
    data = bytearray(wanted)
    done = 0
    while piece := stream.read(MEBIBYTE):  # the last one checks the archive's CRC
        data[done : done + len(piece)] = piece
        done += len(piece)
    if done != wanted:
        raise DamagedFile(f"{where}: expected {wanted:,} bytes of {dtype} {shape}, got {done:,}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if in_fortran_order else "C")
    return np.asarray(array, order="C")


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_fortran_order: bool


def _header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version}")
    with ONE_HEADER:
        shape, in_fortran_order, dtype = readers[version](stream)
    header = _Header(shape, dtype, in_fortran_order)
    if header.dtype.hasobject or header.dtype.fields or header.dtype.subdtype:
        raise ValueError(f"dtype {header.dtype}")
    if not all(type(length) is int and length >= 0 for length in header.shape):
        raise ValueError(f"shape {header.shape}")
    return header


def _check(where: str, expected: Expected, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    dtypes = [np.dtype(d) for d in expected.dtypes]
    fits = expected.shape is None or (
        len(shape) == len(expected.shape) and all(_fits(length, axis) for length, axis in zip(shape, expected.shape))
    )
    if not fits or not any(dtype == d or (d == np.dtype(str) and dtype.kind == "U") for d in dtypes):
        wanted = "integers" if expected.dtypes == INTEGERS else " or ".join(map(str, dtypes))
        axes = "of any shape" if expected.shape is None else f"({', '.join(map(_axis, expected.shape))})"
        raise DamagedFile(f"{where}: expected {wanted} {axes}, got {dtype} {shape}")


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


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, or its name."""
    return str(error).partition("\n")[0] or type(error).__name__
