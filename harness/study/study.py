"""A study carried out: the suite's run, then its analyses, each a table as CSV and figures as SVG, and one page."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, cast

import pandas as pd
from rich.console import Console

from backends.device.errors import UserError
from harness import store
from harness.config import read_suite
from harness.config.study import ANALYSES, Analysis, StudyTable
from harness.display import Display
from harness.plan.plan import Plan, make
from harness.report.svg import standalone
from harness.run import run, stages
from harness.study import findings, page
from harness.study.lib.inputs import Figure, Inputs
from harness.tables import matches
from patches.patch import CONTROLS


class Module(Protocol):
    """A file of this folder: its question, the numbers that answer it, and their drawing."""

    QUESTION: str

    def measure(self, inputs: Inputs) -> pd.DataFrame:
        """A row a finding, each with its ``n``; empty where the suite has nothing to look at."""

    def draw(self, table: pd.DataFrame) -> list[Figure]:
        """The figures of such a table, as it comes from its CSV."""


def analysis(name: Analysis) -> Module:
    """The module of an analysis."""
    return cast(Module, importlib.import_module(f"harness.study.{name}"))


def carry_out(
    suite_file: Path,
    data_dir: Path | None,
    out: Path | None,
    *,
    only: Sequence[str] = (),
    device: str = "cpu",
    console: Console,
) -> bool:
    """Runs a suite and its analyses, or those named in `only`, into ``OUT/study``. Whether no cell of the run failed.

    Each is kept as soon as it is done: killed and started again, a study goes on where it was.
    """
    if unknown := sorted(set(only) - set(ANALYSES)):
        raise UserError(f"no analysis named {', '.join(unknown)}; there are {', '.join(ANALYSES)}")
    suite = read_suite(suite_file)
    run_dir = out or Path("out") / suite.name
    plan = make(suite, data_dir, run_dir / "store")
    _check(suite.study, plan)
    fine = run.carry_out(suite_file, data_dir, out, device=device, console=console)
    with run.held(run_dir):
        kept = store.Store(run_dir / "store")
        summary = json.loads((run_dir / "summary.json").read_text())
        cells, over_patches = (pd.DataFrame(summary[name]) for name in ("cells", "over_patches"))
        facts = json.loads((run_dir / "run.json").read_text())
        inputs = Inputs(stages.Work(plan, kept, Display(console), device), cells, over_patches, suite.study, facts)
        for name in [one for one in suite.study.analyses if one in (only or ANALYSES)]:
            with inputs.work.display.doing("study", name):
                write(name, analysis(name).measure(inputs), run_dir / "study")
        found = findings.measure(run_dir / "study")
        store.write_text(run_dir / "study" / "findings.csv", found.to_csv(index=False, float_format="%.6g"))
        console.print(f"study: [bold]{page.build(run_dir)}[/]", soft_wrap=True)
    return fine


def _check(asked: StudyTable, plan: Plan) -> None:
    """Whether everything that ``[study]`` names is there, before hours go by; an absent default is no fault."""
    names = [artifact.name for artifact in dict.fromkeys(replay.artifact for replay in plan.replays)]
    for pattern in asked.artifacts:
        if not any(matches(name, [pattern]) for name in names):
            like = ", ".join(get_close_matches(pattern, names, n=5, cutoff=0.3))
            raise UserError(
                f"study.artifacts: {pattern!r} fits none of this suite's {len(names)} artifacts, such as {like}"
            )
    attacks = sorted({patch.label or patch.attack for r in plan.replays if (patch := r.case.patch)} - set(CONTROLS))
    if "attack" in asked.model_fields_set and asked.attack not in attacks:
        raise UserError(f"study.attack: no {asked.attack!r} in this suite; it has {', '.join(attacks)}")


def write(name: Analysis, table: pd.DataFrame, into: Path) -> None:
    """Writes an analysis' table and figures: ``NAME.csv``, ``NAME.json`` (captions), ``NAME-FIGURE.svg``."""
    into.mkdir(parents=True, exist_ok=True)
    for old in into.glob(f"{name}-*.svg"):
        old.unlink()
    store.write_text(into / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    figures = analysis(name).draw(table) if len(table) else []
    for figure in figures:
        store.write_text(into / f"{name}-{figure.name}.svg", standalone(figure.svg))
    captions = [{"file": f"{name}-{figure.name}.svg", "caption": figure.caption} for figure in figures]
    store.write_json(into / f"{name}.json", {"schema": 1, "question": analysis(name).QUESTION, "figures": captions})
