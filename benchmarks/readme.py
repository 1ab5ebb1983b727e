"""The README's figure and table of calibration, from a finished run: ``python benchmarks/readme.py out/cifar10``.

Writes ``benchmarks/results/calibration-VICTIM.svg`` and ``calibration.md``.
"""

import sys
from pathlib import Path

import pandas as pd

from harness.metrics import cells
from harness.report.figures import calibration
from harness.report.labels import labelled

RESULTS = Path(__file__).parent / "results"
STYLE = Path(__file__).parent.parent / "harness" / "report" / "report.css"
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="background:white"'


def main(run_dir: Path) -> None:
    """Draws the same figures as the report, and a table of targeted success by target class."""
    table = labelled(cells(pd.read_parquet(run_dir / "records.parquet")))
    for victim, svg in calibration(table):
        head, tag, rest = str(svg).partition(">")
        style = f"<style>{STYLE.read_text()}</style>"
        drawn = head.replace("<svg ", f"<svg {NAMESPACES} ", 1) + tag + style + rest
        (RESULTS / f"calibration-{victim}.svg").write_text(drawn)
    clean = table[table["attack"] == "none"].set_index(["artifact", "target"])["clean_accuracy"]
    made = table[table["attack"] == "gap"]
    wide = made.pivot_table(
        index=["artifact", "target"], columns="target_class", values="targeted_success", sort=False, observed=True
    )
    lines = [f"| artifact | target | clean | {' | '.join(f'class {c}' for c in wide.columns)} |"]
    lines.append("|---|---|---:|" + "---:|" * len(wide.columns))
    for (artifact, target), row in wide.iterrows():
        rates = " | ".join(f"{100 * rate:.1f}" for rate in row)
        lines.append(f"| {artifact} | {target} | {100 * clean[artifact, target]:.1f} | {rates} |")
    (RESULTS / "calibration.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
