"""Sealed JSON: its key ``sha256`` is the hash of all its others, so that no value changes unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from backends.device.reading import DamagedFile
from harness.store import write_json

SEAL = "sha256"


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """Return JSON with its seal."""
    return {**content, SEAL: _digest(content)}


def unsealed(content: Mapping[str, object], file: Path, mend: str) -> dict[str, object]:
    """Return JSON without its seal; if anything else was sealed, that is a `DamagedFile` that says how to mend it."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    if content.get(SEAL) != _digest(rest):
        raise DamagedFile(f"{file}: its content is not what was sealed with it: damaged or edited; {mend}")
    return rest


def write_sealed(file: Path, content: Mapping[str, object]) -> None:
    """Write JSON with its seal, whole or not at all."""
    write_json(file, sealed(content))


def _digest(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of JSON in a canonical form: sorted keys, no spaces, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
