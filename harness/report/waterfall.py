"""The gap taken apart, drawn: a panel a file, its steps from top to bottom, each change with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.labels import attack_label
from harness.report.svg import COLOURS, INK, SOFT, drawing, percent_axis, short
from harness.results.lab_to_device import Chain

WIDTH, ROW, AROUND = 9.6, 0.23, 0.85  # inches: the figure, a step, what a panel has above and below its steps
LEFT, RIGHT = 0.35, 0.76  # where the bars are; to the left the steps' names, to the right what they change


def waterfall(found: Sequence[Chain], labels: Mapping[str, str]) -> Markup:
    """SVG of chains; ``labels`` are the artifacts'. Grey: where it begins; coloured: changes; lines: intervals."""
    heights = [ROW * len(chain.steps) + AROUND for chain in found]
    with drawing(WIDTH, sum(heights)) as (figure, out):
        top = sum(heights)
        for chain, height in zip(found, heights, strict=True):
            bottom, scale = top - height + 0.45, sum(heights)
            axes = figure.add_axes((LEFT, bottom / scale, RIGHT - LEFT, (height - AROUND) / scale))
            last = chain.steps[-1].artifact
            axes.set_title(
                short(
                    f"{labels.get(last, last)}: {attack_label(chain.columns['attack'], chain.columns['surrogate'])}",
                    100,
                ),
                loc="left",
            )
            _panel(axes, chain)
            top -= height
    return out[0]


def _panel(axes: Axes, chain: Chain) -> None:
    for y, step in enumerate(chain.steps):
        value, change = step.success.value, step.success_change
        if change is None:
            axes.barh(y, value, 0.6, color=SOFT, alpha=0.5, lw=0)
            text = f"{100 * value:.1f} %"
        else:
            before = chain.steps[step.of].success.value
            axes.barh(y, value - before, 0.6, left=before, color=COLOURS[1 if value > before else 0], alpha=0.75, lw=0)
            axes.plot([before, before], [step.of + 0.3, y + 0.3], color=SOFT, lw=0.5)
            axes.plot([before + change.low, before + change.high], [y, y], color=INK, lw=1.2)
            text = " to ".join(f"{round(100 * x, 1) + 0.0:+.1f}" for x in (change.low, change.high))
            text = f"{round(100 * change.value, 1) + 0.0:+.1f}  ({text})"
        beside = axes.get_yaxis_transform()
        axes.text(1.02, y, text, transform=beside, va="center", color=INK)
        axes.text(1.39, y, f"{100 * step.clean.value:.1f} clean", transform=beside, va="center", color=SOFT)
        if not y or step.stage != chain.steps[y - 1].stage:
            axes.text(-0.83, y, step.stage, transform=beside, va="center", color=INK)
    axes.set_yticks(range(len(chain.steps)), [short(step.target, 26) for step in chain.steps])
    axes.set_ylim(len(chain.steps) - 0.5, -0.5)
    percent_axis(axes, "x", min(1.0, 1.1 * max(step.success.high for step in chain.steps)), "success, %")
