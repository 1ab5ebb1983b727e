"""The report's main figure: success and clean accuracy of every artifact on every target."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import blended_transform_factory

from harness.report.svg import (
    COLOURS,
    INK,
    LEGEND_LINE_INCHES,
    MARKS,
    RULE,
    SOFT,
    WIDTH,
    Figures,
    covering,
    drawing,
    for_windows,
    legend,
    legend_lines,
    percent_axis,
    short,
    show_on_hover,
    spread_by_rank,
)
from patches.patch import CONTROLS

ROW_INCHES = 0.3
VALUE_INCHES = 0.45  # to the right of a bar, for its value
SERIES_PER_FIGURE = 4
SHARED_WITH_CONTROLS = ["patch_px", "shape", "placement", "defence"]
# All that is read of a cell: a choice of rows takes as long as it has columns.
READ = ["victim", "artifact", "target", "precision", "attack", *SHARED_WITH_CONTROLS]
READ += ["status", "clean_accuracy", "targeted_success", "untargeted_success"]
READ += ["artifact_label", "target_label", "series_label"]


class _Bar(NamedTuple):
    """Where and how one series of one row is drawn."""

    y: float
    height: float
    colour: str
    is_pale: bool
    marks: int


def success_figures(
    cells: pd.DataFrame, summary: pd.DataFrame, most: int, marks: int = MARKS
) -> list[tuple[str, Figures]]:
    """Return the first (victim, figures) pairs: success and clean accuracy by artifact and target, four series each.

    ``cells`` and their ``summary`` are labelled. A bar is the mean over patches, a line its 95 % interval, a dot a
    patch, up to so many ``marks``; the tick and the ring are the means of the noise and grey controls of the same size
    and place.
    """
    return list(islice(_figures(cells, summary, marks), most))


def _figures(cells: pd.DataFrame, summary: pd.DataFrame, marks: int) -> Iterator[tuple[str, Figures]]:
    for victim, table in cells[READ].groupby("victim", sort=False):
        series = list(dict.fromkeys(table.loc[~table["attack"].isin(CONTROLS), "series_label"])) or [""]
        for start in range(0, len(series), SERIES_PER_FIGURE):
            chosen = series[start : start + SERIES_PER_FIGURE]
            draw = partial(_figure, table, summary[summary["victim"] == victim], chosen, marks)
            yield str(victim), for_windows(draw)


def _figure(table: pd.DataFrame, summary: pd.DataFrame, series: list[str], marks: int, width: float) -> Markup:
    rows = table.drop_duplicates(["artifact", "target"])
    rate = "targeted_success" if table["targeted_success"].notna().any() else "untargeted_success"
    names = [name or "no patch" for name in series]
    heads = (rows["artifact_label"] != rows["artifact_label"].shift()).to_numpy()
    y = np.arange(len(rows)) + (0 if width == WIDTH else heads.cumsum())  # a narrow figure has lines for the artifacts
    lines = y[-1] + 1
    of_place = [dict(iter(cells.groupby(["artifact", "target"], sort=False))) for cells in (summary, table)]
    legend_height = LEGEND_LINE_INCHES * legend_lines([*names, "noise", "grey"], width)
    height = ROW_INCHES * lines * (1 + 0.45 * (len(series) - 1)) + 0.77 + legend_height
    with drawing(width, height) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1.3 if width == WIDTH else 0.8])
        edge = 0.4 if width == WIDTH else 0.3
        top = 1 - (0.24 + legend_height) / height
        figure.subplots_adjust(edge, 0.48 / height, 1 - 0.6 / width, top, wspace=0.1)
        room = VALUE_INCHES / (left.get_position().width * width)
        longest = covering(table[rate], summary[f"{rate}_high"])
        for at, is_head, (_, row) in zip(y, heads, rows.iterrows(), strict=True):
            if is_head:
                _head(left, right, at - (width != WIDTH), row["artifact_label"])
            text = _beside(left, -0.02, at, short(row["target_label"], 22 if width == WIDTH else 18), SOFT)
            show_on_hover([text], [row["target_label"]])
            means, here = (tables[row["artifact"], row["target"]] for tables in of_place)
            for i, name in enumerate(series):
                offset = 0.8 * ((i + 0.5) / len(series) - 0.5)
                bar = _Bar(at + offset, 0.64 / len(series), COLOURS[i], row["precision"] == "fp32", marks)
                _draw_bar(left, bar, here, name, rate, means[means["series_label"] == name])
            _draw_clean_accuracy(right, at, here)
        percent_axis(left, "x", longest / (1 - room), f"{rate.split('_')[0]} success, %")
        percent_axis(right, "x", 1.0, "clean accuracy, %" if width == WIDTH else "clean, %")
        if width != WIDTH:
            right.set_xticks([0, 1])
        left.set_ylim(lines - 0.4, -0.6)
        left.set_yticks([])
        _add_legend_entries(left, names)
        legend(figure, left)
    return out[0]


def _head(left: Axes, right: Axes, y: float, label: str) -> None:
    """Write an artifact's label at the edge of the figure, and a rule above it."""
    edge = blended_transform_factory(left.figure.transFigure, left.transData)
    text = left.text(0, y, short(label, 34), transform=edge, va="center", color=INK)
    show_on_hover([text], [label])
    for axes in (left, right):
        axes.axhline(y - 0.5, color=RULE, lw=0.6)


