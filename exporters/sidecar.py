"""The description that `patchbench export` writes beside a model file, read back where the file is used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.device.artifact import Artifact, sha256_file
from backends.device.errors import UserError
from backends.device.reading import JSON_BYTES, DamagedFile, parse_json, regular_file


def require_own(file: Path) -> None:
    """Check that the ``.json`` beside a file to be written describes that file; any other is a `UserError`."""
    beside = file.with_suffix(".json")
    if not beside.is_file():
        return
    content = _description(beside)
    if content is None or content.get("file") != file.name:
        raise UserError(f"{beside}: is not of {file.name}, and would be overwritten: export under another name")


def description_beside(file: Path) -> Artifact | None:
    """Return the artifact that ``FILE.json`` beside a model file describes; None where there is no such description.

    Somebody else's JSON is none, and so is that of an export of the same name in the other format. One of another
    content of this file, by its sha256, is a `DamagedFile`.
    """
    beside = file.with_suffix(".json")
    if not beside.is_file():
        return None
    if _description(beside) is None:
        return None
    described = Artifact.read(beside)
    if described.sha256 == sha256_file(file):
        return described
    if Path(described.file).suffix != file.suffix:
        return None
    raise DamagedFile(f"{beside}: describes another file than {file.name} beside it: remove it, or export again")


def _description(beside: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds if it describes a model file; None of anybody else's."""
    regular_file(beside, JSON_BYTES)
    content = parse_json(beside.read_bytes(), str(beside))
    return content if isinstance(content, dict) and "preproc" in content else None
