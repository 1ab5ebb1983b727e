"""The figures of `features`: how alike activations are, over the depth of a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.report.svg import COLOURS, MARKERS, WIDTH, drawing, legend, legend_columns, percent_axis, short
from harness.study.lib.inputs import Figure

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
    into = here.drop_duplicates("layer").sort_values("layer")["layer_name"]
    names = [short(name.removeprefix("into "), 26) for name in into]
    rows = -(-len(lines) // legend_columns(labels))
    height = 6.3 + 0.18 * rows
    with drawing(WIDTH, height) as (figure, out):
        grid = figure.subplots(2, 2, sharex=True)
        for axes, (comparison, value, title) in zip(grid.ravel(), PANELS, strict=True):
            for i, (artifact, target) in enumerate(lines):
                mine = here[(here["artifact"] == artifact) & (here["target"] == target)]
                _line(axes, mine[mine["comparison"] == comparison], value, i, len(lines), labels[i])
            axes.set_title(title, loc="left")
            least, most = axes.dataLim.intervaly
            if value == "saturated":
                percent_axis(axes, "y", max(most, 0.01), "")
            else:
                axes.set_ylim(*((np.floor(9.9 * least) / 10, 1.02) if value == "cka" else (0, 1.05 * most)))
                axes.grid(axis="y")
        for axes in grid[1]:
            axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
            axes.set_xlabel("the layer that the activations go into")
        legend(figure, grid[0, 0])
        figure.subplots_adjust(0.07, 1.25 / height, 0.99, 1 - (0.35 + 0.18 * rows) / height, wspace=0.1, hspace=0.2)
    many = here.loc[here["comparison"] == "patch", "patch"].nunique()
    return Figure(
        f"{victim}{part}",
        f"{victim}, layer by layer, on the same {here['n'].max():.0f} images with {many} patch{'es' * (many > 1)}. "
        "Points and the ends of lines and bands, 95 % over images (jackknife for CKA, t for norms), are means over "
        "patches. Files were cut at each layer and replayed on the target. Saturated: at an end of the levels that is "
        "not zero.",
        out[0],
    )


def _line(axes: Axes, here: pd.DataFrame, value: str, i: int, of: int, label: str) -> None:
    """One artifact, mean over patches, with its intervals; a little aside, since most artifacts lie on each other."""
    ends = [column for column in (f"{value}_low", f"{value}_high") if column in here]
    over = here.groupby("layer")[[value, *ends]].mean()
    if over[value].isna().all():
        return
    x = over.index.to_numpy() + 0.09 * (i - (of - 1) / 2)
    axes.plot(x, over[value], color=COLOURS[i], marker=MARKERS[i], ms=4.5, lw=1.1, alpha=0.9, label=label)
    if ends:
        axes.vlines(x, over[ends[0]], over[ends[1]], color=COLOURS[i], lw=1.4)
        axes.fill_between(x, over[ends[0]], over[ends[1]], color=COLOURS[i], alpha=0.1, lw=0)
