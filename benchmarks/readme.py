"""The README's figures and tables, from finished runs: ``python benchmarks/readme.py out/cifar10 out/targets ...``.

Writes into ``benchmarks/results/``: of a run with several calibrations ``calibration-VICTIM.svg`` and
``calibration.md``, of one with several targets ``agreement-ARTIFACT.svg`` and ``agreement.md``, of one in which devices
are asked ``ladder.md``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from harness.report.agreement import FEW, pages
from harness.report.calibration import calibration_figures
from harness.report.labels import labelled
from harness.results.metrics import cells, summarise

RESULTS = Path(__file__).parent / "results"
RUNGS = {
    "float": "float", "fake_quant": "fake-quantized, w8a8", "ensemble": "ensemble", "twin": "the file's own twin",
    "device": "the device's answers",
}  # fmt: skip
STYLE = Path(__file__).parent.parent / "harness" / "report" / "report.css"
NAMESPACES = (
    'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'style="background:var(--paper);color:var(--ink)"'
)


def main(run_dirs: list[Path]) -> None:
    """Draws the same figures as the report, and the tables beside them."""
    for run_dir in run_dirs:
        run = json.loads((run_dir / "run.json").read_text())
        records = pd.read_parquet(run_dir / "records.parquet")
        table = labelled(cells(records))
        if table["surrogate"].str.startswith("device:").any():
            ladder(labelled(summarise(cells(records), records)))
            continue
        if table["calibration"].nunique() > 2:  # none, and two
            calibrations(table)
        if table["target"].nunique() > 1 + FEW:
            agreements(run, table)


def calibrations(table: pd.DataFrame) -> None:
    """A figure a victim, and targeted success by target class."""
    for victim, svg in calibration_figures(table):
        draw(svg, f"calibration-{victim}")
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


def agreements(run: dict[str, Any], table: pd.DataFrame) -> None:
    """A matrix an artifact, who is identical, and each target against the first that ran the artifact."""
    names = dict(zip(table["victim"].astype(str) + ", " + table["artifact_label"], table["artifact"], strict=True))
    lines = []
    for page in pages(run, table):
        lines += [f"## {page.artifact}", ""]
        if page.figure:
            draw(page.figure, f"agreement-{names[page.artifact]}")
            lines += [f"![share of output values that differ](agreement-{names[page.artifact]}.svg)", ""]
        lines += [f"Bit for bit the same: {', '.join(group)}.\n" for group in page.identical]
        first = next(pair["a"] for pair in run["agreement"] if names[page.artifact] == pair["artifact"])
        lines += [
            f"| against {first} | differs in | images | other prediction, % | other values, % | largest | success, % |"
        ]
        lines += ["|---|---|---|---:|---:|---:|---:|"]
        for row in (row for row in page.rows if row["a"] == first):
            rates = ", ".join(f"{100 * row[f'success_{side}']:.1f}" for side in "ab")
            words = (
                row["b"],
                ", ".join(row["differ"]) or "nothing known",
                row["images"],
                f"{100 * row['predictions_differ']:.2f}",
                f"{100 * row['values_differ']:.1f}",
                f"{row['largest']:.3g} {row['unit']}{'s' * (row['largest'] != 1)}",
                rates if row["images"] == "patched" else "",
            )
            lines.append(f"| {' | '.join(words)} |")
        lines.append("")
    (RESULTS / "agreement.md").write_text("\n".join(lines))


def ladder(summary: pd.DataFrame) -> None:
    """Targeted success by what a patch was made on, for each artifact on its target; twin and device are its own."""
    made = summary[summary["attack"].isin(("gap", "sparse_rs"))]
    rows: dict[str, dict[str, str]] = {}
    for row in made.to_dict("records"):
        kind, _, of = ("ensemble:" * row["surrogate"].startswith("[") + row["surrogate"]).partition(":")
        own = kind not in ("twin", "device") or row["artifact"] in of.split(":")
        rate = " ".join(f"{100 * row[f'targeted_success{end}']:.1f}" for end in ("", "_low", "_high"))
        mean, low, high = rate.split()
        name = RUNGS[kind] if own else row["surrogate"]
        rows.setdefault(name, {})[row["artifact_label"]] = f"{mean} ({low}–{high})"
    artifacts = list(dict.fromkeys(made["artifact_label"]))
    lines = [f"| made on | {' | '.join(artifacts)} |", "|---|" + "---:|" * len(artifacts)]
    rungs = list(RUNGS.values())
    for name in sorted(rows, key=lambda name: rungs.index(name) if name in rungs else len(rungs)):
        lines.append(f"| {name} | {' | '.join(rows[name].get(artifact, '') for artifact in artifacts)} |")
    (RESULTS / "ladder.md").write_text("\n".join(lines) + "\n")


def draw(svg: str, name: str) -> None:
    """A figure of the report as a file of its own."""
    svg = str(svg)  # no markup, which would escape what is added to it
    svg = svg[svg.index("<svg ") : svg.rindex("</svg>") + len("</svg>")]
    head, tag, rest = svg.partition(">")
    drawn = head.replace("<svg ", f"<svg {NAMESPACES} ", 1) + tag + f"<style>{STYLE.read_text()}</style>" + rest
    (RESULTS / f"{name}.svg").write_text(drawn)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
