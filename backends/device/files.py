"""Files and folders that are there whole or not at all, and what a disk says that does not take them."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backends.device.errors import NotWritten

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
DISK_ERRORS |= {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP}


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in a folder, where a vendor's tool leaves its files."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path``, with its suffix; rename it there if the block succeeds, else remove it.

    Missing parent folders are created; what a killed process left behind is removed. A full or read-only disk is
    `NotWritten`.
    """
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    with disk_errors_at(path, draft):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in _left_behind(path):
            _remove(left)
        try:
            yield draft
            draft.replace(path)
        finally:
            _remove(draft)


@contextmanager
def disk_errors_at(path: Path, draft: Path) -> Iterator[None]:
    """Turn a disk's error while ``draft`` is written into `NotWritten`, which names ``path``."""
    try:
        yield
    except Exception as error:
        reason = disk_error(error)
        named = Path(os.fsdecode(getattr(error, "filename", None) or draft))
        if not reason or not (named.is_relative_to(draft) or named in draft.parents):
            raise
        raise NotWritten(path, reason) from error


def disk_error(error: BaseException) -> str:
    """Return why a disk took no more, if an exception says that; else nothing."""
    if not isinstance(error, OSError):
        return ""
    number = error.errno or 0
    if not number and "requested and" in str(error):  # numpy's report of a short write
        number = errno.ENOSPC
    return os.strerror(number) if number in DISK_ERRORS else ""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _left_behind(path: Path) -> Iterator[Path]:
    """Find the drafts of a path whose processes are gone."""
    for draft in path.parent.glob(f".*.{glob.escape(path.name)}"):
        process = draft.name.removesuffix(f".{path.name}").removeprefix(".")
        if process.isdigit() and not _is_running(int(process)):
            yield draft


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
