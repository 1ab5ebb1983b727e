"""Baselines: a run frozen into one small file for a repository, with cells, answers, patches and all hashes.

The file is sealed JSON that can be read in a review: one line per cell, with its rates, which have to be those of the
packed predictions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, ValidationError

from backends.device.errors import UserError
from backends.device.reading import DamagedFile, read_json
from harness.results.columns import CELL_COLUMNS, RATES, check_cells
from harness.results.entries import Cells, PatchEntry
from harness.results.frozen import Facts, Frozen
from harness.results.gathering import outcomes
from harness.results.metrics import cells
from harness.results.outcomes import Outcomes, clean_rows
from harness.results.packed import Packed, PackedPatch, pack
from harness.results.record_files import read_outcomes
from harness.results.run_directory import RunFacts, read_run, verify
from harness.sealed import sealed, unsealed
from harness.store import write_text
from harness.tables import explain
from patches.patch import CONTROLS, Patch
from patches.surrogate import Surrogate

SCHEMA = 2
MEND = "freeze the run again"
KIND = "patchbench baseline"
OLD_DEFENCE = re.compile(r"-through-(jpeg\d|median\d)")  # in the names of patches in older baselines
DROPPED = frozenset({"operators", "checks", "file", "bytes", "others"})  # of entries: large, and decides nothing
FROZEN_COLUMNS = [column for rate, kind in RATES.items() for column in (rate, f"n_{kind}")]


class BaselineFile(Facts):
    """The content of a baseline file."""

    schema_: Literal[2] = Field(alias="schema")
    kind: Literal["patchbench baseline"]
    patch_pixels: tuple[PackedPatch, ...] = ()
    images: Packed
    labels: Packed
    preds: Packed
    cells: Annotated[Cells, AfterValidator(check_cells)]


class FrozenPatch(NamedTuple):
    """A baseline's patch, and the sha256 of the weights that it was crafted on."""

    patch: Patch
    weights: str


def of_run(run_dir: Path) -> Frozen:
    """Return a finished run directory as a frozen run; anything else is a `UserError`."""
    run, known = _read_run(run_dir)
    return Frozen(run_dir, _facts(run), known)


def freeze(run_dir: Path, file: Path) -> Frozen:
    """Write a run's baseline."""
    run, known = _read_run(run_dir)
    frozen = Frozen(run_dir, _facts(run), known)
    if known.preds.max(initial=0) > np.iinfo(np.int16).max:
        raise UserError(f"{run_dir}: expected at most {np.iinfo(np.int16).max + 1} classes for a baseline")
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        **frozen.facts.plain(),
        "patch_pixels": [_packed_patch(run_dir, run, patch).plain() for patch in run.patches],
        "images": pack(np.frombuffer("\n".join(known.images).encode(), np.uint8)).plain(),
        "labels": pack(known.labels.astype(np.int16)).plain(),
        "preds": pack(known.preds.astype(np.int16)).plain(),
        "cells": [cell | rates for cell, rates in zip(known.cells.to_dict("records"), _rates(known), strict=True)],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, _text(sealed(content)))
    return frozen


def read(path: Path) -> Frozen:
    """Read a baseline file or a run directory; another schema, damage or a baseline without cells is a `UserError`."""
    if path.is_dir():
        return of_run(path)
    if not path.exists():
        what = "file; `patchbench baseline` freezes one" if path.suffix else "folder; run the suite first"
        raise UserError(f"{path}: no such {what}")
    raw = read_file(path)
    try:
        labels = raw.labels.array().astype(np.int64)
        images = np.array(bytes(raw.images.array()).decode().split("\n"))
        preds = raw.preds.array().astype(np.int32)
        table = pd.DataFrame(raw.cells)[list(CELL_COLUMNS)]
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: neither a run directory nor a baseline ({error!r})") from error
    if preds.shape != (len(table), len(images)) or labels.shape != images.shape:
        raise UserError(f"{path}: expected predictions ({len(table)}, {len(images)}), got {preds.shape}; damaged")
    known = Outcomes(table, images, labels, preds, clean_rows(table))
    _check_rates(path, raw.cells, known)
    facts = Facts.model_validate(raw.model_dump(include=set(Facts.model_fields), exclude_unset=True))
    return Frozen(path, facts, known)


def read_file(path: Path) -> BaselineFile:
    """Read the content of a baseline file; another schema and anything else is a `UserError`."""
    raw = read_json(path)
    if (raw.get("kind"), raw.get("schema")) != (KIND, SCHEMA):
        found = f"{raw.get('kind')!r} of schema {raw.get('schema')}"
        raise UserError(f"{path}: expected a {KIND} of schema {SCHEMA}, got {found}; {MEND}")
    raw = unsealed(raw, path, MEND)
    if raw.get("cells") == []:
        raise UserError(f"{path}: expected a baseline, got one without a cell")
    try:
        return BaselineFile.model_validate(raw)
    except ValidationError as error:
        fault = explain(error, raw, BaselineFile)[0]
        raise UserError(f"{path}: neither a run directory nor a baseline ({fault})") from error


