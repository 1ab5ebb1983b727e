"""A run, frozen into one small file for a repository: cells, each image's outcome, patches, and the hashes of the rest.

The file is JSON that can be read in a review: a line a cell with its rates. Arrays are packed: int16 or uint8, zlib,
base64.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from harness.results.columns import CELL_COLUMNS
from harness.results.metrics import cells
from harness.results.outcomes import Outcomes, clean_rows, outcomes
from harness.store import write_text
from patches.patch import CONTROLS, Patch
from patches.surrogate import Surrogate

SCHEMA = 1
KIND = "patchbench baseline"
OLD_DEFENCE = re.compile(r"-through-(jpeg\d|median\d)")  # in the names of patches in older baselines
# What is kept of run.json; and of its lists, all but what is large and decides nothing.
KEPT = ("started", "commit", "versions", "victims", "artifacts", "patches", "targets", "cases", "errors")
DROPPED = ("operators", "checks", "file", "bytes", "others")
RATES = ("clean_accuracy", "n_clean", "targeted_success", "n_targeted", "untargeted_success", "n_untargeted")


class FrozenPatch(NamedTuple):
    """A baseline's patch, and the sha256 of the weights that it was made for."""

    patch: Patch
    weights: str


@dataclass(frozen=True, eq=False)
class Frozen:
    """A run as gate and history see it: its outcomes on the evaluation images, and ``facts`` of what gave them."""

    source: Path
    facts: Mapping[str, Any]
    outcomes: Outcomes

    def fact(self, kind: str, name: str) -> Mapping[str, Any]:
        """An entry of a list of the facts (``artifacts``, ``patches``, ...) by its name; empty where there is none."""
        return next((entry for entry in self.facts.get(kind, ()) if entry["name"] == name), {})


def of_run(run_dir: Path) -> Frozen:
    """A finished run directory, frozen in memory; anything else is a `UserError`."""
    run, whole = _read_run(run_dir)
    return Frozen(run_dir, _facts(run), outcomes(whole))


def freeze(run_dir: Path, file: Path) -> Frozen:
    """Writes a run's baseline, beside and renamed."""
    run, whole = _read_run(run_dir)
    frozen = Frozen(run_dir, _facts(run), outcomes(whole))
    known = frozen.outcomes
    table = cells(whole[whole["split"] == "evaluate"]).set_index(list(CELL_COLUMNS))
    rates = table.loc[pd.MultiIndex.from_frame(known.cells), [*RATES, "status"]].reset_index(drop=True)
    rates = rates.astype(object).where(rates.notna(), None)
    if known.preds.max(initial=0) > np.iinfo(np.int16).max:
        raise UserError(f"{run_dir}: expected at most {np.iinfo(np.int16).max + 1} classes for a baseline")
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        **frozen.facts,
        "patch_pixels": [_patch(run_dir, patch) for patch in run["patches"]],
        "images": _pack(np.frombuffer("\n".join(known.images).encode(), np.uint8)),
        "labels": _pack(known.labels.astype(np.int16)),
        "preds": _pack(known.preds.astype(np.int16)),
        "cells": pd.concat([known.cells, rates], axis=1).to_dict("records"),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, _text(content))
    return frozen


