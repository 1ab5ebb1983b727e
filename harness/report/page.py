"""The page: run.json and the records in, one self-contained report.html out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.report import rows
from harness.report.agreement import pages
from harness.report.calibration import calibration_figures
from harness.report.defences import defended, pareto_figure
from harness.report.headline import headline
from harness.report.labels import attack_label, case_labels, labelled
from harness.report.latency import latencies
from harness.report.packed import packed
from harness.report.pages import environment, points
from harness.report.success import success_figures
from harness.report.svg import MARKS, page_style
from harness.report.waterfall import chains_by_victim, unchanged
from harness.report.wording import NO, QUESTION, YES, percent
from harness.results import paired
from harness.results.checks import WORTHWHILE
from harness.results.gathering import outcomes
from harness.results.judged import Judged, judged
from harness.results.record_files import read_outcomes
from harness.results.run_directory import REPORT, RunFacts, read_run
from harness.results.stats import Difference
from harness.store import write_text
from patches.patch import CONTROLS

HERE = Path(__file__).parent
CELLS_SHOWN = 1500  # rows of the table of cells; of more, the page shows `FIRST_CELLS` and has the others packed
FIRST_CELLS = 100
CELLS_PACKED = 150_000  # of a thousand images each they take 16 bytes a cell; cells.csv has all
ROWS_SHOWN = 500  # of any other table; summary.json and run.json have all
CHAINS_SHOWN = 30  # of a victim, from lab to device
PAGES_SHOWN = 30  # files whose targets are compared
MANY_CELLS = 10_000  # above it, the first `FIGURES_SHOWN` of a kind are drawn: a figure takes seconds
FIGURES_SHOWN = 1
MARKS_SHOWN = 50  # of a bar in such a figure
PATCHES_SHOWN = 300  # pictures; the folder of patches has all
HASHES_SHOWN = 1000  # rows of the patches' hashes; run.json has all


def build(run_dir: Path, run: RunFacts | None = None, known: Judged | None = None) -> Path:
    """Write ``report.html`` to a run directory from its records and ``run.json``, and return its path.

    ``run`` and what is ``known`` of it are those of a run.json that is not written yet. The page fetches nothing:
    pictures are data URIs, figures inline SVG, and its policy forbids every script but its own. All text from files is
    escaped.
    """
    run = run or read_run(run_dir)
    path = run_dir / REPORT
    write_text(path, text(run_dir, run, known or judged(run, read_outcomes(run_dir, run))))
    return path


def text(run_dir: Path, run: RunFacts, known: Judged, notice: str = "") -> str:
    """Return the page, with a ``notice`` below its headline; it has the pictures that lie in the run directory."""
    content = _content(run_dir, run, known) | {"notice": notice}
    scripts = ["report.js", "cells.js"] if content["packed"] else ["report.js"]
    return _environment().get_template("report.html").render(_assets(scripts) | content)


def _environment() -> jinja2.Environment:
    made = environment(jinja2.ChainableUndefined)
    made.filters |= {
        "pct": _number,
        "change": _change,
        "json": _json,
        "short": _short_hash,
        "attack_label": attack_label,
    }
    made.tests["unchanged"] = unchanged
    return made


def _assets(scripts: Sequence[str]) -> dict[str, object]:
    script = "".join((HERE / name).read_text() for name in scripts)
    return {
        "style": Markup(page_style()),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _content(run_dir: Path, run: RunFacts, known: Judged) -> dict[str, object]:
    """Return what the templates show, by the name that they use."""
    every = labelled(known.cells)
    table = every[every["split"] != "all"]
    summary = labelled(known.over_patches[known.over_patches["split"] != "all"])
    matrix = outcomes(known.outcomes)
    table = table.assign(
        how=case_labels(table, run.class_names),
        control_of=[str(patch).partition("@")[2] for patch in table["patch"]],
    )
    names = (["victim"] if len(run.victims) > 1 else []) + ["artifact_label", "target_label", "series_label", "how"]
    is_packed = len(table) > CELLS_SHOWN
    defences = defended(run, summary)
    results = rows.results(summary)
    labels = dict(zip(table["artifact"], table["artifact_label"], strict=True))
    is_large = len(table) > MANY_CELLS
    figures, marks = (FIGURES_SHOWN, MARKS_SHOWN) if is_large else (len(table), MARKS)
    return {
        "run": run,
        "question": QUESTION,
        "rules": {"works": WORTHWHILE, "yes": YES, "no": NO},
        "controls": CONTROLS,
        "labels": labels,
        "head": headline(matrix, table, [patch.name for patch in run.patches if patch.per_image], known.checks),
        "n_patches": table.loc[~table["attack"].isin(CONTROLS), "patch"].nunique(),
        "n_images": len(matrix.images),
        "n_cells": len(table),
        "is_large": is_large,
        "marks": marks,
        "filters": rows.filters(table),
        "failures": rows.failures(table, run),
        "checks": known.checks,
        "evaluated": rows.evaluated(table),
        "success": success_figures(table, summary, figures, marks),
        "results": results.head(ROWS_SHOWN).to_dict("records"),
        "n_results": len(results),
        "rows_shown": ROWS_SHOWN,
        "pages_shown": PAGES_SHOWN,
        "controls_shown": rows.controls_shown(summary),
        "calibration": calibration_figures(table, figures),
        "calibrations": [name.replace("_", " ") for name in table["calibration"].unique() if name],
        "pairs": paired.calibrations(matrix),
        "lab_to_device": chains_by_victim(run, matrix, labels, CHAINS_SHOWN, figures),
        "defences": defences,
        "pareto": pareto_figure(defences) if defences else None,
        "patches": rows.patches(run, table, run_dir, PATCHES_SHOWN),
        "hashed": run.patches[:HASHES_SHOWN],
        "examples": rows.examples(run, labels, run_dir),
        "agreement": pages(run, table),
        "latency": latencies(run, table),
        "attacks": rows.attacks(run),
        "sanity": every[every["split"] == "all"].to_dict("records"),
        "cells": table.head(FIRST_CELLS if is_packed else CELLS_SHOWN).to_dict("records"),
        "placed": (table["control_of"] != "").any(),
        "packed": packed(table.head(CELLS_PACKED), rows.FILTERS, names) if is_packed else "",
    }


def _number(rate: object, digits: int = 1) -> str:
    """Format a fraction in percent without the sign, for columns whose head has it."""
    return percent(rate, digits).removesuffix("\u00a0%") if isinstance(rate, int | float) else "–"


def _change(change: Difference | None) -> Markup:
    """Format a change in points with its interval."""
    if change is None or pd.isna(change.value):
        return Markup("–")
    value, low, high = map(points, change[:3])
    return Markup("{} <small>({} to {})</small>").format(value, low, high)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _short_hash(text: object) -> Markup:
    return Markup('<code title="{0}">{1}</code>').format(text, str(text)[:12])
