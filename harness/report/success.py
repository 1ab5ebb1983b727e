"""The report's main figure: success and clean accuracy of every artifact on every target."""

from __future__ import annotations

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
    RULE,
    SOFT,
    WIDTH,
    covering,
    drawing,
    legend,
    legend_lines,
    percent_axis,
    short,
    show_on_hover,
)
from patches.patch import CONTROLS

ROW_INCHES = 0.3
LEGEND_LINE_INCHES = 0.18
VALUE_INCHES = 0.45  # to the right of a bar, for its value
SERIES_PER_FIGURE = 4
SHARED_WITH_CONTROLS = ["patch_px", "shape", "placement", "defence"]


class _Bar(NamedTuple):
    """Where and how one series of one row is drawn."""

    y: float
    height: float
    colour: str
    is_pale: bool


def success_figures(cells: pd.DataFrame, summary: pd.DataFrame) -> list[tuple[str, Markup]]:
    """Return (victim, SVG) pairs: success and clean accuracy by artifact and target, four series a figure.

    ``cells`` and their ``summary`` are labelled. A bar is the mean over patches, a line its 95 % interval, a dot a
    patch; the tick and the ring are the means of the noise and grey controls of the same size and place.
    """
    figures = []
    for victim, table in cells.groupby("victim", sort=False):
        series = list(dict.fromkeys(table.loc[~table["attack"].isin(CONTROLS), "series_label"])) or [""]
        for start in range(0, len(series), SERIES_PER_FIGURE):
            chosen = series[start : start + SERIES_PER_FIGURE]
            figures.append((str(victim), _figure(table, summary[summary["victim"] == victim], chosen)))
    return figures


def _figure(table: pd.DataFrame, summary: pd.DataFrame, series: list[str]) -> Markup:
    rows = table.drop_duplicates(["artifact", "target"])
    rate = "targeted_success" if table["targeted_success"].notna().any() else "untargeted_success"
    names = [name or "no patch" for name in series]
    legend_height = LEGEND_LINE_INCHES * legend_lines([*names, "noise", "grey"])
    height = ROW_INCHES * len(rows) * (1 + 0.45 * (len(series) - 1)) + 0.77 + legend_height
    with drawing(WIDTH, height) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1.3])
        figure.subplots_adjust(0.4, 0.48 / height, 0.935, 1 - (0.24 + legend_height) / height, wspace=0.1)
        room = VALUE_INCHES / (left.get_position().width * WIDTH)
        longest = covering(table[rate], summary[f"{rate}_high"])
        for y, (_, row) in enumerate(rows.iterrows()):
            here = _same(table, row, "artifact", "target")
            _label_row(left, right, y, row, rows["artifact_label"].iloc[y - 1] if y else "")
            means = _same(summary, row, "artifact", "target")
            for i, name in enumerate(series):
                offset = 0.8 * ((i + 0.5) / len(series) - 0.5)
                bar = _Bar(y + offset, 0.64 / len(series), COLOURS[i], row["precision"] == "fp32")
                _draw_bar(left, bar, here, name, rate, means[means["series_label"] == name])
            _draw_clean_accuracy(right, y, here)
        percent_axis(left, "x", longest / (1 - room), f"{rate.split('_')[0]} success, %")
        percent_axis(right, "x", 1.0, "clean accuracy, %")
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_yticks([])
        _add_legend_entries(left, names)
        legend(figure, left)
    return out[0]


def _label_row(left: Axes, right: Axes, y: int, row: pd.Series, above: str) -> None:
    """Write a row's target beside it; and where a new artifact begins, its label and a rule."""
    label = row["artifact_label"]
    if label != above:
        edge = blended_transform_factory(left.figure.transFigure, left.transData)
        text = left.text(0, y, short(label, 34), transform=edge, va="center", color=INK)
        show_on_hover([text], [label])
        for axes in (left, right):
            axes.axhline(y - 0.5, color=RULE, lw=0.6)
    show_on_hover([_beside(left, -0.02, y, short(row["target"], 22), SOFT)], [row["target"]])


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
        axes.plot(values, [bar.y] * len(values), "o", color=bar.colour, ms=3.2, mew=0)
        end = np.nanmax([values.max(), interval.max(axis=None)])
        text = f"{100 * values.mean():.1f}"
        axes.annotate(text, (end, bar.y), (6, 0), textcoords="offset points", va="center")
        controls = here.merge(cells[SHARED_WITH_CONTROLS].drop_duplicates(), on=SHARED_WITH_CONTROLS)
        for control, marker, size in (("noise", "|", 9), ("grey", "o", 4)):
            average = _where(controls, attack=control)[rate].mean()
            axes.plot(average, bar.y, marker, ms=size, mfc="none", mec=INK)
    axes.plot(interval.T, [[bar.y] * len(mean)] * 2, color=INK, lw=1.4)


def _draw_clean_accuracy(axes: Axes, y: int, here: pd.DataFrame) -> None:
    """Mark clean accuracy: filled without a defence (or with the first, if all rows have one), hollow with each."""
    by_defence = here.groupby("defence", sort=False)["clean_accuracy"].max()
    axes.plot(by_defence, [y] * len(by_defence), "D", mfc="none", mec=SOFT, ms=4)
    accuracy = by_defence.get("", by_defence.iloc[0])
    axes.plot(accuracy, y, "D", color=INK, ms=4)
    _beside(axes, 1.24, y, "failed" if np.isnan(accuracy) else f"{100 * accuracy:.1f}", INK)


def _add_legend_entries(axes: Axes, names: list[str]) -> None:
    for colour, name in zip(COLOURS, names, strict=False):
        axes.plot([], [], "s", color=colour, label=name)
    axes.plot([], [], "|", ms=9, color=INK, mew=1.2, label="noise")
    axes.plot([], [], "o", ms=4, mfc="none", mec=INK, label="grey")


def _beside(axes: Axes, x: float, y: float, text: str, colour: str) -> Text:
    return axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="center", ha="right", color=colour)


def _same(table: pd.DataFrame, row: pd.Series, *columns: str) -> pd.DataFrame:
    return _where(table, **{column: row[column] for column in columns})


def _where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    return table[np.logical_and.reduce([table[column] == value for column, value in values.items()])]
