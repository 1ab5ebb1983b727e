"""What a chip and its compiler's calibration change, from finished runs: ``python benchmarks/npus.py out/RUN ...``.

Writes ``benchmarks/results/npus/RUN.md``: for each network and each kind of patch a row for each chip and calibration,
with success, and what it is apart from the float network, from the same ranges on a CPU, onnxruntime or else LiteRT,
and from the same chip with ``minmax``. All on the same patches and images, paired. A second table says how much of what
a patch takes on one chip it takes on each other, their files calibrated by ``minmax``, and as their compilers do by
default. Beside it a figure of each network, of patches made in float.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.report.calibration import calibration_figures
from harness.report.labels import FORMATS, labelled
from harness.results.gathering import outcomes
from harness.results.metrics import cells
from harness.results.outcomes import Outcomes
from harness.results.paired import Paired, changed
from harness.results.record_files import read_outcomes
from harness.results.run_directory import read_run
from patches.patch import CONTROLS

RESULTS = Path(__file__).parent / "results" / "npus"
CPUS = ("onnxruntime", "litert")  # the targets that the chips are compared with, the first that has the same ranges
PLAIN = "minmax"
DEFAULTS = {"bmodel": "kl", "cvimodel": "kl", "rknn": "normal", "kmodel": "kld", "espdl": "kl"}  # others have none
Rows = dict[tuple[str, str], list[int]]  # by target and calibration, of cells


def main(run_dirs: list[Path]) -> None:
    """Write the tables of each run."""
    RESULTS.mkdir(exist_ok=True)
    for run_dir in run_dirs:
        run = read_run(run_dir)
        known = outcomes(read_outcomes(run_dir, run))
        lines = [
            f"{run.data.note} Differences are in points, with 95 % intervals, paired: over the patches and images that "
            "count on both.",
            "",
        ]
        for title, rows in kinds_of_patches(known):
            lines += [f"## {title}", "", *table(known, rows), ""]
            plain, default = (chosen(known, rows, calibration) for calibration in (PLAIN, "default"))
            for files in (plain, default) if default != plain else (plain,):
                if len(files) > 1:
                    lines += [*carried_over(known, files), ""]
        (RESULTS / f"{run_dir.name}.md").write_text("\n".join(lines))
        counted = labelled(cells(pd.read_parquet(run_dir / "records.parquet")))
        for victim, figure in calibration_figures(counted[counted["surrogate"].isin(["", "float"])]):
            (RESULTS / f"{run_dir.name}-{victim}.svg").write_text(f"{figure.wide}\n")


def kinds_of_patches(known: Outcomes) -> Iterator[tuple[str, Rows]]:
    """Yield the cells with patches of one network and one surrogate, in INT8 files and of the float network."""
    attacked = known.cells[~known.cells["attack"].isin(CONTROLS)]
    for (victim, surrogate, attack), same in attacked.groupby(["victim", "surrogate", "attack"], sort=False):
        grouped = same.groupby(["target", "calibration"], sort=False).indices
        rows = {key: same.index[list(where)].tolist() for key, where in grouped.items()}
        yield f"{victim}, {attack}" + (f" crafted on {surrogate}" if surrogate else ""), rows


def table(known: Outcomes, rows: Rows) -> list[str]:
    """Return a table, the float network first, then each target with each calibration of its files."""
    lines = [
        "| on | file | calibration | top-1 | success | n | apart from float | apart from a CPU | "
        f"apart from {PLAIN} there |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lab = rows.get(("torch", ""))
    for (target, calibration), mine in rows.items():
        itself = changed(known, mine, mine)
        if itself is None:
            continue
        format = known.cell(mine[0])["format"]
        others = (lab, on_cpu(rows, target, calibration, format), rows.get((target, PLAIN)) if calibration else None)
        apart = [points(changed(known, other, mine)) if other and other != mine else "" for other in others]
        lines.append(
            f"| {target} | {FORMATS.get(format, format)} | {calibration.replace('_', ' ')} | "
            f"{100 * clean(known, mine):.1f} | {100 * itself.rates[0]:.1f} | {itself.n} | {' | '.join(apart)} |"
        )
    return lines


def on_cpu(rows: Rows, target: str, calibration: str, format: str) -> list[int] | None:
    """Return the cells of a CPU with the same ranges; None for that CPU's own, and for the float network's."""
    if format == "torch":
        return None
    for cpu, ranges in itertools.product(CPUS, (calibration, f"{format}:{calibration}")):
        if (cpu, ranges) in rows:
            return rows[cpu, ranges] if cpu != target else None
    return None


def chosen(known: Outcomes, rows: Rows, calibration: str) -> dict[str, list[int]]:
    """Return the cells of one file on each target, calibrated so; by ``default`` as its compiler does."""
    found = {}
    for (target, has), mine in rows.items():
        own = DEFAULTS.get(known.cell(mine[0])["format"], PLAIN)
        if has == (own if calibration == "default" else calibration):
            found[target] = mine
    return found


def carried_over(known: Outcomes, rows: Mapping[str, Sequence[int]]) -> list[str]:
    """Return a table of the share of what patches take on a row's target that they take on each column's, too."""
    calibrated = ", ".join(f"{target} {known.cell(cells[0])['calibration']}" for target, cells in rows.items())
    lines = [f"Carried over, of files calibrated so: {calibrated}.", ""]
    lines += ["| taken on | " + " | ".join(rows) + " |", "|---|" + "---:|" * len(rows)]
    hits = {
        target: known.hits_each(mine, "targeted") & known.among_each(mine, "targeted") for target, mine in rows.items()
    }
    for target, taken in hits.items():
        shares = (100 * (taken & others).sum() / max(taken.sum(), 1) for others in hits.values())
        lines.append(f"| {target} | " + " | ".join(f"{share:.0f} %" for share in shares) + " |")
    return lines


def clean(known: Outcomes, rows: Sequence[int]) -> float:
    """Return the share of clean images that are classified right, behind these cells."""
    return float(known.hits_each(rows[:1], "clean").mean())


def points(change: Paired | None) -> str:
    """Return a change of success in points, with its interval."""
    if change is None:
        return ""
    value, low, high = (100 * one for one in (change.success.value, change.success.low, change.success.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", metavar="RUN", nargs="+", type=Path)
    main(parser.parse_args().run_dirs)
