"""The page of findings, from finished studies: ``python benchmarks/study.py out/study-cifar10 out/study-defence``.

Writes ``benchmarks/results/study.md`` and, in ``benchmarks/results/study/``, a folder a study with the figures and
tables that it shows.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from harness.config.study import ANALYSES
from harness.study import findings

RESULTS = Path(__file__).parent / "results"
MOST_BYTES = 400_000  # of a table that is kept in the repository


def main(run_dirs: list[Path]) -> None:
    """Copies figures and tables, and writes the page around them."""
    shutil.rmtree(RESULTS / "study", ignore_errors=True)
    lines = ["# The study", ""]
    for run_dir in run_dirs:
        run = json.loads((run_dir / "run.json").read_text())
        into = RESULTS / "study" / run["suite"]["name"].removeprefix("study-")
        into.mkdir(parents=True)
        lines += [f"## {run['suite']['title']}", "", f"{run['suite']['data']['note']} {_made(run)}", ""]
        if (run_dir / "study" / "bitwidth.csv").is_file():
            lines += ["### What the literature claims", "", findings.markdown(findings.measure(run_dir / "study")), ""]
            lines += [
                "### The networks: accuracy on clean images, %",
                "",
                _networks(pd.DataFrame(run_cells(run_dir))),
                "",
            ]
        for name in ANALYSES:
            lines += _section(run_dir / "study", name, into)
    (RESULTS / "study.md").write_text("\n".join(lines).rstrip() + "\n")


def run_cells(run_dir: Path) -> list[dict[str, Any]]:
    """The counted cells of a run."""
    cells: list[dict[str, Any]] = json.loads((run_dir / "summary.json").read_text())["cells"]
    return cells


def _made(run: dict[str, Any]) -> str:
    command = f"patchbench study benchmarks/suites/{run['suite']['name']}.toml"
    cpu = run.get("machine", {}).get("cpu", "")
    return f"Made by `{command}`{f' on {cpu}' if cpu else ''}."


def _networks(cells: pd.DataFrame) -> str:
    """Clean accuracy in percent by network and precision, simulated and on LiteRT."""
    clean = cells[(cells["attack"] == "none") & cells["calibration"].isin(["", "minmax"]) & (cells["status"] == "ok")]
    clean = clean[~clean["granularity"].astype(str).str.contains("qat") & clean["target"].isin(["torch", "litert"])]
    table = clean.pivot_table(index="victim", columns=["format", "precision"], values="clean_accuracy", sort=False)
    heads = [f"{p.replace('fp32', 'float')}{'' if form == 'torch' else ', LiteRT'}" for form, p in table.columns]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for victim, row in table.iterrows():
        lines.append(f"| {victim} | {' | '.join('' if pd.isna(v) else f'{100 * v:.1f}' for v in row)} |")
    return "\n".join(lines) + "\n"


def _section(folder: Path, name: str, into: Path) -> list[str]:
    """An analysis: its question, its figures with their captions, a link to its table."""
    known = json.loads((folder / f"{name}.json").read_text()) if (folder / f"{name}.json").is_file() else {}
    if not known.get("figures"):
        return []
    lines = [f"### {known['question']}", ""]
    for figure in known["figures"]:
        shutil.copy(folder / figure["file"], into / figure["file"])
        lines += [f"![{name}](study/{into.name}/{figure['file']})", "", figure["caption"], ""]
    table = folder / f"{name}.csv"
    if table.stat().st_size < MOST_BYTES:
        shutil.copy(table, into / table.name)
        lines += [f"[{table.name}](study/{into.name}/{table.name})", ""]
    return lines


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
