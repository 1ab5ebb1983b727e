"""Transferability: success of a patch made on one network, at some bits, against another network, on a runtime."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from harness.report.svg import INK, SOFT, drawing, short
from harness.study.lib.cells import attacks
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.labels import between, interval_over, place
from harness.study.lib.tables import like_the_first, where, with_interval

QUESTION = "Does a patch made on one network and precision work on another, and on its integer kernels?"
CELL = 0.26  # inches per cell
MARGIN = 3.0  # inches for labels
COLOUR_BAR = 0.9  # inches
WRITTEN = 900  # cells; a larger matrix has no numbers in them
RATES = ("targeted", "untargeted")
RENAMED = {f"{rate}_success{end}": f"{rate}{end}" for rate in RATES for end in ("", "_low", "_high")} | {
    "victim": "network"
}


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per surrogate, victim and place, over target classes and seeds, of one attack, size and placement.

    ``targeted`` and ``untargeted`` success have 95 % intervals over patches and images, ``n_patches`` patches and
    ``n_targeted``, ``n_untargeted`` images in all; ``same_network`` and ``same_bits`` compare surrogate and victim.
    """
    table = where(attacks(inputs.over_patches), attack=inputs.settings.attack)
    table = like_the_first(table, "patch_px", "shape", "placement")
    if table.empty:
        return pd.DataFrame()
    precision = table["precision"].str.replace("fp32", "float")
    victims = [f"{row.victim} {place(row)}" for row in table.itertuples()]
    table = table.rename(columns=RENAMED).assign(
        surrogate=table["made_on"] + " " + table["made_bits"],
        victim=victims,
        simulated=table["runtime"] == "torch",
        same_network=table["made_on"] == table["victim"],
        same_bits=table["made_bits"].str.removesuffix(" trained") == precision,
    )
    columns = [
        *("surrogate", "victim", "made_on", "made_bits", "network", "precision", "artifact", "target", "simulated"),
        *("same_network", "same_bits", "n_patches", "clean_accuracy", "interval_over", "noise"),
        *with_interval(*RATES),
        *("n_targeted", "n_untargeted"),
    ]
    return table[columns]


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw a heat map per kind of success, surrogates down, victims across, each ordered so that similar ones meet."""
    figures = []
    for rate in RATES:
        matrix = table.pivot_table(index="surrogate", columns="victim", values=rate, sort=False)
        if min(matrix.shape) < 2 or matrix.isna().all(axis=None):
            continue
        matrix = matrix.iloc[order(matrix.to_numpy()), order(matrix.to_numpy().T)]
        rows, columns = matrix.shape
        width = MARGIN + CELL * columns + COLOUR_BAR
        height = MARGIN + CELL * rows
        with drawing(width, height) as (figure, out):
            _heat_map(figure.subplots(), matrix)
            figure.subplots_adjust(MARGIN / width, 0.02, 1 - COLOUR_BAR / width, CELL * rows / height)
        figures.append(Figure(rate, _caption(table, rate), out[0]))
    return figures


def _caption(table: pd.DataFrame, rate: str) -> str:
    half = ((table[f"{rate}_high"] - table[f"{rate}_low"]) / 2).median()
    images = table[f"n_{rate}"] / table["n_patches"]
    return (
        f"{rate.capitalize()} success in percent of patches made on one network (rows) against another (columns): "
        f"{between(table['n_patches'])} patches per cell, {between(images)} images per patch. The median 95 % interval "
        f"is ± {100 * half:.1f} points ({interval_over(table)}). Rows and columns are ordered by hierarchical "
        "clustering. Empty cells are not in the suite."
    )


def order(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return rows in the order of an average-linkage tree's leaves; a missing value counts as its column's mean."""
    columns = np.nanmean(matrix, axis=0, where=~np.isnan(matrix))
    filled = np.where(np.isnan(matrix), np.nan_to_num(columns), matrix)
    return np.asarray(hierarchy.leaves_list(hierarchy.linkage(filled, "average", optimal_ordering=True)), np.int64)


def _heat_map(axes: Axes, matrix: pd.DataFrame) -> None:
    values = matrix.to_numpy()
    top = max(0.1, float(np.nanmax(values)))
    mesh = axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=top, edgecolors="white", linewidth=0.5)
    if values.size <= WRITTEN:
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value < 0.55 * top else "black"
                axes.text(j + 0.5, i + 0.5, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_ylim(len(values), 0)
    rows = [short(str(name), 46) for name in matrix.index]
    columns = [short(str(name), 46) for name in matrix.columns]
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, color=INK, fontsize=8)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90, color=INK, fontsize=8)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(mesh, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    bar.set_label("success, %", color=SOFT)
    bar.outline.set_visible(False)  # type: ignore[operator]