def read(path: Path) -> Frozen:
    """A baseline file or a run directory; another schema, damage and a baseline without cells are a `UserError`."""
    if path.is_dir():
        return of_run(path)
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        if raw.get("kind") != KIND or raw.get("schema") != SCHEMA:
            found = f"{raw.get('kind')!r} of schema {raw.get('schema')}"
            raise UserError(f"{path}: expected a {KIND} of schema {SCHEMA}, got {found}; freeze it anew")
        if not raw["cells"]:
            raise UserError(f"{path}: expected a baseline, got one without a cell")
        labels = _unpack(raw["labels"])
        images = np.array(bytes(_unpack(raw["images"])).decode().split("\n"))
        table, preds = pd.DataFrame(raw["cells"])[list(CELL_COLUMNS)], _unpack(raw["preds"])
        if preds.shape != (len(table), len(images)) or labels.shape != images.shape:
            raise UserError(f"{path}: expected predictions ({len(table)}, {len(images)}), got {preds.shape}; damaged")
        facts = {name: raw[name] for name in ("suite", "ids_sha256", "failed_checks", *KEPT)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise UserError(f"{path}: neither a run directory nor a baseline ({error!r})") from error
    known = Outcomes(table, images, labels.astype(np.int64), preds.astype(np.int32), clean_rows(table))
    return Frozen(path, facts, known)


def patches_of(file: Path) -> dict[str, FrozenPatch]:
    """The patches of a baseline file by name; a baseline without their pixels is a `UserError`.

    Controls apart, and patches made for each image, which are too large for a repository: those are made anew, and
    their hash, which is kept, has to be the same.
    """
    frozen = read(file)
    if file.is_dir():
        raise UserError(f"{file}: expected a baseline file, as `patchbench baseline` writes it")
    pixels = {entry["name"]: entry for entry in json.loads(file.read_text())["patch_pixels"]}
    out = {}
    for facts in frozen.facts["patches"]:
        if facts["attack"] in CONTROLS or facts.get("per_image"):
            continue
        if "pixels" not in pixels[facts["name"]]:
            raise UserError(f"{file}: has no pixels of patch {facts['name']}; freeze the run anew")
        held = pixels[facts["name"]]
        places = _unpack(held["corners"]).astype(np.int32) if "corners" in held else None
        arrays = {"pixels": _unpack(held["pixels"]), "mask": _unpack(held["mask"]).astype(bool)}
        named = {name: facts[name] for name in ("name", "attack", "surrogate", "target_class", "seed", "shape")}
        named["name"] = OLD_DEFENCE.sub(r"-defence-\1", facts["name"])
        patch = Patch(corners=places, checks={"frozen": file.name}, **named | arrays)
        if patch.sha256 != facts["sha256"]:
            raise UserError(f"{file}: patch {patch.name} is damaged: sha256 {patch.sha256}, not {facts['sha256']}")
        source = Surrogate.parse(facts["surrogate"]).of
        made_of = frozen.fact("victims", source) or frozen.fact("artifacts", source)
        out[patch.name] = FrozenPatch(patch, str(facts.get("made_of") or made_of.get("sha256", "")))
    return out


def _read_run(run_dir: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    try:
        run = json.loads((run_dir / "run.json").read_text())
        whole = pd.read_parquet(run_dir / "records.parquet")
        if run["schema"] != 1:
            raise UserError(f"{run_dir / 'run.json'}: expected a run of schema 1, got {run['schema']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run_dir}: expected the run.json and records.parquet of a finished run ({error})") from error
    if not len(whole[whole["split"] == "evaluate"]):
        raise UserError(f"{run_dir}: expected a run with cells, got none")
    return run, whole


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"suite": run["suite"]["name"], "ids_sha256": run["data"].get("ids_sha256", {})}
    failed = [f"{c['asks']} {c['says']}" for c in run.get("checks", []) if c["status"] == "failed"]
    kept["failed_checks"] = failed
    for name in KEPT:
        value = run.get(name, [])
        if isinstance(value, list):
            value = [{k: v for k, v in entry.items() if k not in DROPPED} for entry in value]
        kept[name] = value
    return kept


def _patch(run_dir: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A patch's pixels and mask, so that a later run can replay these very ones."""
    file = (run_dir / facts["file"]).with_suffix(".npz")
    if facts.get("per_image") or not file.is_file():
        return {"name": facts["name"]}
    patch = Patch.read(file)
    if patch.sha256 != facts["sha256"]:
        raise UserError(
            f"{file}: expected the patch that the run replayed, sha256 {facts['sha256']}, got {patch.sha256} "
            f"(the file's is {sha256_file(file)[:12]}); run the suite again"
        )
    places = {} if patch.corners is None else {"corners": _pack(patch.corners.astype(np.int16))}
    return {"name": facts["name"], "pixels": _pack(patch.pixels), "mask": _pack(patch.mask.astype(np.uint8))} | places


def _pack(array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    packed = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "zlib": packed}


def _unpack(packed: Mapping[str, Any]) -> NDArray[Any]:
    if packed["dtype"] not in ("int16", "uint8"):
        raise ValueError(f"an array of {packed['dtype']}")
    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    return np.frombuffer(zlib.decompress(base64.b64decode(packed["zlib"])), dtype).reshape(packed["shape"])


def _text(content: Mapping[str, Any]) -> str:
    """JSON with a line for each entry of a list, so that a change shows in a diff."""
    parts = []
    for key, value in content.items():
        lines = isinstance(value, list) and bool(value)
        text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]" if lines else json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
