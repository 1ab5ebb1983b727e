"""A stored result as one file: a zip archive, not compressed, that has the same bytes wherever it is made."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path

from backends.device.checksums import SUMS, read_sums, verify
from backends.device.errors import NotWritten, UserError
from backends.device.files import disk_errors_at
from backends.device.names import check_path
from backends.device.reading import ARRAY_BYTES, MEBIBYTE, ZIP_FAULTS, DamagedFile, first_line, open_zip

MOST_BYTES = 4 * ARRAY_BYTES  # of an archive
MEND = "made again"
FULL = {errno.ENOSPC, errno.EDQUOT}


def pack(folder: Path, file: Path) -> None:
    """Write a folder's files, those that its list of hashes names, into a new archive."""
    with disk_errors_at(file, file), zipfile.ZipFile(file, "x", zipfile.ZIP_STORED) as archive:
        for name in (SUMS, *read_sums(folder, MEND)):
            source = folder / name
            member = zipfile.ZipInfo(name)  # of 1980, as all of them
            member.external_attr = 0o644 << 16
            member.file_size = source.stat().st_size  # by which it chooses the format of large files
            with source.open("rb") as stream, archive.open(member, "w") as into:
                shutil.copyfileobj(stream, into, MEBIBYTE)


def unpack(file: Path, folder: Path) -> None:
    """Write an archive's files into an empty folder, and verify them against their list of hashes.

    What is damaged, leads out of the folder, or would take more room than the archive is a `DamagedFile`.
    """
    try:
        with open_zip(file) as archive:
            left = file.stat().st_size
            for member in archive.infolist():
                left -= member.file_size
                if member.compress_type != zipfile.ZIP_STORED or left < 0:
                    raise ValueError("larger than what it is packed in")
                into = folder / check_path(member.filename)
                into.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as stream, into.open("xb") as written:
                    shutil.copyfileobj(stream, written, MEBIBYTE)
    except (UserError, *ZIP_FAULTS) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise NotWritten(folder, os.strerror(error.errno)) from error
        raise DamagedFile(f"{file}: not the archive of a result ({first_line(error)}); {MEND}") from error
    verify(folder, MEND, ARRAY_BYTES)
