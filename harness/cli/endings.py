"""How a command ends: one line on standard error, and an exit code."""

from __future__ import annotations

import faulthandler
import os
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from backends.device.errors import NotWritten, UserError
from backends.device.files import disk_error
from harness import extras

USER_ERROR = 2
FAULT = 3
RESUME = "finished work is kept: run the same command to resume"
NO_MEMORY = (
    "failed to map segment",  # the loader's
    "annot allocate memory",
    "can't allocate memory",  # torch's
    "bad_alloc",
    "start new thread",
    "could not create a primitive",  # oneDNN's
)


def explain(error: Exception) -> int:
    """Say in one line why a command failed, and return its exit code."""
    if _is_out_of_memory(error):
        detail = f" ({error})" if isinstance(error, MemoryError) and str(error) else ""
        fail(f"not enough memory{detail}; {RESUME}")
    elif isinstance(error, NotWritten):
        fail(f"{error}; {RESUME}")
    elif isinstance(error, UserError):
        fail(str(error))
    elif isinstance(error, ModuleNotFoundError) and error.name in extras.EXTRAS:
        fail(extras.missing(error.name))
    elif reason := disk_error(error):
        file = getattr(error, "filename", None)
        fail(f"{file!r:.100}: {reason}" if isinstance(file, str) else f"{reason}; {RESUME}")
    elif "No usable temporary directory" in str(error):
        fail("no folder for temporary files; set TMPDIR, then run the same command to resume")
    else:
        return _fault(_first_line(error), "".join(traceback.format_exception(error)))
    return USER_ERROR


def log_crashes() -> None:
    """Let a crash of native code leave a traceback."""
    with suppress(OSError):
        faulthandler.enable(os.open(_crash_file(), os.O_CREAT | os.O_WRONLY, 0o600))


def crashed(signal_name: str) -> int:
    """Say that native code crashed, and return the exit code for that."""
    found = ""
    with suppress(OSError):
        found = _crash_file().read_text()
    return _fault(f"native code crashed with {signal_name}", found)


def fail(message: str) -> None:
    """Print an error."""
    is_coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    say(f"\x1b[1;31merror:\x1b[0m {message}" if is_coloured else f"error: {message}")


def say(line: str) -> None:
    """Print a line to standard error, wherever that leads."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _fault(what: str, found: str) -> int:
    """Keep a traceback beside the command's own folder for temporary files, and say so."""
    line = f"a fault of patchbench: {what}; please report it"
    with suppress(OSError):
        file = Path(f"{tempfile.gettempdir()}.txt")
        file.write_text(f"{shlex.join(['patchbench', *sys.argv[1:]])}\n{found}")
        line += f", with {file}"
    fail(line)
    return FAULT


def _crash_file() -> Path:
    return Path(tempfile.gettempdir(), "crash.txt")


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, ImportError | OSError | RuntimeError) and any(word in str(error) for word in NO_MEMORY)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
