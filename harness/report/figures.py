"""What the page draws: success by target, and calibration beside calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from harness.report.svg import COLOURS, INK, MARKERS, RULE, SOFT, drawing, legend, legend_columns, percent_axis, short
from harness.results.metrics import is_lab
from patches.patch import CONTROLS

WIDTH, ROW, LINE = 9.6, 0.3, 0.18  # inches: the figure, a row, a line of the legend
SERIES_A_FIGURE = 4
PLACE = ["patch_px", "shape", "placement", "defence"]  # what an attack shares with its controls


def success(cells: pd.DataFrame, summary: pd.DataFrame) -> list[tuple[str, Markup]]:
    """(victim, SVG) of success and clean accuracy by artifact and target, one figure a victim and four series.

    ``cells`` and their ``summary`` are labelled. A bar is the mean over patches, a line its 95 % interval, a dot a
    patch; the tick and the ring are the means of the noise and grey controls of the same size and place.
    """
    figures = []
    for victim, table in cells.groupby("victim", sort=False):
        series = list(dict.fromkeys(table.loc[~table["attack"].isin(CONTROLS), "series_label"])) or [""]
        for start in range(0, len(series), SERIES_A_FIGURE):
            chosen = series[start : start + SERIES_A_FIGURE]
            figures.append((str(victim), _success(table, summary[summary["victim"] == victim], chosen)))
    return figures


def _success(table: pd.DataFrame, summary: pd.DataFrame, series: list[str]) -> Markup:
    rows = table.drop_duplicates(["artifact", "target"]).to_dict("records")
    rate = "targeted_success" if table["targeted_success"].notna().any() else "untargeted_success"
    top = float(table[rate].max()) if table[rate].notna().any() else 0.0
    limit = max(0.1, 1.1 * top)
    names = [short(name, 90) or "no patch" for name in series]
    lines = -(-len([*names, "noise", "grey"]) // legend_columns([*names, "noise", "grey"]))
    height = ROW * len(rows) * (1 + 0.45 * (len(series) - 1)) + 0.77 + LINE * lines
    with drawing(WIDTH, height) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1.3])
        edge = blended_transform_factory(figure.transFigure, left.transData)
        above = ""
        for y, row in enumerate(rows):
            here = table[(table["artifact"] == row["artifact"]) & (table["target"] == row["target"])]
            if row["artifact_label"] != above:
                left.text(0, y, short(row["artifact_label"], 34), transform=edge, va="center", color=INK)
                for axes in (left, right):
                    axes.axhline(y - 0.5, color=RULE, lw=0.6)
            above = row["artifact_label"]
            _beside(left, -0.02, y, short(row["target"], 22), SOFT, "right")
            for i, name in enumerate(series):
                at = y + 0.8 * ((i + 0.5) / len(series) - 0.5)
                mean = summary[
                    (summary["artifact"] == row["artifact"])
                    & (summary["target"] == row["target"])
                    & (summary["series_label"] == name)
                ]
                span = mean[[f"{rate}_low", f"{rate}_high"]]
                pale = row["precision"] == "fp32"
                _bar(left, at, here, name, rate, COLOURS[i], 0.64 / len(series), pale, span.max(axis=None))
                left.plot(span.T, [[at] * len(mean)] * 2, color=INK, lw=1.4)
            clean = here.groupby("defence", sort=False)["clean_accuracy"].max()
            right.plot(clean, [y] * len(clean), "D", mfc="none", mec=SOFT, ms=4)  # behind defences, where there are any
            _clean(right, y, clean.get("", clean.iloc[0]))
        percent_axis(left, "x", limit, f"{rate.split('_')[0]} success, %")
        percent_axis(right, "x", 1.0, "clean accuracy, %")
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_yticks([])
        for colour, name in zip(COLOURS, names, strict=False):
            left.plot([], [], "s", color=colour, label=name)
        left.plot([], [], "|", ms=9, color=INK, mew=1.2, label="noise")
        left.plot([], [], "o", ms=4, mfc="none", mec=INK, label="grey")
        legend(figure, left)
        figure.subplots_adjust(0.4, 0.48 / height, 0.935, 1 - (0.24 + LINE * lines) / height, wspace=0.1)
    return out[0]


def _beside(axes: Axes, x: float, y: float, text: str, colour: str, align: str) -> None:
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="center", ha=align, color=colour)


def _clean(axes: Axes, y: float, accuracy: float) -> None:
    axes.plot(accuracy, y, "D", color=INK, ms=4)
    _beside(axes, 1.24, y, "failed" if np.isnan(accuracy) else f"{100 * accuracy:.1f}", INK, "right")


def _bar(
    axes: Axes, y: float, here: pd.DataFrame, series: str, rate: str, colour: str, width: float, pale: bool, top: float
) -> None:
    cells = here[here["series_label"] == series]
    values = cells[rate].dropna()
    if values.empty:
        if (cells["status"] == "error").any():
            axes.text(0.004, y, "failed", va="center", color=INK, style="italic")
        return
    axes.barh(y, values.mean(), width, color=colour, alpha=0.25 if pale else 0.6, lw=0)
    axes.plot(values, [y] * len(values), "o", color=colour, ms=3.2, mew=0)
    axes.annotate(
        f"{100 * values.mean():.1f}",
        (np.nanmax([values.max(), top]), y),
        (6, 0),
        textcoords="offset points",
        va="center",
    )
    controls = here.merge(cells[PLACE].drop_duplicates(), on=PLACE)
    for control, marker, size in (("noise", "|", 9), ("grey", "o", 4)):
        axes.plot(controls.loc[controls["attack"] == control, rate].mean(), y, marker, ms=size, mfc="none", mec=INK)


def calibration(cells: pd.DataFrame) -> list[tuple[str, Markup]]:
    """(victim, SVG) of the same patches on files that differ in their calibration alone; none where none do.

    ``cells`` are labelled. A panel is a format (with its signature and granularity), a colour a target, a thin line a
    patch, the thick one their mean; diamonds are clean accuracy, the dashed line is the float network in PyTorch.
    """
    made = cells[~cells["attack"].isin(CONTROLS) & (cells["status"] == "ok")]
    made = made[made["defence"] == ""] if (made["defence"] == "").any() else made
    rate = "targeted_success" if made["targeted_success"].notna().any() else "untargeted_success"
    figures = []
    for victim, table in made.groupby("victim", sort=False):
        files = table[table["calibration"] != ""].groupby(["format", "signature", "granularity"], sort=False)
        panels = [panel for _, panel in files if panel["calibration"].nunique() > 1]
        if panels:
            lab = float(table.loc[is_lab(table), rate].mean())
            figures.append((str(victim), _slopes(panels, rate, lab)))
    return figures


def _slopes(panels: list[pd.DataFrame], rate: str, lab: float) -> Markup:
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    targets = list(dict.fromkeys(pd.concat(panels)["target"]))
    dress = {target: (COLOURS[i % 6], MARKERS[i % 6]) for i, target in enumerate(targets)}
    height = 2.9 * lines + 0.3
    with drawing(WIDTH, height) as (figure, out):
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for i, panel in enumerate(panels):
            names = list(dict.fromkeys(panel["calibration"]))
            present = list(panel.groupby("target", sort=False))
            for k, (target, here) in enumerate(present):
                _slope(grid[i], here, rate, names, 0.05 * (k - (len(present) - 1) / 2), *dress[str(target)])
            grid[i].axhline(lab, color=INK, lw=0.9, ls=(0, (4, 3)))
            row = panel.iloc[0]
            words = (row["artifact_label"].split()[0], row["signature"].upper(), row["granularity"].replace("_", "-"))
            grid[i].set_title(" ".join(word for word in words if word), loc="left")
            grid[i].set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
            grid[i].set_xlim(-0.25, len(names) - 0.75)
            percent_axis(grid[i], "y", 1.0, "" if i % columns else f"{rate.split('_')[0]} success, %")
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for target, (colour, marker) in dress.items():
            grid[0].plot([], [], color=colour, marker=marker, ms=5, lw=2.2, label=short(target, 24))
        grid[0].plot([], [], "D", mfc="none", mec=INK, ms=4.5, label="clean accuracy")
        grid[0].plot([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label="float, PyTorch")
        legend(figure, grid[0])
        figure.subplots_adjust(0.065, 0.42 / height, 0.99, 1 - 0.62 / height, wspace=0.12, hspace=0.45)
    return out[0]


def _slope(axes: Axes, here: pd.DataFrame, rate: str, names: list[str], aside: float, colour: str, marker: str) -> None:
    """One target's patches over the calibrations; their mean is over those that ran on every one."""
    patches = here.pivot_table(index=["series_label", "patch"], columns="calibration", values=rate).reindex(
        columns=names
    )
    x = np.arange(len(names)) + aside
    for values in patches.to_numpy():
        axes.plot(x, values, color=colour, lw=0.7, alpha=0.35)
    axes.plot(x, patches.dropna().mean().to_numpy(), color=colour, lw=2.2, marker=marker, ms=5)
    clean = here.groupby("calibration")["clean_accuracy"].first().reindex(names)
    axes.plot(x, clean.to_numpy(), "D", mfc="none", mec=colour, ms=4.5)
