"""Numbers over runs: a table and a figure, and for each cell the first run in which its predictions changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from harness.gate.pairs import Pair, changes, order, pairs, unlike
from harness.report.svg import COLOURS, MARKERS, drawing, percent_axis, short, standalone
from harness.results.baseline import Frozen
from harness.results.intervals import estimate
from harness.results.outcomes import Kind
from harness.results.stats import Estimate

A_FIGURE = 6  # lines that one panel can hold


class Track(NamedTuple):
    """One attack (or none) on one place over the runs; ``first`` is the run in which it changed, -1 for none.

    ``points`` has an `Estimate` a run, None where the run lacks the cell or it failed; ``why`` says what else changed
    in that run.
    """

    name: str
    kind: Kind
    points: tuple[Estimate | None, ...]
    first: int
    why: str


def tracks(runs: Sequence[Frozen]) -> list[Track]:
    """Every attack on every place of the first run, followed through the others."""
    out = []
    found = [pairs(runs[0], run) for run in runs]
    for i, start in enumerate(found[0]):
        kind = _kind(start)
        points = tuple(_point(run, same[i], kind) for run, same in zip(runs, found, strict=True))
        first = _first_change(runs, [same[i] for same in found])
        why = ""
        if first > 0:
            why = "; ".join(_why(runs[first - 1], runs[first], found[first - 1][i], found[first][i]))
        out.append(Track(start.name, kind, points, first, why))
    return out


def label(run: Frozen) -> str:
    """What a run is called: its commit, else the time that it began, else where it lies."""
    return str(run.facts.get("commit") or run.facts.get("started", "")[:16].replace("T", " ") or run.source)


def terminal(runs: Sequence[Frozen], found: Sequence[Track]) -> Table:
    """A row a track: its rate in each run with its interval, and the first run in which it changed."""
    table = Table("cell", "rate", header_style="bold")
    for run in runs:
        table.add_column(label(run), justify="right")
    table.add_column("first changed in")
    for track in found:
        shown = [_shown(point) for point in track.points]
        first = Text(f"{label(runs[track.first])}: {track.why}" if track.first > 0 else "", "bold")
        table.add_row(Text(track.name), track.kind, *shown, first)
    return table


def figure(runs: Sequence[Frozen], found: Sequence[Track]) -> str:
    """An SVG file: panels of `A_FIGURE` places, clean accuracy first, the runs from left to right."""
    panels: list[list[Track]] = []
    for clean in (True, False):
        chosen = [track for track in found if (track.kind == "clean") == clean]
        panels += [chosen[i : i + A_FIGURE] for i in range(0, len(chosen), A_FIGURE)]
    x = np.arange(len(runs))
    with drawing(9.6, 2.9 * len(panels)) as (canvas, out):
        grid = canvas.subplots(len(panels), 1, squeeze=False).ravel()
        for axes, chosen in zip(grid, panels, strict=True):
            for k, track in enumerate(chosen):
                values = np.array([p[:3] if p else (np.nan,) * 3 for p in track.points])
                aside = x + 0.03 * (k - (len(chosen) - 1) / 2)
                axes.plot(aside, values[:, 0], color=COLOURS[k], marker=MARKERS[k], ms=5, label=short(track.name, 60))
                axes.vlines(aside, values[:, 1], values[:, 2], color=COLOURS[k], lw=1)
                if track.first > 0:
                    axes.plot(aside[track.first], values[track.first, 0], "o", ms=11, mfc="none", mec=COLOURS[k])
            axes.set_xticks(x, [short(label(run), 18) for run in runs])
            axes.set_xlim(-0.3, len(runs) - 0.7)
            percent_axis(axes, "y", 1.0, "clean accuracy, %" if chosen[0].kind == "clean" else "success, %")
            axes.legend(loc="upper left", bbox_to_anchor=(0, 1.32), ncols=2, frameon=False, fontsize=7.5)
        canvas.subplots_adjust(0.07, 0.1 / len(panels), 0.99, 1 - 0.28 / len(panels), hspace=0.55)
    return standalone(out[0])


def _kind(pair: Pair) -> Kind:
    if pair.columns["attack"] == "none":
        return "clean"
    return "targeted" if pair.columns["target_class"] >= 0 else "untargeted"


def _point(run: Frozen, pair: Pair, kind: Kind) -> Estimate | None:
    rows = [row for _, row in pair.cells]
    whole = rows and all(run.outcomes.whole(row) for row in rows)
    return estimate(run.outcomes, rows, kind) if whole else None


def _first_change(runs: Sequence[Frozen], same: Sequence[Pair]) -> int:
    """The first run whose predictions differ from those of the run before it; -1 if none does."""
    for i in range(1, len(runs)):
        before, after = ([row for _, row in pair.cells] for pair in (same[i - 1], same[i]))
        if len(before) != len(after):
            return i
        if not unlike(runs[i - 1], runs[i]):
            where = order(runs[i - 1], runs[i])
            if (runs[i - 1].outcomes.preds[before] != runs[i].outcomes.preds[after][:, where]).any():
                return i
        else:
            return i
    return -1


def _why(before: Frozen, after: Frozen, old: Pair, new: Pair) -> list[str]:
    if reasons := unlike(before, after):
        return reasons
    if len(old.cells) != len(new.cells):
        return ["cells are missing, or back"]
    return changes(before, after, (old.cells[0][1], new.cells[0][1])) or ["nothing that is recorded: drift"]


def _shown(point: Estimate | None) -> str:
    if point is None:
        return "–"
    return f"{100 * point.value:.1f} % ({100 * point.low:.1f}–{100 * point.high:.1f})"