def _draw_bar(axes: Axes, bar: _Bar, here: pd.DataFrame, series: str, rate: str, mean: pd.DataFrame) -> None:
    """Draw one series of one row: its bar, patches, controls, value, and the interval of its mean."""
    cells = _where(here, series_label=series)
    values = cells[rate].dropna()
    interval = mean[[f"{rate}_low", f"{rate}_high"]]
    if values.empty:
        if (cells["status"] == "error").any():
            axes.text(0.004, bar.y, "failed", va="center", color=INK, style="italic")
    else:
        axes.barh(bar.y, values.mean(), bar.height, color=bar.colour, alpha=0.25 if bar.is_pale else 0.6, lw=0)
        dots = values[spread_by_rank(values, bar.marks)]
        axes.plot(dots, [bar.y] * len(dots), "o", color=bar.colour, ms=3.2, mew=0)
        end = np.nanmax([values.max(), interval.max(axis=None)])
        text = f"{100 * values.mean():.1f}"
        axes.annotate(text, (end, bar.y), (6, 0), textcoords="offset points", va="center")
        controls = here.merge(cells[SHARED_WITH_CONTROLS].drop_duplicates(), on=SHARED_WITH_CONTROLS)
        for control, marker, size in (("noise", "|", 9), ("grey", "o", 4)):
            average = _where(controls, attack=control)[rate].mean()
            axes.plot(average, bar.y, marker, ms=size, mfc="none", mec=INK)
    axes.plot(interval.T, [[bar.y] * len(mean)] * 2, color=INK, lw=1.4)


def _draw_clean_accuracy(axes: Axes, y: float, here: pd.DataFrame) -> None:
    """Mark clean accuracy: filled without a defence (or with the first, if all rows have one), hollow with each."""
    by_defence = here.groupby("defence", sort=False)["clean_accuracy"].max()
    axes.plot(by_defence, [y] * len(by_defence), "D", mfc="none", mec=SOFT, ms=4)
    accuracy = by_defence.get("", by_defence.iloc[0])
    axes.plot(accuracy, y, "D", color=INK, ms=4)
    text = "failed" if np.isnan(accuracy) else f"{100 * accuracy:.1f}"
    place = (1, y)
    axes.annotate(text, place, (33, 0), axes.get_yaxis_transform(), "offset points", va="center", ha="right", color=INK)


def _add_legend_entries(axes: Axes, names: list[str]) -> None:
    for colour, name in zip(COLOURS, names, strict=False):
        axes.plot([], [], "s", color=colour, label=name)
    axes.plot([], [], "|", ms=9, color=INK, mew=1.2, label="noise")
    axes.plot([], [], "o", ms=4, mfc="none", mec=INK, label="grey")


def _beside(axes: Axes, x: float, y: float, text: str, colour: str) -> Text:
    return axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="center", ha="right", color=colour)


def _where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    return table[np.logical_and.reduce([table[column] == value for column, value in values.items()])]
