"""Write the page of findings from finished studies: ``python benchmarks/study.py out/study-cifar10 out/study-defence``.

Writes ``benchmarks/results/study.md`` and, in ``benchmarks/results/study/``, one folder per study with the figures and
tables that the page shows.
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd

from harness.config.study import ANALYSES
from harness.study import findings, output

RESULTS = Path(__file__).parent / "results"
MOST_BYTES = 400_000  # a larger table is not kept in the repository


def main(run_dirs: list[Path]) -> None:
    """Copy figures and tables, and write the page around them."""
    shutil.rmtree(RESULTS / "study", ignore_errors=True)
    lines = ["# The study", ""]
    for run_dir in run_dirs:
        lines += section(run_dir)
    (RESULTS / "study.md").write_text("\n".join(lines).rstrip() + "\n")


def section(run_dir: Path) -> list[str]:
    """Return the lines of one study, and copy its figures and tables."""
    run = json.loads((run_dir / "run.json").read_text())
    suite = run["suite"]
    into = RESULTS / "study" / suite["name"].removeprefix("study-")
    into.mkdir(parents=True)
    cpu = run.get("machine", {}).get("cpu", "")
    machine = f" on {cpu}" if cpu else ""
    command = f"patchbench study benchmarks/suites/{suite['name']}.toml"
    lines = [f"## {suite['title']}", "", f"{suite['data']['note']} Made by `{command}`{machine}.", ""]
    if (run_dir / "study" / "bitwidth.csv").is_file():
        lines += [
            "### What the literature claims",
            "",
            findings.markdown(findings.measure(output.tables(run_dir / "study"))),
            "",
        ]
        cells = pd.DataFrame(json.loads((run_dir / "summary.json").read_text())["cells"])
        lines += ["### The networks: accuracy on clean images, %", "", networks(cells), ""]
    for name in ANALYSES:
        found = output.read(run_dir / "study", name)
        if found and found.figures:
            lines += analysis(found, run_dir / "study", into)
    return lines


def networks(cells: pd.DataFrame) -> str:
    """Return clean accuracy in percent by network and precision, simulated and on LiteRT, as a Markdown table."""
    clean = cells[(cells["attack"] == "none") & cells["calibration"].isin(["", "minmax"]) & (cells["status"] == "ok")]
    clean = clean[~clean["granularity"].astype(str).str.contains("qat") & clean["target"].isin(["torch", "litert"])]
    table = clean.pivot_table(index="victim", columns=["format", "precision"], values="clean_accuracy", sort=False)
    heads = []
    for kind, precision in table.columns:
        name = precision.replace("fp32", "float")
        heads.append(name if kind == "torch" else f"{name}, LiteRT")
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for victim, row in table.iterrows():
        shares = ["" if pd.isna(share) else f"{100 * share:.1f}" for share in row]
        lines.append(f"| {victim} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def analysis(found: output.Output, folder: Path, into: Path) -> list[str]:
    """Return an analysis' question, its figures with captions and a link to its table, and copy them."""
    lines = [f"### {found.question}", ""]
    for figure in found.figures:
        shutil.copy(folder / figure.file, into / figure.file)
        lines += [f"![{found.name}](study/{into.name}/{figure.file})", "", figure.caption, ""]
    table = folder / f"{found.name}.csv"
    if table.stat().st_size < MOST_BYTES:
        shutil.copy(table, into / table.name)
        lines += [f"[{table.name}](study/{into.name}/{table.name})", ""]
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", metavar="RUN", nargs="+", type=Path)
    main(parser.parse_args().run_dirs)
