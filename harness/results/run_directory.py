"""The files of a run directory, typed: ``run.json`` says what ran, ``summary.json`` holds its cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

from backends.device.artifact import sha256_file
from backends.device.files import replacing
from backends.device.reading import JSON_BYTES, MEBIBYTE, DamagedFile
from harness.data import splits
from harness.results.entries import (
    ArtifactEntry,
    CaseEntry,
    Cells,
    Check,
    DataEntry,
    Entry,
    ErrorEntry,
    ExampleEntry,
    MachineEntry,
    OutputsEntry,
    PatchEntry,
    SuiteEntry,
    TargetEntry,
    VictimEntry,
)
from harness.results.measured import (
    AgreementEntry,
    AlikeEntry,
    ArithmeticEntry,
    ElsewhereEntry,
    LatencyEntry,
    RepeatEntry,
    TwinEntry,
)
from harness.sealed import check_file, read_sealed, write_sealed
from harness.tables import explain

SCHEMA: Final = 2
RUN, SUMMARY, RECORDS = "run.json", "summary.json", "records.parquet"
SUMMARY_BYTES = 1024 * MEBIBYTE  # two kilobytes a cell
RECORDS_BY_PLACE = "records"  # of a large run, instead of one file: ARTIFACT/TARGET.parquet
CELLS, REPORT = "cells.csv", "report.html"
BEGUN = ("store", ".lock")  # what a run writes before its run.json
MEND = "run the suite again"


class RunFacts(Entry):
    """``run.json``: what was attacked, with what, and where; everything but the rates.

    ``files`` has the SHA-256 of each file that a verdict or the report rests on, by its path in the run directory.
    """

    schema_: Literal[2] = Field(alias="schema")
    suite: SuiteEntry = SuiteEntry()
    title: str = ""
    label: str = ""
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
    alike: tuple[AlikeEntry, ...] = ()
    arithmetic: tuple[ArithmeticEntry, ...] = ()
    elsewhere: tuple[ElsewhereEntry, ...] = ()
    twins: tuple[TwinEntry, ...] = ()
    latency: tuple[LatencyEntry, ...] = ()
    agreement: tuple[AgreementEntry, ...] = ()
    examples: tuple[ExampleEntry, ...] = ()
    errors: tuple[ErrorEntry, ...] = ()
    plan: str = ""
    started: str = ""
    seconds: float | None = None
    command: str = ""
    checks: tuple[Check, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)


class Summary(Entry):
    """``summary.json``: the rows of `harness.results.metrics.cells` and of `harness.results.metrics.summarise`."""

    schema_: Literal[2] = Field(alias="schema")
    suite: str
    cells: Cells
    over_patches: Cells


M = TypeVar("M", RunFacts, Summary)


def read_run(run_dir: Path, mend: str = MEND) -> RunFacts:
    """Read a finished run's ``run.json``; another schema or a damaged file is a `UserError` that ends with its mend."""
    return _read(run_dir / RUN, RunFacts, mend)


def read_summary(run_dir: Path, run: RunFacts) -> Summary:
    """Read the ``summary.json`` of a finished run; another run's or a damaged file is a `UserError`."""
    verify(run_dir, run, SUMMARY)
    return _read(run_dir / SUMMARY, Summary, MEND)


def verify(run_dir: Path, run: RunFacts, *names: str, mend: str = MEND) -> None:
    """Check that files of a run, by default all, are those that it wrote; another is a `DamagedFile`."""
    for name in names or run.files:
        if name not in run.files:
            raise DamagedFile(f"{run_dir / RUN}: lists no {name}; {mend}")
        check_file(run_dir / name, run.files[name], mend)


def write_run(run_dir: Path, run: RunFacts) -> None:
    """Write ``run.json``, with the hashes of the files that are there."""
    places = (str(path.relative_to(run_dir)) for path in (run_dir / RECORDS_BY_PLACE).glob("*/*.parquet"))
    there = [name for name in sorted({*_files(run), *places}) if (run_dir / name).is_file()]
    files = {name: sha256_file(run_dir / name) for name in there}
    write_sealed(run_dir / RUN, run.model_copy(update={"files": files}).plain())


def write_cells(run_dir: Path, cells: pd.DataFrame) -> None:
    """Write ``cells.csv``, numbers to six digits."""
    fractions = cells.select_dtypes("float")
    with replacing(run_dir / CELLS) as draft:
        cells.assign(**{str(name): _six_digits(column) for name, column in fractions.items()}).to_csv(
            draft, index=False
        )


def _six_digits(column: pd.Series) -> list[str]:
    """Return numbers as text, of equal ones formatted once; empty for what is missing."""
    of, values = pd.factorize(column)
    texts = [*(f"{value:.6g}" for value in values.tolist()), ""]
    return [texts[one] for one in of.tolist()]


def write_summary(run_dir: Path, suite: str, cells: pd.DataFrame, over_patches: pd.DataFrame) -> None:
    """Write ``summary.json``."""
    rows = {"cells": _rows(cells), "over_patches": _rows(over_patches)}
    write_sealed(run_dir / SUMMARY, {"schema": SCHEMA, "suite": suite, **rows})


def _files(run: RunFacts) -> Iterator[str]:
    yield from (RECORDS, CELLS, SUMMARY, REPORT, splits.FILE)
    for entries, beside in ((run.artifacts, ".json"), (run.patches, ".npz")):
        for entry in entries:
            if entry.file:
                yield entry.file
                yield str(Path(entry.file).with_suffix(beside))
    for example in run.examples:
        yield example.clean_png
        yield example.patched_png


def _read(file: Path, model: type[M], mend: str) -> M:
    if not file.is_file():
        raise DamagedFile(f"{file.parent}: {_absent(file.parent)}")
    raw = read_sealed(file, SCHEMA, mend, SUMMARY_BYTES if file.name == SUMMARY else JSON_BYTES)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise DamagedFile(f"{file}: {explain(error, raw, model)[0]}; {mend}") from error


def _absent(run_dir: Path) -> str:
    """Say why a directory has no finished run, and what to do."""
    if not run_dir.is_dir():
        return "no such folder; run the suite first"
    if any((run_dir / name).exists() for name in BEGUN):
        return "its run was interrupted, or is still at work; run it again to finish"
    return f"expected the {RUN} and {RECORDS} of a finished run; run the suite first"


def _rows(table: pd.DataFrame) -> Cells:
    """Return a table's rows, None for what is missing."""
    factors = (pd.factorize(column) for _, column in table.items())  # -1 for what is missing: None is the last
    columns = [np.append(np.asarray(values, object), [None])[codes].tolist() for codes, values in factors]
    names = table.columns.tolist()
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
