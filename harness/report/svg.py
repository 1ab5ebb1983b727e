"""Matplotlib figures as inline SVG: text and axes in the page's colours, series in Okabe and Ito's."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Okabe and Ito (2008), Color Universal Design.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "v", "P", "X")
# Stand-ins that become the page's own colours, so that a figure is legible in its light and its dark dress.
INK, SOFT, RULE = "#010101", "#020202", "#030303"
PAGE = {INK: "currentColor", SOFT: "var(--soft)", RULE: "var(--rule)"}
PAGE |= {colour.lower(): f"var(--series-{i})" for i, colour in enumerate(COLOURS)}  # a little brighter on black
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "patchbench", "text.parse_math": False, "font.size": 9, "text.color": INK,
    "axes.edgecolor": RULE, "axes.labelcolor": SOFT, "axes.titlesize": 9, "axes.titleweight": "bold",
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.major.size": 0, "ytick.major.size": 0, "grid.color": RULE, "grid.linewidth": 0.6, "axes.axisbelow": True,
}  # fmt: skip


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Figure, list[Markup]]]:
    """A figure of so many inches; when the block ends, its SVG is put into the list that came with it."""
    with mpl.rc_context(STYLE):
        figure, out = Figure(figsize=(width, height)), list[Markup]()
        yield figure, out
        figure.patch.set_alpha(0)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.S)
    svg = re.sub(r'^.*?<svg .*?viewBox="(.*?)".*?>', r'<svg viewBox="\1" role="img">', svg, count=1, flags=re.S)
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    for stand_in, colour in PAGE.items():
        svg = svg.replace(stand_in, colour)
    out.append(Markup(svg))  # what came from files has been escaped by matplotlib


def standalone(svg: Markup) -> str:
    """A figure of the page as a file of its own."""
    names = (
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'style="background:var(--paper);color:var(--ink)"'
    )
    head, tag, rest = str(svg).partition(">")
    style = (Path(__file__).parent / "report.css").read_text()
    return head.replace("<svg ", f"<svg {names} ", 1) + tag + f"<style>{style}</style>" + rest + "\n"


def percent_axis(axes: Axes, which: Literal["x", "y"], limit: float, title: str) -> None:
    """An axis of fractions from 0 to the limit, labelled in percent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}lim": (0, limit * 1.04), f"{which}label": title})
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    decimals = 0 if limit >= 0.05 else 1 if limit >= 0.005 else 2
    axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals, symbol=""))
    axes.grid(axis=which)


def legend_columns(labels: Sequence[str]) -> int:
    """How many of these labels fit beside each other above a figure of the page's width."""
    return max(1, min(5, 130 // (6 + max(map(len, labels)))))


def legend(figure: Figure, axes: Axes) -> None:
    """What the axes' labelled marks mean, on top."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.008, 1.0), ncols=legend_columns(labels), frameon=False,
        handletextpad=0.4, columnspacing=1.6, borderaxespad=0, borderpad=0, handlelength=1.2,
    )  # fmt: skip


def short(text: str, most: int) -> str:
    """The text, cut where it would run over its neighbours."""
    return text if len(text) <= most else text[: most - 1] + "…"
