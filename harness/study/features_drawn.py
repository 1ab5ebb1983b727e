"""The figures of `features`: how alike activations are, over the depth of a network."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from harness.report.figures import WIDTH
from harness.report.svg import COLOURS, MARKERS, drawing, legend, legend_columns, percent_axis, short
from harness.study.inputs import Figure

LINES = 6  # artifacts in a figure: one a colour
PANELS = (
    ("patch", "cka", "Patched against clean: CKA"),
    ("patch", "relative_norm", "The patch's contribution: relative norm"),
    ("quantization, patched", "cka", "Against float, both patched: CKA"),
    ("patch", "saturated", "Patched: saturated activations, %"),
)


def draw(table: pd.DataFrame) -> list[Figure]:
    """A figure a victim, or more where it has more than `LINES` artifacts."""
    figures = []
    good = table[table["error"].isna()] if "error" in table else table
    for victim, here in good.groupby("victim", sort=False):
        lines = list(dict.fromkeys(zip(here["artifact"], here["target"], strict=True)))
        for start in range(0, len(lines), LINES):
            part = f"-{start // LINES + 1}" if len(lines) > LINES else ""
            figures.append(_figure(str(victim), part, here, lines[start : start + LINES]))
    return figures


def _figure(victim: str, part: str, here: pd.DataFrame, lines: list[tuple[str, str]]) -> Figure:
    labels = [f"{artifact} on {target}" for artifact, target in lines]
    names = here.drop_duplicates("layer").sort_values("layer")["layer_name"]
    rows = -(-len(lines) // legend_columns(labels))
    height = 6.3 + 0.18 * rows
    with drawing(WIDTH, height) as (figure, out):
        grid = figure.subplots(2, 2, sharex=True)
        for axes, (comparison, value, title) in zip(grid.ravel(), PANELS, strict=True):
            for i, (artifact, target) in enumerate(lines):
                mine = here[(here["artifact"] == artifact) & (here["target"] == target)]
                _line(axes, mine[mine["comparison"] == comparison], value, i, labels[i])
            axes.set_title(title, loc="left")
            top = axes.dataLim.y1
            if value == "saturated":
                percent_axis(axes, "y", max(top, 0.01), "")
            else:
                axes.set_ylim(0, 1.02 if value == "cka" else 1.05 * top)
                axes.grid(axis="y")
        for axes in grid[1]:
            axes.set_xticks(range(len(names)), [short(name, 26) for name in names], rotation=40, ha="right")
        legend(figure, grid[0, 0])
        figure.subplots_adjust(0.05, 1.25 / height, 0.99, 1 - (0.35 + 0.18 * rows) / height, wspace=0.1, hspace=0.2)
    patched = here[here["comparison"] == "patch"]
    return Figure(
        f"{victim}{part}",
        f"{victim}, by layer: means over {patched['patch'].nunique()} patches on the same {here['n'].max():.0f} "
        "images; bands are 95 % over images (mean over patches; jackknife for CKA, t for norms). Files were cut at "
        "each layer and replayed on the target. Saturated: at an end of the levels that is not zero.",
        out[0],
    )


def _line(axes: Axes, here: pd.DataFrame, value: str, i: int, label: str) -> None:
    """One artifact, mean over patches, with the band of its interval."""
    over = here.groupby("layer")[[c for c in (value, f"{value}_low", f"{value}_high") if c in here]].mean()
    if over[value].notna().any():
        axes.plot(over.index, over[value], color=COLOURS[i], marker=MARKERS[i], ms=4.5, lw=1.6, label=label)
    elif not axes.get_legend_handles_labels()[1]:
        axes.plot([], [], color=COLOURS[i], marker=MARKERS[i], ms=4.5, lw=1.6, label=label)
    if f"{value}_low" in over:
        axes.fill_between(over.index, over[f"{value}_low"], over[f"{value}_high"], color=COLOURS[i], alpha=0.18, lw=0)
