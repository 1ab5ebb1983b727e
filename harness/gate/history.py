"""Rates over several runs: a table, a figure, and for each cell the first run in which its predictions changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from harness.gate.causes import cell_changes
from harness.gate.faults import run_faults
from harness.gate.pairs import Pair, image_order, pairs
from harness.report.svg import COLOURS, MARKERS, WIDTH, drawing, percent_axis, shortened, show_on_hover, ticks
from harness.results.frozen import Frozen
from harness.results.intervals import estimate
from harness.results.stats import Estimate
from harness.results.success import Kind

TRACKS_PER_PANEL = 6


class Track(NamedTuple):
    """One attack (or none) on one place over the runs.

    ``points`` has an `Estimate` for each run, None where the cell is missing or failed. ``first`` is the run in which
    it changed, -1 for none, and ``why`` what else changed in that run.
    """

    name: str
    kind: Kind
    points: tuple[Estimate | None, ...]
    first: int
    why: str


def tracks(runs: Sequence[Frozen]) -> list[Track]:
    """Follow every attack on every place of the first run through the others."""
    by_run = [pairs(runs[0], run) for run in runs]
    out = []
    for same in zip(*by_run, strict=True):
        kind = same[0].kind
        points = tuple(_point(run, pair, kind) for run, pair in zip(runs, same, strict=True))
        first = _first_change(runs, same)
        why = "; ".join(_causes(runs[first - 1], runs[first], same[first - 1], same[first])) if first > 0 else ""
        out.append(Track(same[0].name, kind, points, first, why))
    return out


def label(run: Frozen) -> str:
    """Return what a run is called: its label, else its commit, else when it started, else its path."""
    return str(run.facts.label or run.facts.commit or run.facts.started[:16].replace("T", " ") or run.source)


def terminal(runs: Sequence[Frozen], followed: Sequence[Track]) -> Table:
    """Return a row for each track: its rate in each run with its interval, and the run in which it first changed."""
    table = Table("cell", "rate", header_style="bold")
    for run in runs:
        table.add_column(label(run), justify="right")
    table.add_column("first changed in")
    for track in followed:
        first = Text(f"{label(runs[track.first])}: {track.why}" if track.first > 0 else "", "bold")
        table.add_row(Text(track.name), track.kind, *map(shown, track.points), first)
    return table


def figure(runs: Sequence[Frozen], followed: Sequence[Track]) -> str:
    """Return an SVG file: panels of `TRACKS_PER_PANEL` tracks, clean accuracy first, the runs from left to right."""
    panels: list[list[Track]] = []
    for clean in (True, False):
        chosen = [track for track in followed if (track.kind == "clean") == clean]
        panels += [chosen[i : i + TRACKS_PER_PANEL] for i in range(0, len(chosen), TRACKS_PER_PANEL)]
    x = np.arange(len(runs))
    with drawing(WIDTH, 2.9 * len(panels)) as (canvas, out):
        grid = canvas.subplots(len(panels), 1, squeeze=False).ravel()
        for axes, chosen in zip(grid, panels, strict=True):
            for k, track in enumerate(chosen):
                _draw_track(axes, x + 0.03 * (k - (len(chosen) - 1) / 2), track, COLOURS[k], MARKERS[k])
            ticks(axes, "x", [label(run) for run in runs], 18)
            axes.set_xlim(-0.3, len(runs) - 0.7)
            percent_axis(axes, "y", 1.0, "clean accuracy, %" if chosen[0].kind == "clean" else "success, %")
            _legend(axes, [track.name for track in chosen])
        canvas.subplots_adjust(0.07, 0.1 / len(panels), 0.99, 1 - 0.28 / len(panels), hspace=0.55)
    return f"{out[0]}\n"


def _draw_track(axes: Axes, x: NDArray[np.floating], track: Track, colour: str, marker: str) -> None:
    """Draw one track's rates and intervals; a ring marks the run in which it first changed."""
    values = np.array([point[:3] if point else (np.nan,) * 3 for point in track.points])
    axes.plot(x, values[:, 0], color=colour, marker=marker, ms=5, label=track.name)
    axes.vlines(x, values[:, 1], values[:, 2], color=colour, lw=1)
    if track.first > 0:
        axes.plot(x[track.first], values[track.first, 0], "o", ms=11, mfc="none", mec=colour)


def _legend(axes: Axes, names: Sequence[str]) -> None:
    handles, _ = axes.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 1.32), "ncols": 2}
    made = axes.legend(handles, shortened(names, 60), **place, frameon=False, fontsize=7.5)
    show_on_hover(made.get_texts(), names)


def _point(run: Frozen, pair: Pair, kind: Kind) -> Estimate | None:
    rows = [row for _, row in pair.cells]
    if not rows or not all(run.outcomes.whole(row) for row in rows):
        return None
    return estimate(run.outcomes, rows, kind)


def _first_change(runs: Sequence[Frozen], same: Sequence[Pair]) -> int:
    """Return the first run whose predictions differ from those of the run before it; -1 if none does."""
    for i in range(1, len(runs)):
        before, after = ([row for _, row in pair.cells] for pair in (same[i - 1], same[i]))
        if len(before) != len(after) or run_faults(runs[i - 1], runs[i]):
            return i
        order = image_order(runs[i - 1], runs[i])
        if (runs[i - 1].outcomes.preds[before] != runs[i].outcomes.preds[after][:, order]).any():
            return i
    return -1


def _causes(before: Frozen, after: Frozen, old: Pair, new: Pair) -> list[str]:
    if reasons := run_faults(before, after):
        return reasons
    if len(old.cells) != len(new.cells):
        return ["cells disappeared or reappeared"]
    rows = (old.cells[0][1], new.cells[0][1])
    return cell_changes(before, after, rows) or ["drift: nothing recorded changed"]


def shown(point: Estimate | None) -> str:
    """Return a rate with its interval, in percent."""
    if point is None:
        return "–"
    return f"{100 * point.value:.1f} % ({100 * point.low:.1f}–{100 * point.high:.1f})"
