"""The loss from lab to device as waterfall charts: one panel for each file, one bar for each link of its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.labels import attack_label
from harness.report.svg import COLOURS, INK, SOFT, WIDTH, drawing, percent_axis, short
from harness.results.lab_to_device import Chain, Link, chains
from harness.results.outcomes import Outcomes
from harness.results.run_directory import Run
from harness.results.stats import Difference

ROW_INCHES = 0.23
AROUND_INCHES = 0.85  # of a panel, above and below its rows
LEFT, RIGHT = 0.35, 0.76  # where the bars are: stages and targets to the left, changes and clean accuracy to the right
CHAINS_DRAWN = 12  # of a victim; the table has all


class Section(NamedTuple):
    """A victim's chains from lab to device, the first ``shown`` of them drawn."""

    victim: str
    svg: Markup
    chains: list[Chain]
    shown: int


def chains_by_victim(run: Run, matrix: Outcomes, labels: Mapping[str, str]) -> list[Section]:
    """Return each victim's chains, drawn and as data; ``labels`` are the artifacts'."""
    versions = {target.name: str(target.info.get("version", "")) for target in run.targets}
    found = chains(matrix, versions)
    out = []
    for victim in dict.fromkeys(chain.columns["victim"] for chain in found):
        own = [chain for chain in found if chain.columns["victim"] == victim]
        drawn = own[:CHAINS_DRAWN]
        out.append(Section(victim, waterfall(drawn, labels), own, len(drawn)))
    return out


def waterfall(found: Sequence[Chain], labels: Mapping[str, str]) -> Markup:
    """Draw chains as SVG. Grey: success in the lab; coloured: changes; lines: their 95 % intervals."""
    heights = [ROW_INCHES * len(chain.links) + AROUND_INCHES for chain in found]
    total = sum(heights)
    with drawing(WIDTH, total) as (figure, out):
        top = total
        for chain, height in zip(found, heights, strict=True):
            bottom = top - height + 0.45
            axes = figure.add_axes((LEFT, bottom / total, RIGHT - LEFT, (height - AROUND_INCHES) / total))
            last = chain.links[-1].artifact
            attack = attack_label(chain.columns["attack"], chain.columns["surrogate"])
            axes.set_title(short(f"{labels.get(last, last)}: {attack}", 100), loc="left")
            _draw_chain(axes, chain.links)
            top -= height
    return out[0]


def _draw_chain(axes: Axes, links: Sequence[Link]) -> None:
    beside = axes.get_yaxis_transform()
    for y, link in enumerate(links):
        change = link.success_change
        if change is None:
            axes.barh(y, link.success.value, 0.6, color=SOFT, alpha=0.5, lw=0)
            text = f"{100 * link.success.value:.1f} %"
        else:
            _draw_change(axes, y, link, links[link.of], change)
            text = f"{_points(change.value)}  ({_points(change.low)} to {_points(change.high)})"
        axes.text(1.02, y, text, transform=beside, va="center", color=INK)
        axes.text(1.39, y, f"{100 * link.clean.value:.1f} clean", transform=beside, va="center", color=SOFT)
        if y == 0 or link.stage != links[y - 1].stage:
            axes.text(-0.83, y, link.stage, transform=beside, va="center", color=INK)
    axes.set_yticks(range(len(links)), [short(link.target, 26) for link in links])
    axes.set_ylim(len(links) - 0.5, -0.5)
    percent_axis(axes, "x", min(1.0, 1.1 * max(link.success.high for link in links)), "success, %")


def _draw_change(axes: Axes, y: int, link: Link, previous: Link, change: Difference) -> None:
    before = previous.success.value
    rise = link.success.value - before
    axes.barh(y, rise, 0.6, left=before, color=COLOURS[1 if rise > 0 else 0], alpha=0.75, lw=0)
    axes.plot([before, before], [link.of + 0.3, y + 0.3], color=SOFT, lw=0.5)
    axes.plot([before + change.low, before + change.high], [y, y], color=INK, lw=1.2)


def _points(change: float) -> str:
    return f"{round(100 * change, 1) + 0.0:+.1f}"
