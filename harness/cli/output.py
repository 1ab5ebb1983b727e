"""Standard output that says in one line why it cannot be written: a reader that is gone, a full disk."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from backends.device.errors import NotWritten


class Descriptor(io.FileIO):
    """File descriptor 1; once it has failed, what comes later goes nowhere."""

    def write(self, data: Any) -> int:
        """Write bytes; a failure is `NotWritten`."""
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
            raise NotWritten("standard output", str(error.strerror)) from error


def check() -> None:
    """Let `sys.stdout` fail as `NotWritten`, now if it is closed."""
    if sys.stdout is None:
        raise NotWritten("standard output", "it is closed; send it to /dev/null instead")
    descriptor = Descriptor(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=descriptor.isatty(),
    )
