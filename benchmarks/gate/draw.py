"""Draw the figure and write the table of ``power.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from scipy.stats import binomtest

from harness.report.svg import COLOURS, INK, MARKERS, SOFT, drawing, legend, percent_axis

if TYPE_CHECKING:
    from power import Result

RESULTS = Path(__file__).parents[1] / "results"
DASHED = (0, (4, 3))


def draw(result: Result, folder: Path) -> None:
    """Write ``gate-power.svg`` and ``gate-power.md``."""
    with drawing(9.6, 3.3) as (figure, out):
        power, fresh, coverage = figure.subplots(1, 3, width_ratios=[1.2, 1, 1.3])
        _power(power, result)
        _fresh(fresh, result)
        _coverage(coverage, result)
        legend(figure, power)
        figure.subplots_adjust(0.06, 0.16, 0.99, 0.8, wspace=0.55)
    (folder / "gate-power.svg").write_text(f"{out[0]}\n")
    (folder / "gate-power.md").write_text(table(result))


def _power(axes: Axes, result: Result) -> None:
    rises = [100 * rise for rise in result.rises]
    for (name, found), colour, marker in zip(result.found.items(), COLOURS, MARKERS, strict=False):
        axes.plot(rises, found, color=colour, marker=marker, ms=4, label=name)
    axes.axhline(0.95, color=INK, lw=0.8, ls=DASHED)
    percent_axis(axes, "y", 1.0, "found, %")
    axes.set_xlabel("rise in success, points")
    axes.set_title("frozen patches: 3 x 1000 images", loc="left")


def _fresh(axes: Axes, result: Result) -> None:
    found = result.fresh_patches_5_points
    patches = [int(n) for n in found]
    axes.semilogx(patches, list(found.values()), color=COLOURS[3], marker="o", ms=4)
    axes.axhline(0.95, color=INK, lw=0.8, ls=DASHED)
    axes.set_xticks(patches, list(found))
    axes.minorticks_off()
    percent_axis(axes, "y", 1.0, "")
    axes.set_xlabel("patches on either side")
    axes.set_title("crafted anew: a 5-point rise", loc="left")


def _coverage(axes: Axes, result: Result) -> None:
    axes.axvspan(93, 97, color=COLOURS[2], alpha=0.15, lw=0)
    axes.axvline(95, color=INK, lw=0.8, ls=DASHED)
    for y, share in enumerate(result.coverage.values()):
        interval = binomtest(round(share * result.runs), result.runs).proportion_ci(0.95, "wilson")
        axes.plot([100 * interval.low, 100 * interval.high], [y, y], color=COLOURS[0], lw=1.2)
        axes.plot(100 * share, y, "o", color=COLOURS[0], ms=4)
    axes.set_yticks(range(len(result.coverage)), list(result.coverage), color=SOFT)
    axes.set(ylim=(len(result.coverage) - 0.5, -0.5), xlim=(90, 100), xlabel="coverage of 95 % intervals, %")


def table(result: Result) -> str:
    """Return all numbers with the assumptions behind them, as Markdown."""
    world = result.world
    fresh = result.fresh_patches_5_points
    kinds = json.loads((RESULTS / "gate-variance.json").read_text())["calibrations"].values()
    up = max(kind["up"] for kind in kinds)
    down = max(kind["down"] for kind in kinds)
    intro = (
        f"Synthetic runs: success is {percent(world.rate)}; on the probit scale patches of a class spread by "
        f"{world.spread:.2f} and images share {world.share:.2f} of the rest, as measured (`gate-variance.json`). "
        f"The runtime's noise flips {percent(world.noise, 2)} of the hits, ten times that noise "
        f"{percent(result.loud_noise, 2)}. Unless stated otherwise, a gate has 20 cells of 3 patches x 1000 images and "
        "the default rules (2 points, 99 % for the gate)."
    )
    churn = (
        f"The last row is harder than what was measured: {percent(result.churn)} of the images flip in either "
        f"direction on top of the rise. Two calibrations of one file flipped {percent(up)} up and {percent(down)} down."
    )
    alarms = [(name, f"{100 * share:.2f}") for name, share in result.false_alarms.items()]
    alarms += [("patches crafted anew, 5 cells of 9, 0 points", f"{100 * result.false_alarms_fresh_9_patches:.2f}")]
    rises = [f"{100 * rise:.0f} points" for rise in result.rises]
    found = [(name, *percents(shares)) for name, shares in result.found.items()]
    covered = [(name, f"{100 * share:.1f}") for name, share in result.coverage.items()]
    parts = [
        intro,
        rows((f"false alarms, nothing but noise, {result.runs} gates", "% of gates"), alarms),
        rows((f"one cell of 20 rises, frozen patches, {result.runs // 4} gates: found, %", *rises), found),
        churn,
        rows(
            ("patches crafted anew, on either side", *fresh),
            [("found where success rises by 5 points, %", *percents(fresh.values()))],
        ),
        rows((f"interval, nominal 95 %, {result.runs} runs", "covers, %"), covered),
    ]
    return "\n\n".join(parts) + "\n"


def rows(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---", *["--:"] * (len(head) - 1)), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float, digits: int = 1) -> str:
    """Return a fraction in percent."""
    return f"{100 * share:.{digits}f} %"


def percents(shares: Iterable[float]) -> list[str]:
    """Return fractions in percent, without the sign."""
    return [f"{100 * share:.1f}" for share in shares]
