"""A suite: everything that a run needs to know, read from TOML and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from backends.toml_files import read_toml
from harness.config.attacks import AttackTable, ControlsTable
from harness.config.data import DataTable
from harness.config.exports import ExportTable
from harness.config.overrides import NO_OVERRIDES, Overrides, change
from harness.config.study import StudyTable
from harness.config.targets import LatencyTable, TargetTable
from harness.config.values import DataPath, Defence, Name
from harness.config.victims import ArtifactTable, VictimTable
from harness.tables import Axis, Table, validate


class Suite(Table):
    """Everything that a run needs to know.

    A suite needs a `[data]` table, a `[[target]]`, and something to run there: a `[[victim]]` with an `[[export]]`, or
    an `[[artifact]]` of your own.
    """

    schema_: Literal[1] = Field(alias="schema")
    """Version of this format."""

    name: Name
    """Name of the suite; its results go to `out/NAME`."""

    title: str = ""
    """Title of the report."""

    files: DataPath | None = None
    """Folder beside this file that its paths start from; `--data` where there is none, as beside a copy."""

    data: DataTable
    """The images."""

    victim: list[VictimTable] = Field(default_factory=list)
    """Networks to attack."""

    export: list[ExportTable] = Field(default_factory=list)
    """Files to make of them."""

    artifact: list[ArtifactTable] = Field(default_factory=list)
    """Files of your own."""

    attack: list[AttackTable] = Field(default_factory=list)
    """Patches to make."""

    target: list[TargetTable] = Field(min_length=1)
    """Where files run."""

    # A default is not validated, so it is the validated form of the user's word "none".
    defence: Axis[Defence] = ("",)
    """What a device does to pixels before its network: `none`, `jpeg:QUALITY`, `median:SIDE`. Each case is replayed
    with each of them."""

    controls: ControlsTable = ControlsTable()
    """What every patch is compared with."""

    latency: LatencyTable = LatencyTable()
    """How targets are timed."""

    study: StudyTable = StudyTable()
    """What `patchbench study` looks at."""

    @model_validator(mode="after")
    def _has_files(self) -> Suite:
        if not self.artifact and not (self.victim and self.export):
            raise ValueError("nothing to run: give a [[victim]] with an [[export]], or an [[artifact]] of your own")
        return self

    @model_validator(mode="after")
    def _has_calibration(self) -> Suite:
        if self.victim and not self.data.calibration:
            raise ValueError("data.calibration = 0: the files of a [[victim]] need images that set their ranges")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        networks = [*(v.name for v in self.victim), *(a.name for a in self.artifact)]
        for what, names in (("victim]] or [[artifact", networks), ("target", [t.name for t in self.target])):
            if twice := {n for n in names if names.count(n) > 1}:
                raise ValueError(f"two [[{what}]] named {', '.join(sorted(twice))}")
        return self


def read_suite(path: Path, overrides: Overrides = NO_OVERRIDES) -> Suite:
    """Read and check a suite, changed as a command line says; all that is wrong with it is one `UserError`."""
    raw = read_toml(path)
    for setting in overrides.settings:
        change(raw, setting)
    changed = f" with {overrides}" if overrides.settings else ""
    suite = validate(raw, Suite, f"{path}{changed}: not a suite")
    if overrides.limit is None or suite.data.evaluate <= overrides.limit:
        return suite
    fewer = suite.data.model_copy(update={"evaluate": overrides.limit})
    return suite.model_copy(update={"data": fewer})
