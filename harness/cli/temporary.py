"""One folder for all temporary files of a command, so that they can be removed when it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "patchbench-"


def own_folder() -> Path | None:
    """Make a folder and let all temporary files lie there, also those of other programs; None where none can be made.

    It is ours while this process, or one forked from it, lives. What killed commands left is removed.
    """
    try:
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/"):
            _remove_unless_held(left)
        held = False
        while not held:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
            held = folder.is_dir()  # else another command took it for one that was left
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