def _check_rates(file: Path, listed: Cells, known: Outcomes) -> None:
    """Check that the rates that a reviewer reads are those of the packed predictions."""
    for here, rates in zip(listed, _rates(known), strict=True):
        for name, value in rates.items():
            if here.get(name) != value:
                cell = f"cell {here['artifact']} on {here['target']}, {here['patch'] or 'no patch'}"
                raise DamagedFile(f"{file}: {cell}: {name} is {here.get(name)}, its predictions say {value}; {MEND}")


def _rates(known: Outcomes) -> list[dict[str, object]]:
    """Return the rates of each cell with their n, and its status; None where there is no rate."""
    rates = cells({"evaluate": known})[[*FROZEN_COLUMNS, "status"]].astype(object)
    return cast(list[dict[str, object]], rates.where(rates.notna(), None).to_dict("records"))


def patches_of(file: Path) -> dict[str, FrozenPatch]:
    """Return a baseline file's patches by name; a baseline without their pixels is a `UserError`.

    Controls and per-image patches, which are too large for a repository, are left out: they are crafted again, and must
    have the hash that the baseline keeps.
    """
    if file.is_dir():
        raise UserError(f"{file}: expected a baseline file, as `patchbench baseline` writes it")
    frozen = read(file)
    packed = {patch.name: patch for patch in read_file(file).patch_pixels}
    out = {}
    for entry in frozen.facts.patches:
        if entry.attack not in CONTROLS and not entry.per_image:
            source = Surrogate.parse(entry.surrogate).of
            weights = entry.made_of or frozen.victim(source).sha256 or frozen.artifact(source).sha256
            name = OLD_DEFENCE.sub(r"-defence-\1", entry.name)
            out[name] = FrozenPatch(_unpacked_patch(file, entry, packed.get(entry.name)), weights)
    return out


def _unpacked_patch(file: Path, entry: PatchEntry, packed: PackedPatch | None) -> Patch:
    if packed is None or packed.pixels is None or packed.mask is None:
        raise UserError(f"{file}: has no pixels of patch {entry.name}; {MEND}")
    try:
        patch = Patch(
            name=entry.name,
            pixels=packed.pixels.array(),
            mask=packed.mask.array().astype(bool),
            attack=entry.attack,
            surrogate=entry.surrogate,
            target_class=entry.target_class,
            seed=entry.seed,
            shape=entry.shape,
            corners=packed.corners.array().astype(np.int32) if packed.corners else None,
            checks={"frozen": file.name},
        )
    except ValueError as error:
        raise UserError(f"{file}: patch {entry.name} is damaged ({error!r}); {MEND}") from error
    if patch.sha256 != entry.sha256:
        raise UserError(f"{file}: patch {patch.name} is damaged: sha256 {patch.sha256}, not {entry.sha256}")
    return patch


def _read_run(run_dir: Path) -> tuple[RunFacts, Outcomes]:
    run = read_run(run_dir)
    known = outcomes(read_outcomes(run_dir, run))
    if known.cells.empty:
        raise UserError(f"{run_dir}: expected a run with cells, got none")
    return run, known


def _facts(run: RunFacts) -> Facts:
    kept = {
        name: [entry.plain(without=DROPPED) for entry in getattr(run, name)]
        for name in ("victims", "artifacts", "patches", "targets", "cases", "errors")
    }
    content = {
        "suite": run.suite.name,
        "ids_sha256": run.data.ids_sha256,
        "failed_checks": [f"{check.asks} {check.says}" for check in run.checks if check.status == "failed"],
        "label": run.label,
        "started": run.started,
        "commit": run.commit,
        "plan": run.plan,
        "versions": run.versions,
    }
    return Facts.model_validate(content | kept)


def _packed_patch(run_dir: Path, run: RunFacts, entry: PatchEntry) -> PackedPatch:
    name = str(Path(entry.file).with_suffix(".npz")) if entry.file else ""
    if entry.per_image or name not in run.files:
        return PackedPatch(name=entry.name)
    verify(run_dir, run, name)
    patch = Patch.read(run_dir / name)
    arrays = {"pixels": pack(patch.pixels), "mask": pack(patch.mask.astype(np.uint8))}
    if patch.corners is not None:
        arrays["corners"] = pack(patch.corners.astype(np.int16))
    return PackedPatch(name=entry.name, **arrays)


def _text(content: Mapping[str, object]) -> str:
    """Return JSON with one line per entry of a list, so that a change shows in a diff."""
    parts = []
    for key, value in content.items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
