"""The error that a user can fix, and the hint that goes with a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LISTED = 30


class UserError(Exception):
    """A user's mistake: names the file, what was expected, what came, and the fix; shown without a traceback."""


class NotWritten(UserError):
    """A file or a folder that cannot be written."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: cannot be written ({reason})")


@contextmanager
def about(file: Path | str) -> Iterator[None]:
    """Name a file, such as a suite's, in each `UserError` of a block that does not name it already."""
    try:
        yield
    except UserError as error:
        if str(file) in str(error) or isinstance(error, NotWritten):
            raise
        raise UserError(f"{file}: {error}") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the known name nearest to `name`; without a near one, list those known."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    more = ", ..." if len(names) > LISTED else ""
    return f"there are {', '.join(names[:LISTED]) or 'none'}{more}"
