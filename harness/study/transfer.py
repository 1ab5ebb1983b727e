"""Transferability: what a patch made on one network, at some bits, does to another one, on a runtime."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from harness.report.svg import INK, SOFT, drawing, short
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.words import as_the_first, between, made, over, place

QUESTION = "Does a patch made on one network and precision work on another one, and on its integer kernels?"
CELL, MARGIN, WRITTEN = 0.26, 3.0, 900  # inches a cell and a label; most cells with a number in each
RATES = ("targeted", "untargeted")


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row a surrogate, victim and place, over target classes and seeds, of one attack, size and placement.

    ``targeted`` and ``untargeted`` success with their 95 % intervals over patches and images, ``n_patches`` patches and
    ``n_targeted``, ``n_untargeted`` images in all; ``same_network`` and ``same_bits`` say how near the two are.
    """
    found = made(inputs.over_patches)
    found = as_the_first(found[found["attack"] == inputs.settings.attack], "patch_px", "shape", "placement")
    rows = []
    for row in found.to_dict("records"):
        rows.append(
            {
                "surrogate": f"{row['made_on']} {row['made_bits']}",
                "victim": f"{row['victim']} {place(row)}",
                "made_on": row["made_on"],
                "made_bits": row["made_bits"],
                "network": row["victim"],
                "precision": row["precision"],
                "artifact": row["artifact"],
                "target": row["target"],
                "simulated": row["runtime"] == "torch",
                "same_network": row["made_on"] == row["victim"],
                "same_bits": row["made_bits"].removesuffix(" trained") == row["precision"].replace("fp32", "float"),
                "n_patches": row["n_patches"],
                "clean_accuracy": row["clean_accuracy"],
                "interval_over": row["interval_over"],
                "noise": row["noise"],
                **{f"{r}{end}": row[f"{r}_success{end}"] for r in RATES for end in ("", "_low", "_high")},
                **{f"n_{r}": row[f"n_{r}"] for r in RATES},
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> list[Figure]:
    """Heat maps of both kinds of success: surrogates down, victims across, each ordered so that like lies by like."""
    figures = []
    for rate in RATES:
        matrix = table.pivot_table(index="surrogate", columns="victim", values=rate, sort=False)
        if min(matrix.shape) < 2 or matrix.isna().all(axis=None):
            continue
        matrix = matrix.iloc[order(matrix.to_numpy()), order(matrix.to_numpy().T)]
        height, width = matrix.shape
        with drawing(MARGIN + CELL * width + 0.9, MARGIN + CELL * height) as (figure, out):
            axes = figure.subplots()
            _heat(axes, matrix, rate)
            figure.subplots_adjust(
                MARGIN / (MARGIN + CELL * width + 0.9), 0.02, 1 - 0.9 / (MARGIN + CELL * width + 0.9),
                CELL * height / (MARGIN + CELL * height),
            )  # fmt: skip
        half = ((table[f"{rate}_high"] - table[f"{rate}_low"]) / 2).median()
        n = f"{between(table['n_patches'])} patches a cell"
        images = table[f"n_{rate}"] / table["n_patches"]
        caption = (
            f"{rate.capitalize()} success in percent: patches made on (rows), laid before (columns), {n}, "
            f"{between(images)} images a patch; half the 95 % interval is "
            f"{100 * half:.1f} points in the median ({over(table)}). Rows and columns are ordered by "
            "hierarchical clustering. Empty: not in the suite."
        )
        figures.append(Figure(rate, caption, out[0]))
    return figures


def order(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows in the order of the leaves of an average-linkage tree; what is absent counts as its column's mean."""
    columns = np.nanmean(matrix, axis=0, where=~np.isnan(matrix))
    filled = np.where(np.isnan(matrix), np.nan_to_num(columns), matrix)
    return np.asarray(hierarchy.leaves_list(hierarchy.linkage(filled, "average", optimal_ordering=True)), np.int64)


def _heat(axes: Axes, matrix: pd.DataFrame, rate: str) -> None:
    values = matrix.to_numpy()
    top = max(0.1, float(np.nanmax(values)))
    mesh = axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=top, edgecolors="white", linewidth=0.5)
    if values.size <= WRITTEN:
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value < 0.55 * top else "black"
                axes.text(j + 0.5, i + 0.5, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_ylim(len(values), 0)
    axes.set_yticks(
        np.arange(len(values)) + 0.5, [short(str(name), 46) for name in matrix.index], color=INK, fontsize=8
    )
    axes.xaxis.tick_top()
    names = [short(str(name), 46) for name in matrix.columns]
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, names, rotation=90, color=INK, fontsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = axes.figure.colorbar(mesh, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    bar.set_label("success, %", color=SOFT)
    bar.outline.set_visible(False)  # type: ignore[operator]
