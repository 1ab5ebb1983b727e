"""The page of a study: each analysis' question and figures, one file that opens offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness import report
from harness.config.study import ANALYSES
from harness.store import write_text
from harness.study.findings import RULE

STYLE = Path(report.__file__).parent / "report.css"


def build(run_dir: Path) -> Path:
    """Writes ``study.html`` into a run directory, from what the analyses left in ``study``; gives its path."""
    run = json.loads((run_dir / "run.json").read_text())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    sections = [section for name in ANALYSES if (section := _section(run_dir / "study", name))]
    found = pd.read_csv(run_dir / "study" / "findings.csv").to_dict("records")
    text = environment.get_template("study.html").render(
        suite=run["suite"], sections=sections, findings=found, rule=RULE, style=Markup(STYLE.read_text())
    )
    write_text(run_dir / "study.html", text)
    return run_dir / "study.html"


def _section(folder: Path, name: str) -> dict[str, Any] | None:
    file = folder / f"{name}.json"
    if not file.is_file():
        return None
    known: dict[str, Any] = json.loads(file.read_text())
    drawn = [figure | {"svg": Markup((folder / figure["file"]).read_text())} for figure in known["figures"]]
    return known | {"name": name, "figures": drawn}
