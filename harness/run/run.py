"""A run: a suite carried out, and its results written where its user looks for them."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from backends.device.errors import UserError
from harness.config import read_suite
from harness.display import Display
from harness.plan.plan import Plan, make
from harness.results.baseline import patches_of
from harness.results.checks import checks, doubts
from harness.results.metrics import cells as cells_of
from harness.results.metrics import summarise
from harness.results.records import Truth, records
from harness.run import crafting, replays, stages
from harness.run.description import facts
from harness.store import Store, write_json

RESULTS = ("records.parquet", "cells.csv", "summary.json", "report.html", "run.json")


def run_suite(
    suite_file: Path,
    data_dir: Path | None,
    out: Path | None,
    *,
    targets: tuple[str, ...] = ("*",),
    device: str = "cpu",
    frozen: Path | None = None,
    console: Console,
) -> bool:
    """Runs a suite into a run directory; what is there already is not done again. Whether nothing failed.

    ``frozen`` is a baseline whose patches are replayed where the weights are those that they were made for.
    """
    begun, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    suite = read_suite(suite_file)
    stages.check_device(device)
    if data_dir and not data_dir.is_dir():
        raise UserError(f"--data {data_dir}: no such folder")
    run_dir = out or Path("out") / suite.name
    with held(run_dir):
        store = Store(run_dir / "store")
        known = patches_of(frozen) if frozen else {}
        plan = make(suite, data_dir, store.root, targets, {name: (p.sha256, w) for name, (p, w) in known.items()})
        for artifact in plan.unused:
            console.print(f"[yellow]no target runs[/] {artifact.name}: it is left out", highlight=False)
        if _is_done(run_dir, plan):
            console.print("nothing has changed since the last run: nothing to do")
        else:
            patches = {name: patch for name, (patch, _) in known.items()}
            work = stages.Work(plan, store, Display(console), device, patches)
            _do(work)
            console.print("counting and writing the report ...", style="dim")
            about = {"plan": plan.key, "started": started, "seconds": time.monotonic() - begun, "command": _command()}
            whole = _records(work)
            write_results(run_dir, whole, facts(work, whole, run_dir) | about)
        return _show(run_dir, console)


def write_results(run_dir: Path, whole: pd.DataFrame | None = None, run: dict[str, Any] | None = None) -> Path:
    """Writes records, cells, summary and report, and run.json last; from what the run directory holds unless given."""
    from harness.report.page import build

    try:
        run = run or json.loads((run_dir / "run.json").read_text())
        whole = pd.read_parquet(run_dir / "records.parquet") if whole is None else whole
    except (OSError, ValueError) as error:
        raise UserError(f"{run_dir}: expected the run.json and records.parquet of a finished run ({error})") from error
    table = cells_of(whole)
    run["checks"] = checks(run, table)
    table["doubts"] = doubts(table, run["checks"])
    summary = summarise(table, whole)
    _replace(run_dir / "records.parquet", lambda path: whole.to_parquet(path, index=False))
    _replace(run_dir / "cells.csv", lambda path: table.to_csv(path, index=False, float_format="%.6g"))
    content = {"schema": 1, "suite": run["suite"]["name"], "cells": _rows(table), "over_patches": _rows(summary)}
    write_json(run_dir / "summary.json", content)
    report = build(run_dir, run)
    write_json(run_dir / "run.json", run)
    return report


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Holds a run directory: a second run in it at the same time is a `UserError`."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{run_dir}: expected a folder for the run, found a file") from error
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"{run_dir}: another run is using this directory; wait for it, or give another with --out"
        ) from error


def _is_done(run_dir: Path, plan: Plan) -> bool:
    try:
        run = json.loads((run_dir / "run.json").read_text())
    except (OSError, ValueError):
        return False
    return run.get("plan") == plan.key and not run.get("errors") and all((run_dir / name).is_file() for name in RESULTS)


def _do(work: stages.Work) -> None:
    for artifact in work.plan.artifacts:
        stages.artifact(work, artifact)
    for patch in work.plan.patches:
        crafting.patch(work, patch)
    replays.replays(work, work.plan.replays)
    replays.latencies(work, work.plan.latencies)


def _records(work: stages.Work) -> pd.DataFrame:
    truths = {}
    for case in {c.replay.case.key: c.replay.case for c in work.plan.cells}.values():
        seen = stages.images(work, case.data, case.split)
        truths[case.data.key, case.split] = Truth(np.array(seen.ids), np.array(seen.labels))
    return records(list(work.plan.cells), truths, {step.key: replays.answers(work, step) for step in work.plan.replays})


def _show(run_dir: Path, console: Console) -> bool:
    from harness.report.terminal import table

    run = json.loads((run_dir / "run.json").read_text())
    whole = json.loads((run_dir / "summary.json").read_text())
    console.print(table(pd.DataFrame(whole["over_patches"])))
    for check in run.get("checks", []):
        if check["status"] == "failed":
            console.print(f"[red]check failed:[/] {check['asks']} {check['says']}", highlight=False)
    failed = Counter((e["artifact"], e["target"], e["message"]) for e in run.get("errors", []))
    for (artifact, target, message), cases in failed.items():
        what = escape(f"{artifact} on {target}, {cases} case{'s' * (cases != 1)}: {message}")
        console.print(f"[red]failed:[/] {what}", highlight=False)
    report = run_dir / "report.html"
    console.print(f"report: [bold]{report}[/]", soft_wrap=True)
    return not any(cell["status"] == "error" for cell in whole["cells"])


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _replace(path: Path, write: Any) -> None:
    beside = path.with_name(f".{path.name}.part")
    write(beside)
    beside.replace(path)


def _command() -> str:
    return shlex.join(["patchbench", *sys.argv[1:]])
