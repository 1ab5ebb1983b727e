"""Which texts of a figure leave it, lie on each other, or run from their panel into another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOUCHING = 1.0  # points by which boxes may overlap: glyphs do not fill theirs


def crowded(figure: Figure) -> list[str]:
    """Return a line for each text that is cut off, overlaps another, or lies in a panel that is not its own."""
    figure.set_dpi(72)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = _shown_texts(figure)
    found = [f"{text.get_text()!r} leaves the figure" for text, box in boxes if not _within(box, figure.bbox)]
    for (a, box_a), (b, box_b) in combinations(boxes, 2):
        if _overlap(box_a, box_b):
            found.append(f"{a.get_text()!r} lies on {b.get_text()!r}")
    for axes in figure.axes:
        found += [
            f"{text.get_text()!r} runs into another panel"
            for text, box in boxes
            if text.axes is not None and text.axes is not axes and axes.get_visible() and _overlap(box, axes.bbox)
        ]
    return found


def _shown_texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    hidden = {label for axes in figure.axes for label in _ticks_beyond(axes)}
    found = []
    for text in figure.findobj(Text):
        shown = text.get_visible() and text.get_text().strip() and text not in hidden
        if shown and (text.axes is None or text.axes.get_visible()):
            found.append((text, text.get_window_extent()))
    return found


def _ticks_beyond(axes: Axes) -> Iterator[Text]:
    """Yield the labels of ticks outside the axis, which are not drawn."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def _within(box: Bbox, outer: Bbox) -> bool:
    low = (box.min >= outer.min - TOUCHING).all()
    return bool(low and (box.max <= outer.max + TOUCHING).all())


def _overlap(a: Bbox, b: Bbox) -> bool:
    shared = np.minimum(a.max, b.max) - np.maximum(a.min, b.min)
    return bool((shared > TOUCHING).all())
