"""Tables and figures of the documentation, from finished runs: ``python benchmarks/readme.py out/cifar10 ...``.

Writes into ``benchmarks/results/``: from a run with several calibrations ``calibration-VICTIM.svg`` and
``calibration.md``, from one with several targets ``agreement-ARTIFACT.svg`` and ``agreement.md``, from one with attacks
that query devices ``ladder.md``. Those of the suite `runtimes`, which has both, begin with its name.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import pandas as pd

from harness.report import agreement
from harness.report.calibration import calibration_figures
from harness.report.labels import labelled
from harness.results.metrics import cells, summarise
from harness.results.run_directory import read_run
from patches.surrogate import OF_ARTIFACTS, Surrogate

RESULTS = Path(__file__).parent / "results"
RUNGS = {
    "float": "float",
    "fake_quant": "fake-quantized, w8a8",
    "ensemble": "ensemble",
    "twin": "the file's own twin",
    "device": "the device's answers",
}


def main(run_dirs: list[Path]) -> None:
    """Draw the same figures as the report, and the tables beside them."""
    for run_dir in run_dirs:
        records = pd.read_parquet(run_dir / "records.parquet")
        counted = cells(records)
        table = labelled(counted)
        if table["surrogate"].str.startswith("device:").any():
            ladder(labelled(summarise(counted, records)))
            continue
        if table["calibration"].nunique() > 2:  # none, and two
            calibrations(_prefix(run_dir), table)
        if table["target"].nunique() > 1 + agreement.FEW:
            agreements(run_dir, table)


def _prefix(run_dir: Path) -> str:
    return "runtimes-" if run_dir.name == "runtimes" else ""


def calibrations(prefix: str, table: pd.DataFrame) -> None:
    """Draw a figure per victim, and write targeted success by target class."""
    for victim, figure in calibration_figures(table):
        draw(figure.wide, f"{prefix}calibration-{victim}")
    clean = table[table["attack"] == "none"].set_index(["artifact", "target"])["clean_accuracy"]
    wide = table[table["attack"] == "gap"].pivot_table(
        index=["artifact", "target"], columns="target_class", values="targeted_success", sort=False, observed=True
    )
    lines = [f"| artifact | target | clean | {' | '.join(f'class {c}' for c in wide.columns)} |"]
    lines.append("|---|---|---:|" + "---:|" * len(wide.columns))
    for (artifact, target), row in wide.iterrows():
        rates = " | ".join(f"{100 * rate:.1f}" for rate in row)
        lines.append(f"| {artifact} | {target} | {100 * clean[artifact, target]:.1f} | {rates} |")
    (RESULTS / f"{prefix}calibration.md").write_text("\n".join(lines) + "\n")


def agreements(run_dir: Path, table: pd.DataFrame) -> None:
    """Write per artifact which targets are identical, and each target against the first; draw a matrix."""
    run = read_run(run_dir)
    prefix = _prefix(run_dir)
    names = dict(zip(table["victim"].astype(str) + ", " + table["artifact_label"], table["artifact"], strict=True))
    lines = []
    for page in agreement.pages(run, table):
        artifact = names[page.artifact]
        lines += [f"## {page.artifact}", ""]
        if page.figure:
            draw(page.figure, f"{prefix}agreement-{artifact}")
            lines += [f"![share of output values that differ]({prefix}agreement-{artifact}.svg)", ""]
        lines += [f"Bit for bit the same: {', '.join(group)}.\n" for group in page.identical]
        first = next(pair.a for pair in run.agreement if pair.artifact == artifact)
        lines.append(
            f"| against {first} | differs in | images | other prediction, % | other values, % | largest | success, % |"
        )
        lines.append("|---|---|---|---:|---:|---:|---:|")
        for row in page.rows:
            pair = row.entry
            if pair.a == first:
                unit = pair.unit if pair.largest == 1 else f"{pair.unit}s"
                rates = f"{100 * row.success_a:.1f}, {100 * row.success_b:.1f}"
                cells = [
                    pair.b,
                    ", ".join(row.differ) or "nothing recorded",
                    pair.images,
                    f"{100 * pair.predictions_differ:.2f}",
                    f"{100 * pair.values_differ:.1f}",
                    f"{pair.largest:.3g} {unit}",
                    rates if pair.images == "patched" else "",
                ]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    (RESULTS / f"{prefix}agreement.md").write_text("\n".join(lines))


def ladder(summary: pd.DataFrame) -> None:
    """Write targeted success by surrogate, for each artifact on its target; a twin and a device are the file's own."""
    attacks = summary[summary["attack"].isin(("gap", "sparse_rs"))]
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for row in attacks.itertuples():
        surrogate = Surrogate.parse(str(row.surrogate))
        own = surrogate.kind not in OF_ARTIFACTS or row.artifact == surrogate.of
        interval = f"{100 * row.targeted_success_low:.1f}–{100 * row.targeted_success_high:.1f}"
        name = RUNGS[surrogate.kind] if own else str(surrogate)
        rows[name][row.artifact_label] = f"{100 * row.targeted_success:.1f} ({interval})"
    artifacts = list(dict.fromkeys(attacks["artifact_label"]))
    lines = [f"| made on | {' | '.join(artifacts)} |", "|---|" + "---:|" * len(artifacts)]
    rungs = list(RUNGS.values())
    for name in sorted(rows, key=lambda name: rungs.index(name) if name in rungs else len(rungs)):
        lines.append(f"| {name} | {' | '.join(rows[name].get(artifact, '') for artifact in artifacts)} |")
    (RESULTS / "ladder.md").write_text("\n".join(lines) + "\n")


def draw(figure: str, name: str) -> None:
    """Write a figure of the report as a file of its own."""
    (RESULTS / f"{name}.svg").write_text(f"{figure}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", metavar="RUN", nargs="+", type=Path)
    main(parser.parse_args().run_dirs)
