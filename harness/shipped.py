"""The suites that ship with patchbench: the file that a user means, and what an error calls it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from backends.device.errors import UserError, about, did_you_mean

SUITES = (Path(__file__).parent / "suites").resolve()  # in a checkout a link to benchmarks/suites


def shipped_suites() -> dict[str, Path]:
    """Return the suites that ship with patchbench: each one's file by its name."""
    return {file.stem: file for file in sorted(SUITES.glob("*.toml"), key=lambda file: file.stem)}


def suite_file(word: str) -> Path:
    """Return the file of a suite that a user names.

    A word that ends in ``.toml`` or has a path separator is a path, whether or not such a file exists. A bare word is
    the name of a suite that ships with patchbench, whatever lies in the current folder.
    """
    path = Path(word)
    if path.suffix == ".toml" or word != path.name:
        return path
    known = shipped_suites()
    if word not in known:
        yours = f" (the file in this folder is ./{word})" if path.is_file() else ""
        here = [file.name for file in Path().glob("*.toml")]
        raise UserError(f"no suite named {word!r}{yours}; {did_you_mean(word, [*known, *here])}")
    return known[word]


def about_suite(file: Path) -> AbstractContextManager[None]:
    """Name a suite in each `UserError` of a block: one that ships by its name, any other by its file."""
    return about(f"suite {file.stem}" if file.parent == SUITES else file)
