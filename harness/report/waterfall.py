"""The loss from lab to device, drawn: one panel per file, its links from top to bottom, changes with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.labels import attack_label
from harness.report.svg import COLOURS, INK, SOFT, drawing, percent_axis, short
from harness.results.lab_to_device import Chain

WIDTH, ROW, AROUND = 9.6, 0.23, 0.85  # inches: the figure, a link, what a panel has above and below its links
LEFT, RIGHT = 0.35, 0.76  # where the bars are; to the left the links' names, to the right what they change


def waterfall(found: Sequence[Chain], labels: Mapping[str, str]) -> Markup:
    """SVG of chains; ``labels`` are the artifacts'. Grey: where it begins; coloured: changes; lines: intervals."""
    heights = [ROW * len(chain.links) + AROUND for chain in found]
    with drawing(WIDTH, sum(heights)) as (figure, out):
        top = sum(heights)
        for chain, height in zip(found, heights, strict=True):
            bottom, scale = top - height + 0.45, sum(heights)
            axes = figure.add_axes((LEFT, bottom / scale, RIGHT - LEFT, (height - AROUND) / scale))
            last = chain.links[-1].artifact
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
    for y, link in enumerate(chain.links):
        value, change = link.success.value, link.success_change
        if change is None:
            axes.barh(y, value, 0.6, color=SOFT, alpha=0.5, lw=0)
            text = f"{100 * value:.1f} %"
        else:
            before = chain.links[link.of].success.value
            axes.barh(y, value - before, 0.6, left=before, color=COLOURS[1 if value > before else 0], alpha=0.75, lw=0)
            axes.plot([before, before], [link.of + 0.3, y + 0.3], color=SOFT, lw=0.5)
            axes.plot([before + change.low, before + change.high], [y, y], color=INK, lw=1.2)
            text = " to ".join(f"{round(100 * x, 1) + 0.0:+.1f}" for x in (change.low, change.high))
            text = f"{round(100 * change.value, 1) + 0.0:+.1f}  ({text})"
        beside = axes.get_yaxis_transform()
        axes.text(1.02, y, text, transform=beside, va="center", color=INK)
        axes.text(1.39, y, f"{100 * link.clean.value:.1f} clean", transform=beside, va="center", color=SOFT)
        if not y or link.stage != chain.links[y - 1].stage:
            axes.text(-0.83, y, link.stage, transform=beside, va="center", color=INK)
    axes.set_yticks(range(len(chain.links)), [short(link.target, 26) for link in chain.links])
    axes.set_ylim(len(chain.links) - 0.5, -0.5)
    percent_axis(axes, "x", min(1.0, 1.1 * max(link.success.high for link in chain.links)), "success, %")
