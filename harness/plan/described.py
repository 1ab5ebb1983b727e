"""A user's own model file: what the suite says of it, and what the description beside it says, held against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import cast

from backends.device.artifact import Artifact, Format, Preproc, sha256_file
from backends.device.errors import UserError
from exporters.files.description import Description
from exporters.sidecar import description_beside
from harness import config
from harness.plan.steps import ArtifactStep

TOLD = ("precision", "classes", "class_offset", "input_size", "output_kind")


def described(table: config.ArtifactTable, data_dir: Path | None) -> config.ArtifactTable:
    """Return an artifact's table with what the description beside its file says; a contradiction is a `UserError`."""
    file = (data_dir or Path()) / table.file
    found = description_beside(file) if file.is_file() else None
    if found is None:
        return table
    told = {name: getattr(found, name) for name in TOLD} | asdict(found.preproc)
    told["allow_float"] = found.quant.allow_float if found.quant else ()
    for name, value in told.items():
        given = getattr(table, name)
        if name in table.model_fields_set and given != value:
            raise UserError(
                f"artifact {table.name!r}: {name} = {given!r}, but {file.with_suffix('.json')} beside its file says "
                f"{value!r}: leave {name} out"
            )
    return table.model_copy(update=told)


def check_brought(artifacts: Iterable[ArtifactStep], classes: int) -> None:
    """Hold the files of the user's among a plan's artifacts against their tables; a difference is a `UserError`.

    ``classes`` are the data's.
    """
    from exporters.brought import check

    for step in artifacts:
        if step.brought:
            artifact = brought_artifact(step, step.brought.classes or classes)
            check(step.victim.brought_file(), artifact, step.brought.allow_float)


def brought_artifact(step: ArtifactStep, classes: int) -> Artifact:
    """Return a user's own file as its table describes it."""
    from exporters.files import describe

    table = step.brought
    assert table is not None
    file = step.victim.brought_file()
    return Artifact(
        name=step.name, victim=step.victim.name, format=cast(Format, step.format),
        precision=step.precision, file=f"{step.name}.{step.format}", sha256=sha256_file(file),
        input_size=step.victim.data.size, classes=classes, class_offset=table.class_offset,
        preproc=_preproc(table, describe(file)), output_kind=table.output_kind,
    )  # fmt: skip


def input_doubt(step: ArtifactStep) -> str:
    """Say that an artifact's preprocessing does not fit its input, and what would; empty for files exported here."""
    from exporters.files import describe
    from exporters.files.input_range import misfit

    if step.brought is None:
        return ""
    file = describe(step.victim.brought_file())
    return misfit(file, _preproc(step.brought, file))


def _preproc(table: config.ArtifactTable, file: Description) -> Preproc:
    from exporters.files.image_input import layout_or_default

    layout = layout_or_default(file, table.layout)
    return Preproc(layout, table.divisor, table.mean, table.std, table.channel_order)
