"""Standard output: a full disk is said in one line; a reader that is gone, as `head` is, ends the command."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

from backends.device.errors import UserError


class Descriptor(io.FileIO):
    """File descriptor 1; once it has failed, what comes later goes nowhere."""

    def write(self, data: Any) -> int:
        """Write bytes; a failure is a `UserError`, a closed pipe the signal that it is to any other filter."""
        try:
            return super().write(data)
        except BrokenPipeError:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.raise_signal(signal.SIGPIPE)
            raise
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
            raise UserError(f"standard output: cannot be written ({error.strerror})") from error


def check() -> None:
    """Let `sys.stdout` fail with a `UserError`, now if it is closed."""
    if sys.stdout is None:
        raise UserError("standard output: cannot be written (it is closed; send it to /dev/null instead)")
    descriptor = Descriptor(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=descriptor.isatty(),
    )
