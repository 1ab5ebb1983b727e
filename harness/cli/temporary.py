"""One folder for all temporary files of a command, so that they can be removed when it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "patchbench-"
MARK = ".temporary"  # a file in each folder that may be removed: another may have a name like these


def own_folder() -> Path | None:
    """Make a folder and let all temporary files lie there, also those of other programs; None where none can be made.

    It is ours while this process, or one forked from it, lives. What killed commands left is removed.
    """
    try:
        for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{MARK}"):
            _remove_unless_held(mark.parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
        (folder / MARK).touch()  # once it is held: from now on another command may look whether it is
    except OSError:
        return None
    # torch's default place for compiled kernels, which outlive a command
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    return folder


def _remove_unless_held(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(descriptor)
