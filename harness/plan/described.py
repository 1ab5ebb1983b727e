"""A file that patchbench exported describes itself: what the suite leaves out is read from beside the file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from backends.device.errors import UserError
from exporters.sidecar import description_beside
from harness import config

TOLD = ("precision", "classes", "class_offset", "input_size", "output_kind")


def described(table: config.ArtifactTable, data_dir: Path | None) -> config.ArtifactTable:
    """Return an artifact's table with what the description beside its file says; a contradiction is a `UserError`."""
    file = (data_dir or Path()) / table.file
    found = description_beside(file) if file.is_file() else None
    if found is None:
        return table
    told = {name: getattr(found, name) for name in TOLD} | asdict(found.preproc)
    for name, value in told.items():
        given = getattr(table, name)
        if name in table.model_fields_set and given != value:
            raise UserError(
                f"artifact {table.name!r}: {name} = {given!r}, but {file.with_suffix('.json')} beside its file says "
                f"{value!r}: leave {name} out"
            )
    return table.model_copy(update=told)
