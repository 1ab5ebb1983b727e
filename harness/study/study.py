"""Run a study: the suite's run, then its analyses, each a table as CSV and figures as SVG, and one page."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, cast

import pandas as pd
from rich.console import Console
from rich.text import Text

from backends.device.errors import UserError
from harness import shared_store
from harness.config import read_suite
from harness.config.overrides import NO_OVERRIDES, Overrides
from harness.config.study import ANALYSES, Analysis, StudyTable
from harness.display import Display
from harness.plan.plan import Plan, make
from harness.results.run_directory import read_run, read_summary
from harness.run import run, shared_results, stages
from harness.shipped import about_suite
from harness.store import Store, write_text
from harness.study import findings, output, page
from harness.study.lib.inputs import Figure, Inputs
from harness.tables import matches
from patches.patch import CONTROLS


class AnalysisModule(Protocol):
    """A file of this folder: its question, the numbers that answer it, and the figures that show them."""

    QUESTION: str

    def measure(self, inputs: Inputs) -> pd.DataFrame:
        """Return one row per result, each with its ``n``; an empty table where the suite gives nothing to look at."""

    def draw(self, table: pd.DataFrame) -> list[Figure]:
        """Return the figures of such a table, computed or read from its CSV."""


def load(name: Analysis) -> AnalysisModule:
    """Import an analysis."""
    return cast(AnalysisModule, importlib.import_module(f"harness.study.{name}"))


def run_study(
    suite_file: Path,
    data_dir: Path | None,
    out: Path | None,
    *,
    overrides: Overrides = NO_OVERRIDES,
    only: Sequence[str] = (),
    device: str = "cpu",
    quiet: bool = False,
    store: str = "",
    console: Console,
) -> bool:
    """Run a suite and its analyses, or those named in ``only``, into ``OUT/study``; return whether no cell failed.

    Each analysis is stored as soon as it is done, so a killed study continues where it stopped.
    """
    if unknown := sorted(set(only) - set(ANALYSES)):
        raise UserError(f"no analysis named {', '.join(unknown)}; choose from {', '.join(ANALYSES)}")
    suite = read_suite(suite_file, overrides)
    run_dir = out or Path("out") / suite.name
    with about_suite(suite_file):
        plan = make(suite, run.data_folder(suite, suite_file, data_dir), run_dir / "store")
        _check(suite.study, plan)
    all_ok = run.run_suite(
        suite_file, data_dir, out, overrides=overrides, device=device, quiet=quiet, store=store, console=console
    )
    folder = run_dir / "study"
    with run.held(run_dir), about_suite(suite_file):
        display = Display(console, quiet)
        work = stages.Work(plan, Store(run_dir / "store", display.warn), display, device)
        if store:
            shared_results.connect(work, shared_store.read(store))
        inputs = _inputs(work, suite.study, run_dir)
        for name in suite.study.analyses:
            if name in (only or ANALYSES):
                with work.display.doing("study", name):
                    analysis = load(name)
                    table = analysis.measure(inputs)
                    figures = analysis.draw(table) if len(table) else []
                    output.write(folder, name, analysis.QUESTION, table, figures)
        verdicts = findings.measure(output.tables(folder))
        write_text(folder / "findings.csv", verdicts.to_csv(index=False, float_format="%.6g"))
        console.print("study:", Text(str(page.build(run_dir)), "bold"), soft_wrap=True)
    return all_ok


def _inputs(work: stages.Work, settings: StudyTable, run_dir: Path) -> Inputs:
    finished = read_run(run_dir)
    summary = read_summary(run_dir, finished)
    return Inputs(
        work,
        pd.DataFrame(summary.cells),
        pd.DataFrame(summary.over_patches),
        settings,
        pd.DataFrame([row.plain() for row in finished.latency]),
    )


def _check(settings: StudyTable, plan: Plan) -> None:
    """Refuse what ``[study]`` names and the suite lacks, before hours go by; defaults may be missing."""
    names = list(dict.fromkeys(replay.artifact.name for replay in plan.replays))
    for pattern in settings.artifacts:
        if not any(matches(name, [pattern]) for name in names):
            like = ", ".join(get_close_matches(pattern, names, n=5, cutoff=0.3))
            raise UserError(
                f"study.artifacts: {pattern!r} matches none of this suite's {len(names)} artifacts, such as {like}"
            )
    patches = [replay.case.patch for replay in plan.replays if replay.case.patch]
    attacks = sorted({patch.label or patch.attack for patch in patches} - set(CONTROLS))
    if "attack" in settings.model_fields_set and settings.attack not in attacks:
        raise UserError(f"study.attack: no {settings.attack!r} in this suite; it has {', '.join(attacks)}")
