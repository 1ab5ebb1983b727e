"""Copies of a made-up run with known changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.results.run_directory import RunFacts, write_run
from helpers.made_run import FILES

SOME = [FILES[0], FILES[4], FILES[6]]


MOVING = "net-onnx-w8a8-s8s8-moving_average"


Edit = Callable[[pd.DataFrame, dict[str, Any]], pd.DataFrame | None]


def after(before: Path, folder: Path, edit: Edit) -> Path:
    """A copy of the run with its records and facts edited."""
    run_dir = folder / "after"
    shutil.copytree(before, run_dir)
    records, run = pd.read_parquet(run_dir / "records.parquet"), facts_of(run_dir)
    edited = edit(records, run)
    rewrite(run_dir, records if edited is None else edited, run)
    return run_dir


def facts_of(run_dir: Path) -> dict[str, Any]:
    """What run.json says, without its seal."""
    content = json.loads((run_dir / "run.json").read_text())
    return {name: value for name, value in content.items() if name not in ("sha256", "files")}


def rewrite(run_dir: Path, records: pd.DataFrame | None = None, run: dict[str, Any] | None = None) -> None:
    """Write other records or facts into a run directory, sealed as a run would have."""
    if records is not None:
        records.to_parquet(run_dir / "records.parquet", index=False)
    write_run(run_dir, RunFacts.model_validate(facts_of(run_dir) if run is None else run))


def flip(share: float, attack: str = "gap", artifact: str = MOVING) -> Edit:
    """A share of one artifact's images answers otherwise: with the patch's class, without a patch wrongly."""

    def edit(records: pd.DataFrame, run: dict[str, Any]) -> None:
        chosen = np.random.default_rng(0).permutation(records["image"].unique())
        few = set(chosen[: round(share * len(chosen))])
        here = (records["artifact"] == artifact) & (records["attack"] == attack) & records["image"].isin(few)
        wrong = (records["label"] + 1) % 10 if attack == "none" else records["target_class"]
        records.loc[here, "pred"] = wrong[here]

    return edit


def both(*edits: Edit) -> Edit:
    def edit(records: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
        for one in edits:
            records = out if (out := one(records, run)) is not None else records
        return records

    return edit


def facts(kind: str, **change: Any) -> Edit:
    """Changes entries of a list of run.json."""

    def edit(records: pd.DataFrame, run: dict[str, Any]) -> None:
        for entry in run[kind]:
            entry.update({k: v(entry) if callable(v) else v for k, v in change.items()})

    return edit


def renamed(records: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
    """The artifact has another calibration, and so another name."""
    name = MOVING.replace("moving_average", "entropy")
    for entry in run["artifacts"]:
        if entry["name"] == MOVING:
            entry.update(name=name, quant={"calibration": "entropy"}, sha256="0" * 64)
    return records.replace({"artifact": {MOVING: name}, "calibration": {"moving_average": "entropy"}}).query(
        "artifact != 'net-onnx-w8a8-u8s8-moving_average'"
    )


def broken(records: pd.DataFrame, run: dict[str, Any]) -> None:
    here = (records["artifact"] == MOVING) & (records["attack"] == "gap")
    records.loc[here, ["status", "pred"]] = ["crash: SIGSEGV", -1]
    run["errors"] = [{"artifact": MOVING, "target": "ort", "case": "gap", "message": "crash: SIGSEGV"}]


def relabelled(records: pd.DataFrame, run: dict[str, Any]) -> None:
    records.loc[records["image"] == "test-00003", "label"] = 9


def anew(entry: dict[str, Any]) -> str:
    return "f" * 64 if entry["attack"] == "gap" else str(entry["sha256"])


OTHER_WEIGHTS = facts("victims", sha256="e" * 64)


OTHER_FILES = facts("artifacts", sha256=lambda entry: entry["sha256"] and "d" * 64)


NEW_VERSION = facts("targets", info={"version": "2.0", "kernels": "xnnpack"})


NEW_PATCHES = facts("patches", sha256=anew)
