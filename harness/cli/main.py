"""The entry point: assemble the commands, and turn a user's mistake into one message with exit code 2."""

from __future__ import annotations

import errno
import os
import sys

import typer
from rich.text import Text

from backends.device.errors import UserError
from harness.cli import gate, inspect, run, stages, twin
from harness.cli.console import console

ABOUT = """Does an adversarial patch that works in the lab still work on the device?

patchbench crafts patches on a surrogate, exports the victim to ONNX or TFLite, replays the patched images on real
integer runtimes, and counts how often each patch succeeds.

**Start with** `patchbench run benchmarks/suites/demo.toml`."""
USER_ERROR = 2
INTERRUPTED = 130  # typer's exit code for Ctrl-C
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)

app = typer.Typer(
    name="patchbench",
    help=ABOUT,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (run, stages, inspect, twin, gate):
    app.add_typer(group.app)


def main() -> None:
    """Run the command line; a `UserError` or a full disk is one message without a traceback, with exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Threads that spin while they wait slow torch down seven times when another process wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        message = _disk_error(error)
        if not message:
            raise
        _fail(f"{message}. Finished work is kept; fix this, then run the same command to resume.")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            message = "interrupted; finished work is kept: run the same command to resume"
            console(stderr=True).print(message, soft_wrap=True)
        raise


def _fail(message: str) -> None:
    console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {message}"), soft_wrap=True)
    sys.exit(USER_ERROR)


def _disk_error(error: OSError) -> str:
    """Return the message of a disk that is full or read-only; empty for any other error."""
    if error.errno in DISK_ERRORS:
        return str(error)
    if error.errno is None and "requested and" in str(error):  # numpy's report of a short write
        return f"No space left on device ({error})"
    return ""
