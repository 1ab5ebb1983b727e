"""A run to hand on: a report without what is private, and a manifest of the hashes that its verdict rests on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from harness.data import splits
from harness.finished.redaction import Redaction
from harness.report import page
from harness.results.baseline import read_file
from harness.results.entries import Entry
from harness.results.gathering import gathered
from harness.results.judged import judged
from harness.results.record_files import record_pieces
from harness.results.run_directory import CELLS, RECORDS, REPORT, RUN, SUMMARY, read_run, verify, write_cells
from harness.sealed import read_sealed, write_sealed
from harness.store import write_text
from harness.tables import explain

MANIFEST = "manifest.json"
KIND: Final = "patchbench manifest"
SCHEMA: Final = 1
SIGNATURES = (".sig", ".minisig", ".asc", ".bundle")  # of the manifest, beside it
NAMED = (RECORDS, SUMMARY, CELLS, REPORT, splits.FILE)  # files of a run whose names say nothing
MEND = "ask for the folder again"
NOTICE = (
    "Handed on without images, paths and names of files, machines and addresses; "
    f"{MANIFEST} has the hashes of the run that it was made of."
)


class Manifest(Entry):
    """``manifest.json``: the hashes of a shared folder's ``files``, and of the ``run`` that it was made of.

    ``others`` are the hashes of the run's artifacts, patches and pictures, whose names may be private. ``baseline`` is
    that of the file that the run was judged by.
    """

    schema_: Literal[1] = Field(alias="schema")
    kind: Literal["patchbench manifest"]
    plan: str = ""
    commit: str = ""
    started: str = ""
    patchbench: str = ""
    files: dict[str, str]
    run: dict[str, str]
    others: tuple[str, ...] = ()
    baseline: str = ""


def share(run_dir: Path, into: Path, baseline: Path | None = None) -> None:
    """Write a finished run's shared report, cells and manifest to a new folder; the run is verified, and untouched."""
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into}: expected a new or empty folder")
    run = read_run(run_dir)
    verify(run_dir, run)
    if baseline:
        read_file(baseline)
    redaction = Redaction(run)
    redacted = redaction.run(run)
    known = judged(redacted, gathered(map(redaction.records, record_pieces(run_dir, run))))
    write_text(into / REPORT, page.text(into, redacted, known, NOTICE))
    write_cells(into, known.cells.drop(columns="doubts"))
    manifest = Manifest(
        schema=SCHEMA,
        kind=KIND,
        plan=run.plan,
        commit=run.commit,
        started=run.started,
        patchbench=run.versions.get("patchbench", ""),
        files={name: sha256_file(into / name) for name in (REPORT, CELLS)},
        run={RUN: sha256_file(run_dir / RUN)} | {name: run.files[name] for name in NAMED if name in run.files},
        others=tuple(sorted(hashed for name, hashed in run.files.items() if name not in NAMED)),
        baseline=sha256_file(baseline) if baseline else "",
    )
    write_sealed(into / MANIFEST, manifest.plain())


def read_manifest(folder: Path) -> Manifest:
    """Read a shared folder's manifest; a damaged one is a `UserError`."""
    file = folder / MANIFEST
    raw = read_sealed(file, SCHEMA, MEND)
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise DamagedFile(f"{file}: {explain(error, raw, Manifest)[0]}; {MEND}") from error


def differences(folder: Path, run_dir: Path | None, baseline: Path | None) -> Iterator[str]:
    """Yield what is not as a shared folder's manifest says: in the folder, and in the run that it was made of."""
    manifest = read_manifest(folder)
    yield from _other_files(folder, manifest.files)
    known = {MANIFEST, *manifest.files, *(MANIFEST + suffix for suffix in SIGNATURES)}
    yield from (f"{file}: not in the manifest" for file in sorted(folder.iterdir()) if file.name not in known)
    if run_dir:
        yield from _other_files(run_dir, manifest.run)
        run = read_run(run_dir)
        unnamed = {name: hashed for name, hashed in run.files.items() if name not in NAMED}
        yield from _other_files(run_dir, unnamed)
        if tuple(sorted(unnamed.values())) != manifest.others:
            yield f"{run_dir}: its artifacts, patches and pictures are not those of the manifest"
    if baseline and not manifest.baseline:
        yield f"{baseline}: the manifest names no baseline"
    elif baseline:
        yield from _other_files(baseline.parent, {baseline.name: manifest.baseline})


def _other_files(folder: Path, hashes: dict[str, str]) -> Iterator[str]:
    for name, expected in hashes.items():
        file = folder / name
        if not file.is_file():
            yield f"{file}: missing"
        elif (found := sha256_file(file)) != expected:
            yield f"{file}: expected sha256 {expected}, got {found}"
