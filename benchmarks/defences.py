"""Tables and figures of the findings on defences, from finished runs: ``python benchmarks/defences.py out/RUN ...``.

Writes into ``benchmarks/results/defences/``. From a run with defences on the device: ``RUN.md``, a row for each file,
target and defence, and what each costs; and ``RUN.svg``, the report's figure of what nothing beats. From any other:
``RUN.md``, a row for each network.
"""

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from harness.report.defences import Defended, Success, defended, pareto_figure
from harness.report.labels import labelled
from harness.results.run_directory import RunFacts, read_run, read_summary
from patches.patch import CONTROLS
from patches.surrogate import Surrogate

RESULTS = Path(__file__).parent / "results" / "defences"


def main(run_dirs: list[Path]) -> None:
    """Write what each run has."""
    RESULTS.mkdir(exist_ok=True)
    for run_dir in run_dirs:
        run = read_run(run_dir)
        summary = labelled(pd.DataFrame(read_summary(run_dir, run).over_patches))
        if rows := defended(run, summary):
            (RESULTS / f"{run_dir.name}.svg").write_text(f"{pareto_figure(rows).wide}\n")
            lines = [*on_device(rows), "", *costs(run)]
        else:
            lines = of_networks(summary)
        (RESULTS / f"{run_dir.name}.md").write_text("\n".join([*lines, "", run.data.note, ""]))


def on_device(rows: Iterable[Defended]) -> list[str]:
    """Return a table of defences on the device, as the report's: naive and adaptive are the best patches' successes."""
    return [
        "| network | on | defence | clean | certified | naive | adaptive | noise | passes | p50, ms | added, ms |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row.artifact_label} | {row.target} | {row.defence or 'none'} | {clean(row.clean)} | "
            f"{rate(row.certified)} | {rate(row.naive)} | {rate(row.adaptive)} | {number(100 * row.noise, 1)} | "
            f"{number(row.passes, 0)} | {number(row.p50_ms, 2)} | {number(row.added_ms, 2) if row.defence else ''} |"
            for row in rows
        ),
    ]


def costs(run: RunFacts) -> list[str]:
    """Return a table of latency at one thread and of memory behind each defence."""
    timed = [row for row in run.latency if row.threads == 1]
    undefended = {(row.artifact, row.target): row.p50_ms for row in timed if not row.defence}
    return [
        "| network | on | defence | p50, ms | p90 | p99 | times none's | peak memory, MB |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        *(
            f"| {row.artifact} | {row.target} | {row.defence or 'none'} | {row.p50_ms:.2f} | {row.p90_ms:.2f} | "
            f"{row.p99_ms:.2f} | {row.p50_ms / undefended[row.artifact, row.target]:.1f} | {row.peak_rss_mb:.1f} |"
            for row in timed
        ),
    ]


def of_networks(summary: pd.DataFrame) -> list[str]:
    """Return a table of networks: the most that patches made on float achieve, on the file's own twin, and on any."""
    ok = summary[(summary["status"] == "ok") & (summary["split"] == "evaluate")]
    attacks = [attack for attack in dict.fromkeys(ok["attack"]) if attack not in CONTROLS]
    heads = [f"{attack}, {whose}" for attack in attacks for whose in ("float's", "its twin's", "best", "wrong")]
    lines = [f"| network | on | clean | {' | '.join(heads)} | noise |", "|---|---|---:|" + "---:|" * (len(heads) + 1)]
    for (artifact, target), table in ok.groupby(["artifact", "target"], sort=False):
        cells = []
        for attack in attacks:
            rows = table[table["attack"] == attack]
            made_on = [Surrogate.parse(words) for words in rows["surrogate"]]
            of_float = [surrogate.kind == "float" for surrogate in made_on]
            own = [training(surrogate.of) == training(str(artifact)) for surrogate in made_on]
            cells += [most(rows[of_float]), most(rows[own]), most(rows), most(rows, "untargeted_success")]
        clean_row = table[table["attack"] == "none"].iloc[0]
        noise = table.loc[table["attack"] == "noise", "targeted_success"].mean()
        lines.append(f"| {artifact} | {target} | {clean(clean_row)} | {' | '.join(cells)} | {number(100 * noise, 1)} |")
    return lines


def training(artifact: str) -> tuple[str, bool]:
    """Return what artifacts of one training share: its settings, or the name, and whether weights have 4 bits."""
    return artifact.partition("-qat-")[2] or artifact, "s8s4" in artifact or "w4" in artifact


def most(rows: pd.DataFrame, kind: str = "targeted_success") -> str:
    """Return the highest rate of some rows, with its interval."""
    if rows.empty:
        return "–"
    return rate(Success(*rows.sort_values(kind).iloc[-1][[kind, f"{kind}_low", f"{kind}_high"]]))


def clean(row: pd.Series) -> str:
    """Return the accuracy on clean images, with its interval."""
    return rate(Success(row["clean_accuracy"], row["clean_accuracy_low"], row["clean_accuracy_high"]))


def rate(success: Success) -> str:
    """Return a rate in percent, with its interval."""
    if math.isnan(success.rate):
        return "–"
    return f"{100 * success.rate:.1f} ({100 * success.low:.1f}–{100 * success.high:.1f})"


def number(value: float, digits: int) -> str:
    """Return a number, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", metavar="RUN", nargs="+", type=Path)
    main(parser.parse_args().run_dirs)
