"""Baselines: a run frozen into one small file for a repository, with cells, answers, patches and all hashes.

The file is JSON that can be read in a review: one line per cell, with its rates. Arrays are packed: int16 or uint8,
zlib, base64.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from harness.results.columns import CELL_COLUMNS, RATES
from harness.results.entries import (
    ArtifactEntry,
    CaseEntry,
    Cells,
    Entry,
    ErrorEntry,
    PatchEntry,
    TargetEntry,
    VictimEntry,
)
from harness.results.metrics import cells
from harness.results.outcomes import Outcomes, clean_rows, outcomes
from harness.results.run_directory import Run, read_records, read_run
from harness.store import write_text
from harness.tables import explain
from patches.patch import CONTROLS, Patch
from patches.surrogate import Surrogate

SCHEMA = 1
KIND = "patchbench baseline"
OLD_DEFENCE = re.compile(r"-through-(jpeg\d|median\d)")  # in the names of patches in older baselines
DROPPED = frozenset({"operators", "checks", "file", "bytes", "others"})  # of entries: large, and decides nothing
FROZEN_COLUMNS = [column for rate, kind in RATES.items() for column in (rate, f"n_{kind}")]


class Facts(Entry):
    """What a baseline keeps of a run: what was attacked, with what, and where."""

    suite: str
    ids_sha256: dict[str, str]
    failed_checks: tuple[str, ...]
    started: str = ""
    commit: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    victims: tuple[VictimEntry, ...] = ()
    artifacts: tuple[ArtifactEntry, ...] = ()
    patches: tuple[PatchEntry, ...] = ()
    targets: tuple[TargetEntry, ...] = ()
    cases: tuple[CaseEntry, ...] = ()
    errors: tuple[ErrorEntry, ...] = ()


class Packed(Entry):
    """An array: zlib in base64, little-endian."""

    dtype: Literal["int16", "uint8"]
    shape: tuple[int, ...]
    zlib: str

    def array(self) -> NDArray[Any]:
        """Return the array, read-only; a damaged one is a ``ValueError`` or `zlib.error`."""
        data = zlib.decompress(base64.b64decode(self.zlib))
        return np.frombuffer(data, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)


class PackedPatch(Entry):
    """A patch's pixels, so that later runs can replay it; a patch that is too large has a name alone."""

    name: str
    pixels: Packed | None = None
    mask: Packed | None = None
    corners: Packed | None = None


class BaselineFile(Facts):
    """The content of a baseline file."""

    schema_: Literal[1] = Field(alias="schema")
    kind: Literal["patchbench baseline"]
    patch_pixels: tuple[PackedPatch, ...] = ()
    images: Packed
    labels: Packed
    preds: Packed
    cells: Cells


class FrozenPatch(NamedTuple):
    """A baseline's patch, and the sha256 of the weights that it was crafted on."""

    patch: Patch
    weights: str


@dataclass(frozen=True, eq=False)
class Frozen:
    """A run as gate and history see it: its outcomes on the evaluation images, and the facts about them."""

    source: Path
    facts: Facts
    outcomes: Outcomes

    def victim(self, name: str) -> VictimEntry:
        """Return the entry of a victim; an empty one where there is none."""
        return next((one for one in self.facts.victims if one.name == name), VictimEntry(name=name))

    def artifact(self, name: str) -> ArtifactEntry:
        """Return the entry of an artifact; an empty one where there is none."""
        return next((one for one in self.facts.artifacts if one.name == name), ArtifactEntry(name=name))

    def patch(self, name: str) -> PatchEntry:
        """Return the entry of a patch; an empty one where there is none."""
        return next((one for one in self.facts.patches if one.name == name), PatchEntry(name=name))

    def target(self, name: str) -> TargetEntry:
        """Return the entry of a target; an empty one where there is none."""
        return next((one for one in self.facts.targets if one.name == name), TargetEntry(name=name))


def of_run(run_dir: Path) -> Frozen:
    """Return a finished run directory as a frozen run; anything else is a `UserError`."""
    run, records = _read_run(run_dir)
    return Frozen(run_dir, _facts(run), outcomes(records))


def freeze(run_dir: Path, file: Path) -> Frozen:
    """Write a run's baseline."""
    run, records = _read_run(run_dir)
    frozen = Frozen(run_dir, _facts(run), outcomes(records))
    known = frozen.outcomes
    table = cells(records[records["split"] == "evaluate"]).set_index(list(CELL_COLUMNS))
    rates = table.loc[pd.MultiIndex.from_frame(known.cells), [*FROZEN_COLUMNS, "status"]].reset_index(drop=True)
    rates = rates.astype(object).where(rates.notna(), None)
    if known.preds.max(initial=0) > np.iinfo(np.int16).max:
        raise UserError(f"{run_dir}: expected at most {np.iinfo(np.int16).max + 1} classes for a baseline")
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        **frozen.facts.plain(),
        "patch_pixels": [_packed_patch(run_dir, patch).plain() for patch in run.patches],
        "images": _pack(np.frombuffer("\n".join(known.images).encode(), np.uint8)).plain(),
        "labels": _pack(known.labels.astype(np.int16)).plain(),
        "preds": _pack(known.preds.astype(np.int16)).plain(),
        "cells": pd.concat([known.cells, rates], axis=1).to_dict("records"),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, _text(content))
    return frozen


