"""How a command ends: one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from backends.device.errors import UserError
from backends.device.names import shown

USER_ERROR = 2
RESUME = "finished work is kept: run the same command to resume"
PATH_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def explain(error: Exception) -> int:
    """Say in one line why a command failed, and return its exit code; what nobody foresaw is raised again."""
    if isinstance(error, UserError):
        message = str(error)
    elif isinstance(error, OSError) and error.errno in PATH_ERRORS and isinstance(error.filename, str):
        message = f"{shown(error.filename)}: {error.strerror}"
    elif isinstance(error, OSError) and (cause := _disk_error(error)):
        message = f"{cause}. Finished work is kept; fix this, then run the same command to resume."
    else:
        raise error
    fail(message)
    return USER_ERROR


def fail(message: str) -> None:
    """Print an error."""
    is_coloured = sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    say(f"\x1b[1;31merror:\x1b[0m {message}" if is_coloured else f"error: {message}")


def say(line: str) -> None:
    """Print a line to standard error, wherever that leads."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _disk_error(error: OSError) -> str:
    """Return the message of a disk that is full or read-only; empty for any other error."""
    if error.errno in DISK_ERRORS:
        return str(error)
    if error.errno is None and "requested and" in str(error):  # numpy's report of a short write
        return f"No space left on device ({error})"
    return ""
