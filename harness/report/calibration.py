"""The report's figure of calibrations side by side."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.svg import (
    COLOURS,
    INK,
    LEGEND_LINE_INCHES,
    MARKERS,
    Figures,
    drawing,
    for_windows,
    legend,
    legend_lines,
    percent_axis,
    spread_by_rank,
)
from harness.results.metrics import is_lab
from patches.patch import CONTROLS

PANEL_INCHES = 2.3  # the least width of a panel
LABEL_INCHES = 0.75  # of a calibration's name below it
LEFT_INCHES = 0.62
DASHED = (0, (4, 3))
CLEAN, LAB = "clean accuracy", "float, PyTorch"


class _Style(NamedTuple):
    """How one target is drawn."""

    colour: str
    marker: str


def calibration_figures(cells: pd.DataFrame, most: int | None = None) -> list[tuple[str, Figures]]:
    """Return the first (victim, figures) pairs: the same patches on files that differ in their calibration alone.

    ``cells`` are labelled. A panel is a format (with its signature and granularity), a colour a target, a thin line a
    patch, the thick one their mean; diamonds are clean accuracy, the dashed line is the float network in PyTorch.
    """
    attacked = cells[~cells["attack"].isin(CONTROLS) & (cells["status"] == "ok")]
    if (attacked["defence"] == "").any():
        attacked = attacked[attacked["defence"] == ""]
    rate = "targeted_success" if attacked["targeted_success"].notna().any() else "untargeted_success"
    figures: list[tuple[str, Figures]] = []
    for victim, table in attacked.groupby("victim", sort=False):
        files = table[table["calibration"] != ""].groupby(["format", "signature", "granularity"], sort=False)
        panels = [panel for _, panel in files if panel["calibration"].nunique() > 1]
        if panels and (most is None or len(figures) < most):
            lab = float(table.loc[is_lab(table), rate].mean())
            figures.append((str(victim), for_windows(partial(_figure, panels, rate, lab))))
    return figures


def _figure(panels: list[pd.DataFrame], rate: str, lab: float, width: float) -> Markup:
    least = max(PANEL_INCHES, LABEL_INCHES * max(panel["calibration"].nunique() for panel in panels))
    columns = max(1, min(round((width - LEFT_INCHES) / least), len(panels)))
    lines = -(-len(panels) // columns)
    targets = dict.fromkeys(pd.concat(panels)["target"])
    styles = {str(target): _Style(COLOURS[i % 6], MARKERS[(i + i // 6) % 6]) for i, target in enumerate(targets)}
    legend_height = LEGEND_LINE_INCHES * legend_lines([*styles, CLEAN, LAB], width)
    height = 2.9 * lines + 0.12 + legend_height
    with drawing(width, height) as (figure, out):
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for i, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
            _draw_panel(axes, panel, rate, styles)
            axes.axhline(lab, color=INK, lw=0.9, ls=DASHED)
            percent_axis(axes, "y", 1.0, "" if i % columns else f"{rate.split('_')[0]} success, %")
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for target, style in styles.items():
            grid[0].plot([], [], color=style.colour, marker=style.marker, ms=5, lw=2.2, label=target)
        grid[0].plot([], [], "D", mfc="none", mec=INK, ms=4.5, label=CLEAN)
        grid[0].plot([], [], color=INK, lw=0.9, ls=DASHED, label=LAB)
        legend(figure, grid[0])
        top = 1 - (0.44 + legend_height) / height
        figure.subplots_adjust(LEFT_INCHES / width, 0.42 / height, 0.99, top, wspace=0.12, hspace=0.45)
    return out[0]


def _draw_panel(axes: Axes, panel: pd.DataFrame, rate: str, styles: dict[str, _Style]) -> None:
    names = list(dict.fromkeys(panel["calibration"]))
    present = list(panel.groupby("target", sort=False))
    for k, (target, here) in enumerate(present):
        x = np.arange(len(names)) + 0.05 * (k - (len(present) - 1) / 2)
        _draw_target(axes, here, rate, names, x, styles[str(target)])
    row = panel.iloc[0]
    title = (row["artifact_label"].split()[0], row["signature"].upper(), row["granularity"].replace("_", "-"))
    axes.set_title(" ".join(part for part in title if part), loc="left")
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.set_xlim(-0.25, len(names) - 0.75)


def _draw_target(axes: Axes, here: pd.DataFrame, rate: str, names: list[str], x: np.ndarray, style: _Style) -> None:
    """Draw one target's patches over the calibrations; their mean is over those that ran with every calibration."""
    wide = here.pivot_table(index=["series_label", "patch"], columns="calibration", values=rate)
    patches = wide.reindex(columns=names)
    for values in patches.loc[spread_by_rank(patches.mean(axis=1))].to_numpy():
        axes.plot(x, values, color=style.colour, lw=0.7, alpha=0.35)
    axes.plot(x, patches.dropna().mean().to_numpy(), color=style.colour, lw=2.2, marker=style.marker, ms=5)
    clean = here.groupby("calibration")["clean_accuracy"].first().reindex(names)
    axes.plot(x, clean.to_numpy(), "D", mfc="none", mec=style.colour, ms=4.5)
