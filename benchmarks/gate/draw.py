"""The figure and the table of ``power.py``."""

import json
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from harness.report.svg import COLOURS, INK, MARKERS, SOFT, drawing, legend, percent_axis, standalone

HERE = Path(__file__).parents[1] / "results"


def draw(result: dict[str, Any], folder: Path) -> None:
    """Writes ``gate-power.svg`` and ``gate-power.md``."""
    with drawing(9.6, 3.3) as (figure, out):
        power, fresh, cover = figure.subplots(1, 3, width_ratios=[1.2, 1, 1.3])
        for (name, found), colour, marker in zip(result["found"].items(), COLOURS, MARKERS, strict=False):
            power.plot([100 * r for r in result["rises"]], found, color=colour, marker=marker, ms=4, label=name)
        power.axhline(0.95, color=INK, lw=0.8, ls=(0, (4, 3)))
        percent_axis(power, "y", 1.0, "found, %")
        power.set_xlabel("rise in success, points")
        power.set_title("frozen patches: 3 x 1000 images", loc="left")
        needed = result["fresh_patches_5_points"]
        fresh.semilogx([int(n) for n in needed], list(needed.values()), color=COLOURS[3], marker="o", ms=4)
        fresh.axhline(0.95, color=INK, lw=0.8, ls=(0, (4, 3)))
        fresh.set_xticks([int(n) for n in needed], list(needed))
        fresh.minorticks_off()
        percent_axis(fresh, "y", 1.0, "")
        fresh.set_xlabel("patches on either side")
        fresh.set_title("crafted anew: a 5-point rise", loc="left")
        names = list(result["coverage"])
        cover.axvspan(93, 97, color=COLOURS[2], alpha=0.15, lw=0)
        cover.axvline(95, color=INK, lw=0.8, ls=(0, (4, 3)))
        for y, name in enumerate(names):
            share = result["coverage"][name]
            known = binomtest(round(share * result["runs"]), result["runs"]).proportion_ci(0.95, "wilson")
            cover.plot([100 * known.low, 100 * known.high], [y, y], color=COLOURS[0], lw=1.2)
            cover.plot(100 * share, y, "o", color=COLOURS[0], ms=4)
        cover.set_yticks(range(len(names)), names, color=SOFT)
        cover.set(ylim=(len(names) - 0.5, -0.5), xlim=(90, 100), xlabel="covered where 95 % is said, %")
        legend(figure, power)
        figure.subplots_adjust(0.06, 0.16, 0.99, 0.8, wspace=0.55)
    (folder / "gate-power.svg").write_text(standalone(out[0]))
    (folder / "gate-power.md").write_text(table(result))


def table(result: dict[str, Any]) -> str:
    """Everything in words and numbers."""
    world, runs, fresh = result["world"], result["runs"], result["fresh_patches_5_points"]
    intro = (
        f"Synthetic runs: success {percent(world['rate'])}; on the probit scale patches of a class spread "
        f"{world['spread']:.2f} and images share {world['share']:.2f} of the rest, as measured (`gate-variance.json`). "
        f"The runtime's noise flips {percent(world['noise'], 2)} of the hits, ten times that "
        f"{percent(result['loud_noise'], 2)}. A gate has 20 cells of 3 patches x 1000 images and the default rules "
        "(2 points, 99 % for the gate), unless said."
    )
    alarms = [(name, f"{100 * share:.2f}") for name, share in result["false_alarms"].items()]
    alarms += [("patches crafted anew, 5 cells of 9, 0 points", f"{100 * result['false_alarms_fresh_9_patches']:.2f}")]
    rises = tuple(f"{100 * rise:.0f} points" for rise in result["rises"])
    found = [(name, *(f"{100 * share:.1f}" for share in shares)) for name, shares in result["found"].items()]
    kinds = json.loads((HERE / "gate-variance.json").read_text())["calibrations"].values()
    up, down = (max(kind[way] for kind in kinds) for way in ("up", "down"))
    churn = (
        f"The last row is harder than what was measured: {percent(result['churn'])} of the images flip in either "
        f"direction beside the rise. Two calibrations of one file flipped {percent(up)} up and {percent(down)} down."
    )
    anew = [("found where success rises by 5 points, %", *(f"{100 * share:.1f}" for share in fresh.values()))]
    covered = [(name, f"{100 * share:.1f}") for name, share in result["coverage"].items()]
    parts = [
        intro,
        rows((f"false alarms, nothing but noise, {runs} gates", "% of gates"), alarms),
        rows((f"one cell of 20 rises, frozen patches, {runs // 4} gates: found, %", *rises), found),
        churn,
        rows(("patches crafted anew, on either side", *fresh), anew),
        rows((f"interval, nominal 95 %, {runs} runs", "covers, %"), covered),
    ]
    return "\n\n".join(parts) + "\n"


def rows(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---", *["--:"] * (len(head) - 1)), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float, digits: int = 1) -> str:
    """A fraction in percent."""
    return f"{100 * share:.{digits}f} %"
