"""Matplotlib figures as inline SVG: text and axes in the page's colours, series in those of Okabe and Ito."""

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
WIDTH = 9.6  # inches, of a figure as wide as the page
# Placeholders that become the page's own colours, so that a figure is legible on a light and on a dark page.
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
    """Yield a figure of this size in inches and a list that holds its SVG once the block ends."""
    out: list[Markup] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, out
        figure.patch.set_alpha(0)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.S)
    svg = re.sub(r'^.*?<svg .*?viewBox="(.*?)".*?>', r'<svg viewBox="\1" role="img">', svg, count=1, flags=re.S)
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    for placeholder, colour in PAGE.items():
        svg = svg.replace(placeholder, colour)
    out.append(Markup(svg))  # matplotlib has escaped all text


def standalone(svg: Markup) -> str:
    """Return a figure of the page as an SVG file of its own."""
    style_of_page = "background:var(--paper);color:var(--ink)"
    names = f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="{style_of_page}"'
    head, tag, rest = str(svg).partition(">")
    style = (Path(__file__).parent / "report.css").read_text()
    return head.replace("<svg ", f"<svg {names} ", 1) + tag + f"<style>{style}</style>" + rest + "\n"


def percent_axis(axes: Axes, which: Literal["x", "y"], limit: float, title: str) -> None:
    """Make an axis of fractions run from 0 to the limit, labelled in percent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}lim": (0, limit * 1.04), f"{which}label": title})
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    decimals = 0 if limit >= 0.05 else 1 if limit >= 0.005 else 2
    axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals, symbol=""))
    axes.grid(axis=which)


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many of these labels fit side by side above a figure as wide as the page."""
    return max(1, min(5, 130 // (6 + max(map(len, labels)))))


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend of the axes' labelled marks above the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.008, 1.0), ncols=legend_columns(labels), frameon=False,
        handletextpad=0.4, columnspacing=1.6, borderaxespad=0, borderpad=0, handlelength=1.2,
    )  # fmt: skip


def short(text: str, most: int) -> str:
    """Cut a text to at most so many characters, with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"
