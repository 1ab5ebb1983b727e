"""The files of a run directory, typed: ``run.json`` says what ran, ``summary.json`` holds its cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar, cast

import pandas as pd
from pydantic import Field, ValidationError

from backends.device.errors import UserError
from harness.results.entries import (
    AgreementEntry,
    ArithmeticEntry,
    ArtifactEntry,
    CaseEntry,
    Cells,
    Check,
    DataEntry,
    Entry,
    ErrorEntry,
    ExampleEntry,
    LatencyEntry,
    MachineEntry,
    OutputsEntry,
    PatchEntry,
    RepeatEntry,
    SuiteEntry,
    TargetEntry,
    VictimEntry,
)
from harness.store import write_json
from harness.tables import explain

SCHEMA = 1
RUN, SUMMARY, RECORDS = "run.json", "summary.json", "records.parquet"


class Run(Entry):
    """``run.json``: what was attacked, with what, and where; everything but the rates."""

    schema_: Literal[1] = Field(alias="schema")
    suite: SuiteEntry = SuiteEntry()
    title: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    machine: MachineEntry = MachineEntry()
    commit: str = ""
    data: DataEntry = DataEntry()
    class_names: tuple[str, ...] = ()
    victims: tuple[VictimEntry, ...] = ()
    artifacts: tuple[ArtifactEntry, ...] = ()
    patches: tuple[PatchEntry, ...] = ()
    targets: tuple[TargetEntry, ...] = ()
    cases: tuple[CaseEntry, ...] = ()
    outputs: tuple[OutputsEntry, ...] = ()
    again: tuple[RepeatEntry, ...] = ()
    arithmetic: tuple[ArithmeticEntry, ...] = ()
    latency: tuple[LatencyEntry, ...] = ()
    agreement: tuple[AgreementEntry, ...] = ()
    examples: tuple[ExampleEntry, ...] = ()
    errors: tuple[ErrorEntry, ...] = ()
    plan: str = ""
    started: str = ""
    seconds: float | None = None
    command: str = ""
    checks: tuple[Check, ...] = ()


class Summary(Entry):
    """``summary.json``: the rows of `harness.results.metrics.cells` and of `harness.results.metrics.summarise`."""

    schema_: Literal[1] = Field(alias="schema")
    suite: str
    cells: Cells
    over_patches: Cells


M = TypeVar("M", Run, Summary)


def read_run(run_dir: Path) -> Run:
    """Read a finished run's ``run.json``; another schema or a damaged file is a `UserError`."""
    return _read(run_dir / RUN, Run)


def read_summary(run_dir: Path) -> Summary:
    """Read a finished run's ``summary.json``; another schema or a damaged file is a `UserError`."""
    return _read(run_dir / SUMMARY, Summary)


def read_records(run_dir: Path) -> pd.DataFrame:
    """Read a finished run's records; a damaged file is a `UserError`."""
    try:
        return pd.read_parquet(run_dir / RECORDS)
    except (OSError, ValueError) as error:
        raise UserError(f"{run_dir}: expected the {RUN} and {RECORDS} of a finished run ({error})") from error


def write_run(run_dir: Path, run: Run) -> None:
    """Write ``run.json``."""
    write_json(run_dir / RUN, run.plain())


def write_summary(run_dir: Path, suite: str, cells: pd.DataFrame, over_patches: pd.DataFrame) -> None:
    """Write ``summary.json``."""
    content = Summary(schema=1, suite=suite, cells=_rows(cells), over_patches=_rows(over_patches))
    write_json(run_dir / SUMMARY, content.plain())


def _read(file: Path, model: type[M]) -> M:
    try:
        raw = json.loads(file.read_text())
        found = raw["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file.parent}: expected the {RUN} and {RECORDS} of a finished run ({error!r})") from error
    if found != SCHEMA:
        raise UserError(
            f"{file}: expected schema {SCHEMA}, got {found!r}; run the suite again, or use the patchbench that wrote it"
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{file}: {explain(error, raw, model)[0]}; run the suite again") from error


def _rows(table: pd.DataFrame) -> Cells:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return cast(Cells, rows)
