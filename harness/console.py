"""The console that runs and commands print to."""

import io
import sys
from typing import IO

from rich.console import Console

WIDTH = 160  # enough for the tables, where there is no terminal


def console(width: int | None = None, file: IO[str] | None = None, quiet: bool = False) -> Console:
    """Return a console that prints text as it stands: names with brackets or colons are no markup and no pictures.

    It is as wide as the terminal, or `WIDTH` columns where there is none, and writes to standard output or a file. A
    quiet one prints nothing.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    columns = width or (None if sys.stdout.isatty() else WIDTH)
    return Console(width=columns, file=file, quiet=quiet, markup=False, emoji=False)
