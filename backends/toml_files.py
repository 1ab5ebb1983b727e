"""Read TOML files that someone else wrote. Boards read none, and older Pythons there have no reader for them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from backends.device.reading import DamagedFile, regular_file

TOML_BYTES = 1 << 18
TOML_DOTS = 500  # in one line: the time for a key grows with the square of its parts


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; anything else is a `DamagedFile`."""
    regular_file(path, TOML_BYTES)
    try:
        return parse_toml(path.read_bytes().decode(), str(path))
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise DamagedFile(f"{path}: not TOML: {error}") from error


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML that came from `where`; anything else is a `DamagedFile`."""
    if any(line.count(".") > TOML_DOTS for line in text.split("\n")):
        raise DamagedFile(f"{where}: nested too deep: more than {TOML_DOTS} dots in a line")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        if reason.startswith("Invalid value"):
            reason += "; text needs quotes"
        raise DamagedFile(f"{where}: not TOML: {reason}") from error