def read(path: Path) -> Frozen:
    """Read a baseline file or a run directory; another schema, damage or a baseline without cells is a `UserError`."""
    if path.is_dir():
        return of_run(path)
    raw = read_file(path)
    try:
        labels = raw.labels.array().astype(np.int64)
        images = np.array(bytes(raw.images.array()).decode().split("\n"))
        preds = raw.preds.array().astype(np.int32)
        table = pd.DataFrame(raw.cells)[list(CELL_COLUMNS)]
    except (ValueError, KeyError, zlib.error) as error:
        raise UserError(f"{path}: neither a run directory nor a baseline ({error!r})") from error
    if preds.shape != (len(table), len(images)) or labels.shape != images.shape:
        raise UserError(f"{path}: expected predictions ({len(table)}, {len(images)}), got {preds.shape}; damaged")
    facts = Facts.model_validate(raw.model_dump(include=set(Facts.model_fields), exclude_unset=True))
    return Frozen(path, facts, Outcomes(table, images, labels, preds, clean_rows(table)))


def read_file(path: Path) -> BaselineFile:
    """Read the content of a baseline file; another schema and anything else is a `UserError`."""
    try:
        raw = json.loads(path.read_text())
        kind, schema = raw.get("kind"), raw.get("schema")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: neither a run directory nor a baseline ({error!r})") from error
    if (kind, schema) != (KIND, SCHEMA):
        found = f"{kind!r} of schema {schema}"
        raise UserError(f"{path}: expected a {KIND} of schema {SCHEMA}, got {found}; freeze the run again")
    if raw.get("cells") == []:
        raise UserError(f"{path}: expected a baseline, got one without a cell")
    try:
        return BaselineFile.model_validate(raw)
    except ValidationError as error:
        fault = explain(error, raw, BaselineFile)[0]
        raise UserError(f"{path}: neither a run directory nor a baseline ({fault})") from error


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
        raise UserError(f"{file}: has no pixels of patch {entry.name}; freeze the run again")
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
    except (ValueError, zlib.error) as error:
        raise UserError(f"{file}: patch {entry.name} is damaged ({error!r}); freeze the run again") from error
    if patch.sha256 != entry.sha256:
        raise UserError(f"{file}: patch {patch.name} is damaged: sha256 {patch.sha256}, not {entry.sha256}")
    return patch


def _read_run(run_dir: Path) -> tuple[Run, pd.DataFrame]:
    run = read_run(run_dir)
    records = read_records(run_dir)
    if not len(records[records["split"] == "evaluate"]):
        raise UserError(f"{run_dir}: expected a run with cells, got none")
    return run, records


def _facts(run: Run) -> Facts:
    kept = {
        name: [entry.plain(without=DROPPED) for entry in getattr(run, name)]
        for name in ("victims", "artifacts", "patches", "targets", "cases", "errors")
    }
    content = {
        "suite": run.suite.name,
        "ids_sha256": run.data.ids_sha256,
        "failed_checks": [f"{check.asks} {check.says}" for check in run.checks if check.status == "failed"],
        "started": run.started,
        "commit": run.commit,
        "versions": run.versions,
    }
    return Facts.model_validate(content | kept)


def _packed_patch(run_dir: Path, entry: PatchEntry) -> PackedPatch:
    file = (run_dir / entry.file).with_suffix(".npz")
    if entry.per_image or not file.is_file():
        return PackedPatch(name=entry.name)
    patch = Patch.read(file)
    if patch.sha256 != entry.sha256:
        raise UserError(
            f"{file}: expected the patch that the run replayed, sha256 {entry.sha256}, got {patch.sha256} "
            f"(the file's is {sha256_file(file)[:12]}); run the suite again"
        )
    arrays = {"pixels": _pack(patch.pixels), "mask": _pack(patch.mask.astype(np.uint8))}
    if patch.corners is not None:
        arrays["corners"] = _pack(patch.corners.astype(np.int16))
    return PackedPatch(name=entry.name, **arrays)


def _pack(array: NDArray[Any]) -> Packed:
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    packed = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode()
    return Packed.model_validate({"dtype": str(array.dtype), "shape": array.shape, "zlib": packed})


def _text(content: Mapping[str, object]) -> str:
    """Return JSON with one line per entry of a list, so that a change shows in a diff."""
    parts = []
    for key, value in content.items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
