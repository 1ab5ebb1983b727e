"""The page: records and run.json in, one self-contained report.html out."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.report import rows
from harness.report.agreement import pages
from harness.report.calibration import calibration_figures
from harness.report.headline import NO, QUESTION, WORKS_IN_LAB, YES, headline, percent
from harness.report.labels import attack_label, labelled
from harness.report.success import success_figures
from harness.report.waterfall import waterfall
from harness.results import paired
from harness.results.checks import checks, doubts
from harness.results.lab_to_device import Chain, chains
from harness.results.metrics import cells, summarise
from harness.results.outcomes import outcomes
from harness.results.run_directory import Run, read_records, read_run
from harness.results.stats import Difference
from harness.store import write_text
from patches.patch import CONTROLS

HERE = Path(__file__).parent
MOST_CHAINS = 12  # drawn; the table has all
MOST_CELLS = 3000  # rows of the table of cells; all are in cells.csv


def build(run_dir: Path, run: Run | None = None) -> Path:
    """Writes ``report.html`` into a run directory, from its ``records.parquet`` and ``run.json``; gives its path.

    ``run`` is the content of run.json where that is still to be written.

    The page fetches nothing: pictures are data URIs, figures inline SVG, and its policy forbids all but its own script.
    All text that comes from files is escaped.
    """
    run = run or read_run(run_dir)
    records = read_records(run_dir)
    table = cells(records)
    found = run.checks or checks(run, table)
    table = labelled(table.assign(doubts=doubts(table, found)))
    sanity, table = table[table["split"] == "all"], table[table["split"] != "all"]
    summary = labelled(summarise(table, records[records["split"] != "all"]))
    script = (HERE / "report.js").read_text()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.ChainableUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": percent, "change": _change, "pct": _number, "json": _json, "short": _short_hash,
        "attack_label": attack_label,
    }  # fmt: skip
    each = [patch.name for patch in run.patches if patch.per_image]
    page = environment.get_template("report.html").render(
        run=run, question=QUESTION, controls=CONTROLS, head=headline(table, each),
        rules={"lab": WORKS_IN_LAB, "yes": YES, "no": NO},
        style=Markup((HERE / "report.css").read_text()), script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        failures=rows.failures(table, run), checks=found,
        results=rows.results(summary),
        success=success_figures(table, summary), lab_to_device=_lab_to_device(run, records, table),
        calibration=calibration_figures(table), calibrations=_calibrations(table),
        pairs=paired.calibrations(outcomes(records)),
        labels=dict(zip(table["artifact"], table["artifact_label"], strict=True)),
        attacks=rows.attacks(run), patches=rows.patches(run, table, run_dir),
        examples=rows.examples(run, table, run_dir), latency=rows.latency(run, table), agreement=pages(run, table),
        controls_shown=rows.controls_shown(summary),
        cells=_cells(table), n_cells=len(table),
        sanity=sanity.to_dict("records"), n_patches=table.loc[~table["attack"].isin(CONTROLS), "patch"].nunique(),
        n_images=records.loc[records["split"] != "all", "image"].nunique(),
    )  # fmt: skip
    path = run_dir / "report.html"
    write_text(path, page)
    return path


class _Chains(NamedTuple):
    """A victim's chains from lab to device, the first ``shown`` of them drawn."""

    victim: str
    svg: Markup
    chains: list[Chain]
    shown: int


def _lab_to_device(run: Run, records: pd.DataFrame, table: pd.DataFrame) -> list[_Chains]:
    """For each victim its chains from lab to device, drawn and as rows; none where nothing stands between."""
    versions = {target.name: str(target.info.get("version", "")) for target in run.targets}
    found = chains(outcomes(records), versions)
    labels = dict(zip(table["artifact"], table["artifact_label"], strict=True))
    out = []
    for victim in dict.fromkeys(chain.columns["victim"] for chain in found):
        own = [chain for chain in found if chain.columns["victim"] == victim]
        out.append(_Chains(victim, waterfall(own[:MOST_CHAINS], labels), own, min(len(own), MOST_CHAINS)))
    return out


def _cells(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows of the table of cells; ``control_of`` is the patch in whose own place a control lies."""
    rows = table.head(MOST_CELLS)
    return [row | {"control_of": str(row["patch"]).partition("@")[2]} for row in rows.to_dict("records")]


def _calibrations(table: pd.DataFrame) -> list[str]:
    return [name.replace("_", " ") for name in table["calibration"].unique() if name]


def _number(rate: Any, digits: int = 1) -> str:
    """A fraction in percent without the sign, for columns whose head has it."""
    return percent(rate, digits).removesuffix("\u00a0%") if isinstance(rate, int | float) else "–"


def _change(found: Difference | None) -> str:
    """A change in points with its interval."""
    if found is None or pd.isna(found.value):
        return "–"
    value, low, high = (f"{round(100 * x, 1) + 0.0:+.1f}" for x in found[:3])
    return f"{value} ({low} to {high})"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _short_hash(text: Any) -> Markup:
    return Markup('<code title="{0}">{1}</code>').format(text, str(text)[:12])
