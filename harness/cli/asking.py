"""Questions on a terminal, which belongs to the process that waits for a command, and not to the command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def foreground() -> Iterator[None]:
    """Let this process read from the terminal; Ctrl-C then ends it alone, and Ctrl-Z does nothing."""
    terminal = sys.stdin.fileno()
    theirs = os.tcgetpgrp(terminal)
    before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # the process that waits would not hear of it
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, theirs)
        signal.signal(signal.SIGTSTP, before)
