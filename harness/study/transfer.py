"""Transferability: success of a patch made on one network, at some bits, against another network, on a runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from harness.report.svg import INK, PAPER, SOFT, drawing, short, shortened, show_on_hover, ticks
from harness.study.lib.cells import attacks
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.labels import between, bits, interval_over, place
from harness.study.lib.tables import like_the_first, where, with_interval

QUESTION = "Does a patch made on one network and precision work on another, and on its integer kernels?"
LONGEST = 32  # characters of a name
COLUMNS = 20  # of a figure, so that its numbers can be read in print
CELL_WIDTH, CELL_HEIGHT = 0.34, 0.24  # inches
LETTER = 0.078  # inches
NETWORK, ABOVE, RIGHT, BELOW = 1.3, 0.4, 0.9, 0.1  # inches around the cells and the names beside them
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
    """Draw heat maps for each kind of success, surrogates down, victims across, both grouped by network.

    A figure has at most `COLUMNS` victims: whole networks where they fit.
    """
    places = [str(row.victim).removeprefix(f"{row.network} ") for row in table.itertuples()]
    columns = in_order(table.assign(place=places), "victim", "network", "place")
    rows = in_order(table, "surrogate", "made_on", "made_bits")
    parts = pages(columns)
    figures = []
    for rate in RATES:
        matrix = table.pivot_table(index="surrogate", columns="victim", values=rate, sort=False)
        if min(matrix.shape) < 2 or matrix.isna().all(axis=None):
            continue
        top = max(0.1, float(np.nanmax(matrix.to_numpy())))
        for page, part in enumerate(parts, start=1):
            here = matrix.reindex(rows["surrogate"]).reindex(columns=part["victim"])
            known = here.notna().any(axis=1).to_numpy()
            name = rate if len(parts) == 1 else f"{rate}-{page}"
            caption = _caption(table[table["victim"].isin(part["victim"])], rate)
            figures.append(Figure(name, caption, _heat_map(here[known], rows[known], part, top)))
    return figures


def in_order(table: pd.DataFrame, name: str, network: str, rest: str) -> pd.DataFrame:
    """Return each ``name`` once with its ``network`` and the ``rest`` of it, by network, kind, and falling bits.

    Names of a kind are alike but for their bits: ``w8a8, LiteRT`` and ``w4a8, LiteRT``. Float is the first.
    """
    one = table.drop_duplicates(name)
    found = pd.DataFrame({name: one[name], "network": one[network], "rest": one[rest]})
    words = found["rest"].str.replace(",", "").str.split(n=1)
    width = words.str[0].map(bits)
    is_rounded = width != (32, 32)
    kind = words.str[-1].where(is_rounded, words.str[0])
    by: dict[str, Any] = {
        "_network": pd.factorize(found["network"])[0],
        "_is_other": kind != "float",
        "_kind": pd.factorize(kind)[0],
        "_weights": -width.str[0],
        "_activations": -width.str[1],
    }
    return found.assign(**by).sort_values(list(by), kind="stable").drop(columns=list(by)).reset_index(drop=True)


def pages(columns: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the columns of each figure, `COLUMNS` at most: as few figures as hold whole networks, or halves of one."""
    parts: list[pd.DataFrame] = []
    for _, network in columns.groupby("network", sort=False):
        pieces = -(-len(network) // COLUMNS)
        for piece in np.array_split(np.arange(len(network)), pieces):
            rows = network.iloc[piece]
            if parts and pieces == 1 and len(parts[-1]) + len(rows) <= COLUMNS:
                parts[-1] = pd.concat([parts[-1], rows])
            else:
                parts.append(rows)
    return parts


def _caption(table: pd.DataFrame, rate: str) -> str:
    half = ((table[f"{rate}_high"] - table[f"{rate}_low"]) / 2).median()
    images = table[f"n_{rate}"] / table["n_patches"]
    return (
        f"{rate.capitalize()} success in percent of patches made on one network (rows) against another (columns): "
        f"{between(table['n_patches'])} patches per cell, {between(images)} images per patch. The median 95 % interval "
        f"is ± {100 * half:.1f} points ({interval_over(table)}). Empty cells are not in the suite."
    )


def _heat_map(matrix: pd.DataFrame, rows: pd.DataFrame, columns: pd.DataFrame, top: float) -> Markup:
    values = matrix.to_numpy()
    down, across = CELL_HEIGHT * len(rows), CELL_WIDTH * len(columns)
    names = (list(rows["rest"]), list(columns["rest"]))
    left, above = (LETTER * max(map(len, shortened(one, LONGEST))) for one in names)
    left, above = left + NETWORK, above + ABOVE
    width, height = left + across + RIGHT, above + down + BELOW
    with drawing(width, height) as (figure, out):
        axes = figure.add_axes((left / width, BELOW / height, across / width, down / height))
        mesh = axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=top, edgecolors=PAPER, linewidth=0.5)
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "#ffffff" if value < 0.55 * top else "#000000"
                text = f"{100 * value:.0f}"
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center_baseline", color=colour, fontsize=8)
        axes.set_ylim(len(rows), 0)
        axes.xaxis.tick_top()
        ticks(axes, "y", names[0], LONGEST, offset=0.5, color=INK)
        ticks(axes, "x", names[1], LONGEST, offset=0.5, color=INK, rotation=90)
        _part(axes, rows["network"], columns["network"])
        for start, _, network in _groups(rows["network"]):
            _name_network(figure, 0.08, BELOW + down - CELL_HEIGHT * (start + 0.5), network, 14)
        for start, size, network in _groups(columns["network"]):
            room = 4 * size + (8 if start + size == len(columns) else 0)
            _name_network(figure, left + CELL_WIDTH * start, height - 0.15, network, room)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(mesh, cax=figure.add_axes((1 - 0.7 / width, BELOW / height, 0.1 / width, down / height)))
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
        bar.set_label("success, %", color=SOFT)
        bar.outline.set_visible(False)  # type: ignore[operator]
    return out[0]


def _part(axes: Axes, rows: pd.Series, columns: pd.Series) -> None:
    """Part the groups of rows and of columns."""
    for start, _, _ in _groups(rows):
        axes.axhline(start, color=PAPER, lw=4)
    for start, _, _ in _groups(columns):
        axes.axvline(start, color=PAPER, lw=4)


def _name_network(figure: Canvas, x: float, y: float, network: str, most: int) -> None:
    """Write a network's name at a place in inches."""
    place = figure.dpi_scale_trans
    text = figure.text(x, y, short(network, most), weight="bold", color=INK, va="center", transform=place)
    show_on_hover([text], [network])


def _groups(networks: pd.Series) -> list[tuple[int, int, str]]:
    """Return where each run of equal names starts, its length, and the name."""
    names = list(networks)
    starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    ends = [*starts[1:], len(names)]
    return [(start, end - start, names[start]) for start, end in zip(starts, ends, strict=True)]
