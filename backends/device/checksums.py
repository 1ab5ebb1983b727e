"""A folder vouches for its files: ``SHA256SUMS`` lists the hash of every other file in it, as ``sha256sum`` does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from backends.device.artifact import sha256_file
from backends.device.reading import ARRAY_BYTES, MEBIBYTE, DamagedFile, regular_file

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^\n]{1,1000})")


def write_sums(folder: Path) -> str:
    """List every file below a folder; return the hash of the list, which stands for all of them."""
    files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in _files(folder)}
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    (folder / SUMS).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_sums(folder: Path, mend: str) -> dict[str, str]:
    """Return the hash of each file that a folder lists, by its path; no list, or a damaged one, is a `DamagedFile`."""
    path = folder / SUMS
    try:
        regular_file(path, MEBIBYTE)
        lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError, DamagedFile) as error:
        raise DamagedFile(f"{path}: no list of hashes; {mend}") from error
    matches = [LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match}
    if len(sums) != len(lines) or list(sums) != sorted(sums):
        raise DamagedFile(f"{path}: not a sorted list of SHA-256 and file names; {mend}")
    return sums


def verify(folder: Path, mend: str, most: int = ARRAY_BYTES) -> str:
    """Check that a folder holds the files it lists, unchanged, and no others; return the hash of the list.

    Anything else, and a file of more than `most` bytes, is a `DamagedFile` that names the file and how to mend it.
    """
    sums = read_sums(folder, mend)
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    if different := sorted(sums.keys() ^ found.keys()):
        what = "missing" if different[0] in sums else f"not listed in {SUMS}"
        raise DamagedFile(f"{folder / different[0]}: {what}; {mend}")
    for name, path in found.items():
        regular_file(path, most)
        if (sha256 := sha256_file(path)) != sums[name]:
            raise DamagedFile(f"{path}: expected sha256 {sums[name]}, got {sha256}; {mend}")
    return sha256_file(folder / SUMS)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir() and path != folder / SUMS]
