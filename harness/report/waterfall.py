"""The loss from lab to device as waterfall charts: one panel for each file, one bar for each link of its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.labels import attack_label
from harness.report.svg import COLOURS, INK, SOFT, WIDTH, covering, drawing, percent_axis, short, show_on_hover, ticks
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


def unchanged(link: Link) -> bool:
    """Return whether a link changes nothing: its p is 1."""
    return link.success_change is not None and link.success_change.p == 1


def waterfall(found: Sequence[Chain], labels: Mapping[str, str]) -> Markup:
    """Draw chains as SVG. Grey: success in the lab; coloured: changes; lines: their 95 % intervals.

    Links that change nothing are counted in the title, not drawn.
    """
    drawn = [[i for i, link in enumerate(chain.links) if not unchanged(link)] for chain in found]
    heights = [ROW_INCHES * len(rows) + AROUND_INCHES for rows in drawn]
    total = sum(heights)
    with drawing(WIDTH, total) as (figure, out):
        top = total
        for chain, rows, height in zip(found, drawn, heights, strict=True):
            bottom = top - height + 0.45
            axes = figure.add_axes((LEFT, bottom / total, RIGHT - LEFT, (height - AROUND_INCHES) / total))
            title = _title(chain, labels, left_out=len(chain.links) - len(rows))
            show_on_hover([axes.set_title(short(title, 100), loc="left")], [title])
            _draw_chain(axes, chain.links, rows)
            top -= height
    return out[0]


def _title(chain: Chain, labels: Mapping[str, str], left_out: int) -> str:
    last = chain.links[-1].artifact
    attack = attack_label(chain.columns["attack"], chain.columns["surrogate"])
    steps = f"; {left_out} step{'s' if left_out > 1 else ''} without a change" if left_out else ""
    return f"{labels.get(last, last)}: {attack}{steps}"


def _draw_chain(axes: Axes, links: Sequence[Link], rows: Sequence[int]) -> None:
    ends = [0.0]
    stage = ""
    for y, i in enumerate(rows):
        link = links[i]
        change = link.success_change
        if change is None:
            axes.barh(y, link.success.value, 0.6, color=SOFT, alpha=0.5, lw=0)
            text = f"{100 * link.success.value:.1f} %"
            ends.append(link.success.value)
        else:
            of = link.of
            while of not in rows:
                of = links[of].of
            ends += _draw_change(axes, y, link.success.value, change, links[of].success.value, rows.index(of))
            text = f"{_points(change.value)}  ({_points(change.low)} to {_points(change.high)})"
        _write_beside(axes, y, link.stage if link.stage != stage else "", text, link)
        stage = link.stage
    ticks(axes, "y", [links[i].target for i in rows], 26)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    percent_axis(axes, "x", covering(ends), "success, %", low=min(ends))


def _write_beside(axes: Axes, y: int, stage: str, change: str, link: Link) -> None:
    """Write a row's stage to its left, and its change and clean accuracy to its right."""
    beside = axes.get_yaxis_transform()
    axes.text(-0.83, y, stage, transform=beside, va="center", color=INK)
    axes.text(1.02, y, change, transform=beside, va="center", color=INK)
    axes.text(1.39, y, f"{100 * link.clean.value:.1f} clean", transform=beside, va="center", color=SOFT)


def _draw_change(
    axes: Axes, y: int, success: float, change: Difference, before: float, row_before: int
) -> tuple[float, ...]:
    """Draw a change to this success; return all that an axis has to cover."""
    low, high = before + change.low, before + change.high
    axes.barh(y, success - before, 0.6, left=before, color=COLOURS[1 if success > before else 0], alpha=0.75, lw=0)
    axes.plot([before, before], [row_before + 0.3, y + 0.3], color=SOFT, lw=0.5)
    axes.plot([low, high], [y, y], color=INK, lw=1.2)
    return before, success, low, high


def _points(change: float) -> str:
    return f"{round(100 * change, 1) + 0.0:+.1f}"
