"""Archives behind a vendor's compiled file, whose own loader stops before them: what a simulator runs, in one file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from backends.device.reading import ARRAY_BYTES, MEBIBYTE, ZIP_FAULTS, DamagedFile, first_line, open_zip, regular_file


def append(path: Path, members: Mapping[str, bytes]) -> None:
    """Write an archive of these members behind a file."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def read(path: Path, most: Mapping[str, int], simulator: str) -> dict[str, bytes]:
    """Read the members behind a file, each of at most so many bytes; a file without them is a `DamagedFile`."""
    regular_file(path, 2 * ARRAY_BYTES)
    try:
        with open_zip(path) as archive:
            return {name: _member(archive, name, limit) for name, limit in most.items()}
    except ZIP_FAULTS as error:
        raise DamagedFile(
            f"{path}: has no network for {simulator} behind it, as patchbench exports it ({first_line(error)})"
        ) from error


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    member = archive.getinfo(name)
    if member.file_size > most or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} of {member.file_size:,} bytes")
    with archive.open(member) as content:  # in pieces, as `open_zip` wants it
        return b"".join(iter(lambda: content.read(MEBIBYTE), b""))
