"""Sealed JSON: its key ``sha256`` is the hash of all its others, so that no value changes unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.device.artifact import sha256_file
from backends.device.reading import ARRAY_BYTES, JSON_BYTES, DamagedFile, read_json, regular_file
from harness.store import write_json

SEAL = "sha256"


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """Return JSON with its seal."""
    return {**content, SEAL: _digest(content)}


def read_sealed(file: Path, schema: int, mend: str, most: int = JSON_BYTES) -> dict[str, Any]:
    """Read sealed JSON of this ``schema``, of at most so many bytes, without its seal; or it is a `DamagedFile`."""
    content = read_json(file, most)
    if (found := content.get("schema")) != schema:
        raise DamagedFile(f"{file}: expected schema {schema}, got {found!r}{_writer(content)}; {mend}")
    return unsealed(content, file, mend)


def unsealed(content: Mapping[str, object], file: Path, mend: str) -> dict[str, Any]:
    """Return JSON without its seal; if anything else was sealed, that is a `DamagedFile` that says how to mend it."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    if content.get(SEAL) != _digest(rest):
        raise DamagedFile(f"{file}: its content is not what was sealed with it: damaged or edited; {mend}")
    return rest


def write_sealed(file: Path, content: Mapping[str, object]) -> None:
    """Write JSON with its seal, whole or not at all."""
    write_json(file, sealed(content))


def check_file(file: Path, sha256: str, mend: str) -> None:
    """Check that a file is there, with this hash; another is a `DamagedFile`."""
    regular_file(file, ARRAY_BYTES)
    if (found := sha256_file(file)) != sha256:
        raise DamagedFile(f"{file}: expected sha256 {sha256}, got {found}; {mend}")


def _writer(content: Mapping[str, Any]) -> str:
    """Return which patchbench wrote a file, where it says so."""
    versions = content.get("versions")
    version = versions.get("patchbench") if isinstance(versions, dict) else None
    return f" of patchbench {version}" if version else ""


def _digest(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of JSON in a canonical form: sorted keys, no spaces, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
