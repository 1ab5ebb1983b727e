"""Whose the packages are that patchbench consists of: their names are not its alone, but this one's is.

It is installed beside ``patchbench``, and is what the command and ``import patchbench`` begin with.
"""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

PACKAGES = ("backends", "exporters", "harness", "patches")
MARK = "Part of patchbench."  # in the docstring of each
USER_ERROR = 2


def main() -> NoReturn:
    """Run the command line, unless a package of that name is another distribution's."""
    if fault := foreign():
        sys.exit(_said(fault))
    from harness.cli.main import main as run

    run()


def foreign() -> str:
    """Return the error where one of `PACKAGES` is another distribution's, else nothing. Imports none of them."""
    places: dict[Path, str] = {}
    for name in PACKAGES:
        spec = find_spec(name)
        file = Path(spec.origin) if spec and spec.origin else None
        if file is None or MARK not in file.read_text(errors="replace"):
            owners = ", ".join(packages_distributions().get(name, ())) or "no distribution"
            folders = spec.submodule_search_locations if spec else None
            found = f"{', '.join(folders or ())} ({owners})" if spec else "nothing"
            return (
                f"expected patchbench's package {name!r}, found {found}: take it off PYTHONPATH, or install patchbench "
                "in an environment of its own"
            )
        places.setdefault(file.resolve().parents[1], name)
    if len(places) > 1:
        mixed = " and ".join(f"{name!r} from {folder}" for folder, name in places.items())
        return f"found packages of two patchbenches, {mixed}: take one off PYTHONPATH"
    return ""


def _said(fault: str) -> int:
    print(f"error: {fault}", file=sys.stderr)
    return USER_ERROR
