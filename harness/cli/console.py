"""The console that commands print to."""

import sys

from rich.console import Console


def console() -> Console:
    """Return a console of the terminal's width; of 160 columns, enough for the tables, where there is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=160)
