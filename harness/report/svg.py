"""Matplotlib figures as SVG files: dark ink on opaque paper, in colours that a page replaces by its own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Okabe and Ito (2008), Color Universal Design.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "v", "P", "X")
WIDTH, NARROW = 9.6, 4.6  # inches, of figures as wide as the page in a usual and in a narrow window
PAPER, INK, SOFT, RULE = "#fdfdfb", "#1d2127", "#5c636d", "#dfe1e4"
# On a page these are its own colours, in the light and in the dark.
PAGE = {PAPER: "--paper", INK: "--ink", SOFT: "--soft", RULE: "--rule"}
PAGE |= {colour: f"--series-{i}" for i, colour in enumerate(COLOURS)}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "patchbench", "text.parse_math": False, "font.size": 9, "text.color": INK,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"], "figure.facecolor": PAPER, "axes.facecolor": "none",
    "axes.edgecolor": RULE, "axes.labelcolor": SOFT, "axes.titlesize": 9, "axes.titleweight": "bold",
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.major.size": 0, "ytick.major.size": 0, "grid.color": RULE, "grid.linewidth": 0.6, "axes.axisbelow": True,
}  # fmt: skip
PAINT = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6});? ?")
LEGEND_NAME = 52  # characters
MARKS = 100  # of one series, that an eye tells apart
LEGEND_LINE_INCHES = 0.18
LEGEND_GAP = 6  # pixels between a legend and what is below it
HOVER = "hover:"  # before a group's id that is the whole of a shortened text


class Figures(NamedTuple):
    """One figure for usual windows, and the same for narrow ones."""

    wide: Markup
    narrow: Markup


def for_windows(draw: Callable[[float], Markup]) -> Figures:
    """Draw a figure at both widths, in inches."""
    return Figures(draw(WIDTH), draw(NARROW))


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Figure, list[Markup]]]:
    """Yield a figure of this size in inches and a list that holds its SVG once the block ends.

    The SVG is a file of its own, for every program and both kinds of pages; `page_style` lets it take a page's colours.
    """
    out: list[Markup] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, out
        _clear_legends(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg ") :].replace("<svg ", '<svg role="img" ', 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'style="([^"]*)"', _paint_as_attributes, svg)
    svg = re.sub(rf"""<g id=(["']){HOVER}(.*?)\1>""", r"<g><title>\2</title>", svg)
    out.append(Markup(svg))  # matplotlib has escaped all text


def _clear_legends(figure: Figure) -> None:
    """Lower the axes that a legend of more lines than were foreseen would cover."""
    if not figure.legends:
        return
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    highest = max((box.y1 for box in boxes if box is not None), default=0.0)
    for made in figure.legends:
        if (covered := highest - made.get_window_extent().y0) > 0:
            figure.subplots_adjust(top=figure.subplotpars.top - (covered + LEGEND_GAP) / figure.bbox.height)


def _paint_as_attributes(style: re.Match[str]) -> str:
    """Return a style with its colours as attributes, over which the rules of a page have precedence."""
    paint = " ".join(f'{name}="{colour}"' for name, colour in PAINT.findall(style[1]))
    rest = PAINT.sub("", style[1]).strip()
    return " ".join(filter(None, [paint, f'style="{rest}"' if rest else ""]))


def page_style() -> str:
    """Return the style sheet of a page, which also gives its figures the page's colours.

    The rules name no ``svg`` around an element: the copies that ``<use>`` makes of a marker are within none.
    """
    rules = [
        f'[{paint}="{colour}"] {{ {paint}: var({variable}); }}'
        for colour, variable in PAGE.items()
        for paint in ("fill", "stroke")
    ]
    return (Path(__file__).parent / "report.css").read_text() + "\n".join(rules) + "\n"


def percent_axis(axes: Axes, which: Literal["x", "y"], limit: float, title: str, low: float = 0.0) -> None:
    """Make an axis of fractions run from ``low`` to the limit, labelled in percent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}lim": (low * 1.04, limit * 1.04), f"{which}label": title})
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    decimals = 0 if limit >= 0.05 else 1 if limit >= 0.005 else 2
    axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals, symbol=""))
    axes.grid(axis=which)


def covering(*values: object) -> float:
    """Return the largest of all these numbers, so that an axis cuts none; missing ones do not count, 0.1 is the least.

    Each may be a number or an array.
    """
    known = np.concatenate([np.ravel(np.asarray(value, np.float64)) for value in values])
    return float(max(0.1, np.nanmax(known, initial=0.0)))


def legend_lines(labels: Sequence[str], width: float = WIDTH) -> int:
    """Return how many lines the legend of these labels takes above a figure of so many inches."""
    return -(-len(labels) // _legend_columns(shortened(labels, LEGEND_NAME), width))


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """Return how many of these labels fit side by side above a figure of so many inches."""
    return max(1, min(5, int(13.5 * width) // (6 + max(map(len, labels)))))


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend of the axes' labelled marks above the figure; long names are whole on hover."""
    handles, names = axes.get_legend_handles_labels()
    labels = shortened(names, LEGEND_NAME)
    made = figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.008, 1.0),
        ncols=_legend_columns(labels, figure.get_figwidth()), frameon=False,
        handletextpad=0.4, columnspacing=1.6, borderaxespad=0, borderpad=0, handlelength=1.2,
    )  # fmt: skip
    show_on_hover(made.get_texts(), names)


def show_on_hover(texts: Sequence[Text], names: Sequence[str]) -> None:
    """Let each text that is not its whole name show that on hover."""
    for text, name in zip(texts, names, strict=True):
        if text.get_text() != name:
            text.set_gid(HOVER + name)


def short(text: str, most: int) -> str:
    """Cut a text to at most so many characters, with an ellipsis in its middle: names differ at their ends."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return short names, numbered where two would be the same."""
    cut = [short(name, most) for name in names]
    taken: dict[str, list[str]] = {}
    for label, name in zip(cut, names, strict=True):
        alike = taken.setdefault(label, [])
        if name not in alike:
            alike.append(name)
    return [
        label if len(taken[label]) == 1 else f"{short(label, most - 4)} ({taken[label].index(name) + 1})"
        for label, name in zip(cut, names, strict=True)
    ]


def ticks(axes: Axes, which: Literal["x", "y"], names: Sequence[str], most: int, **style: Any) -> None:
    """Name the ticks of an axis 0, 1, …, or half a step later for cells; long names are whole on hover."""
    at = np.arange(len(names)) + style.pop("offset", 0.0)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(at, shortened(names, most), **style)
    show_on_hover(axis.get_ticklabels(), names)


def spread_by_rank(values: pd.Series, most: int = MARKS) -> pd.Index:
    """Return the labels of the marks to draw: all, or of more than ``most`` those evenly spread by rank."""
    if len(values) <= most:
        return values.index
    return values.sort_values().index[np.linspace(0, len(values) - 1, most).astype(int)]
