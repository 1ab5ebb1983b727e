"""The page of a study: the verdicts, then each analysis' question and figures, in one file that opens offline."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.config.study import ANALYSES
from harness.data_frames import read_csv
from harness.report.svg import page_style
from harness.results.run_directory import read_run
from harness.store import write_text
from harness.study import output
from harness.study.findings import RULE


def build(run_dir: Path) -> Path:
    """Write ``study.html`` into a run directory from the outputs of its analyses, and return its path."""
    run = read_run(run_dir)
    folder = run_dir / "study"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = lambda file: Markup((folder / file).read_text())
    outputs = [output.read(folder, name) for name in ANALYSES]
    text = environment.get_template("study.html").render(
        suite=run.suite,
        sections=[one for one in outputs if one is not None],
        findings=read_csv(folder / "findings.csv").to_dict("records"),
        rule=RULE,
        style=Markup(page_style()),
    )
    write_text(run_dir / "study.html", text)
    return run_dir / "study.html"
