"""The gap taken apart, drawn: a panel a file, its steps from left to right, each change with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from harness.gap import Chain
from harness.report.svg import COLOURS, INK, SOFT, drawing, percent_axis, short

WIDTH, COLUMNS = 9.6, 2  # inches; panels beside each other
SHORT = {
    "float, PyTorch": "PyTorch", "float, in the runtime": "float\nruntime", "fake-quantized": "fake\nquantized",
    "integer, reference kernels": "integer\nreference", "integer, optimised kernels": "integer\noptimised",
    "other instruction set": "other\nset", "other version": "other\nversion",
}  # fmt: skip


def waterfall(found: Sequence[Chain], labels: Mapping[str, str]) -> Markup:
    """SVG of chains; ``labels`` are the artifacts'. Grey: where it begins; coloured: changes; lines: intervals."""
    lines = -(-len(found) // COLUMNS)
    height = 2.7 * lines + 0.2
    with drawing(WIDTH, height) as (figure, out):
        grid = figure.subplots(lines, COLUMNS, squeeze=False, sharey=False).ravel()
        for axes, chain in zip(grid, found, strict=False):
            _panel(axes, chain)
            last = chain.steps[-1]
            axes.set_title(
                short(f"{labels.get(last.artifact, last.artifact)}, {chain.columns['attack']}", 48), loc="left"
            )
        for axes in grid[len(found) :]:
            axes.set_visible(False)
        figure.subplots_adjust(0.065, 0.6 / height, 0.99, 1 - 0.3 / height, wspace=0.18, hspace=0.65)
    return out[0]


def _panel(axes: Axes, chain: Chain) -> None:
    top = max(step.success.high for step in chain.steps)
    for x, step in enumerate(chain.steps):
        value, change = step.success.value, step.success_change
        if change is None:
            axes.bar(x, value, 0.6, color=SOFT, alpha=0.5, lw=0)
        else:
            before = chain.steps[step.of].success.value
            axes.bar(x, value - before, 0.6, bottom=before, color=COLOURS[1 if value > before else 0], alpha=0.75, lw=0)
            axes.plot([step.of + 0.3, x + 0.3], [before, before], color=INK, lw=0.6)
            axes.plot([x, x], [before + change.low, before + change.high], color=INK, lw=1.2)
        text = f"{100 * value:.1f}" if change is None else f"{round(100 * change.value, 1) + 0.0:+.1f}"
        above = max(value, chain.steps[step.of].success.value if change else 0, step.success.high)
        axes.annotate(text, (x, above), (0, 6), textcoords="offset points", ha="center", color=INK)
    names = [f"{SHORT[step.stage]}\n{100 * step.clean.value:.1f} clean" for step in chain.steps]
    axes.set_xticks(np.arange(len(names)), names)
    percent_axis(axes, "y", min(1.0, 1.25 * top + 0.02), "success, %")
