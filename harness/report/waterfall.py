"""The loss from lab to device as waterfall charts: one panel for each file, one bar for each link of its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.labels import attack_label
from harness.report.svg import (
    COLOURS,
    INK,
    SOFT,
    WIDTH,
    Figures,
    covering,
    drawing,
    for_windows,
    percent_axis,
    short,
    show_on_hover,
    ticks,
)
from harness.results.lab_to_device import Chain, Link, chains
from harness.results.outcomes import Outcomes
from harness.results.run_directory import RunFacts

AROUND_INCHES = 0.85  # of a panel, above and below its rows
EQUAL = 1e-9  # two means of the same hits
CHAINS_DRAWN = 12  # of a victim; the table has all


class _Layout(NamedTuple):
    """Where the bars are, as shares of the width: stages and targets to the left, changes to the right.

    In a narrow figure stages and targets are above each bar, and clean accuracy is in the table alone.
    """

    left: float
    right: float
    row_inches: float
    bar: float
    is_narrow: bool


class Section(NamedTuple):
    """A victim's chains from lab to device, the first ``drawn`` of them in ``figures``; it has ``n`` in all."""

    victim: str
    figures: Figures | None
    chains: list[Chain]
    drawn: int
    n: int


def chains_by_victim(
    run: RunFacts, matrix: Outcomes, labels: Mapping[str, str], most: int, figures: int
) -> list[Section]:
    """Return each victim's first chains, drawn for so many victims, and as data; ``labels`` are the artifacts'."""
    versions = {target.name: str(target.info.get("version", "")) for target in run.targets}
    found = chains(matrix, versions)
    out: list[Section] = []
    for victim in dict.fromkeys(chain.columns["victim"] for chain in found):
        own = [chain for chain in found if chain.columns["victim"] == victim]
        drawn = own[:CHAINS_DRAWN] if len(out) < figures else []
        pictured = for_windows(partial(waterfall, drawn, labels)) if drawn else None
        out.append(Section(victim, pictured, own[:most], len(drawn), len(own)))
    return out


def unchanged(link: Link) -> bool:
    """Return whether a link changes nothing."""
    change = link.success_change
    return change is not None and (change.p == 1 or abs(change.value) < EQUAL)


def waterfall(found: Sequence[Chain], labels: Mapping[str, str], width: float = WIDTH) -> Markup:
    """Draw chains as SVG. Grey: success in the lab; coloured: changes; lines: their 95 % intervals.

    Links that change nothing are counted below the axis, not drawn.
    """
    drawn = [[i for i, link in enumerate(chain.links) if not unchanged(link)] for chain in found]
    layout = _Layout(0.35, 0.76, 0.23, 0.6, False) if width == WIDTH else _Layout(0.02, 0.62, 0.42, 0.4, True)
    heights = [layout.row_inches * len(rows) + AROUND_INCHES for rows in drawn]
    total = sum(heights)
    with drawing(width, total) as (figure, out):
        top = total
        for chain, rows, height in zip(found, drawn, heights, strict=True):
            bottom = top - height + 0.45
            axes = figure.add_axes(
                (layout.left, bottom / total, layout.right - layout.left, (height - AROUND_INCHES) / total)
            )
            last = chain.links[-1].artifact
            attack = attack_label(chain.columns["attack"], chain.columns["surrogate"])
            title = f"{labels.get(last, last)}: {attack}"
            show_on_hover([axes.set_title(short(title, int(10.4 * width)), loc="left")], [title])
            _draw_chain(axes, chain.links, rows, layout)
            top -= height
    return out[0]


def _draw_chain(axes: Axes, links: Sequence[Link], rows: Sequence[int], layout: _Layout) -> None:
    ends = [0.0]
    for y, i in enumerate(rows):
        link = links[i]
        change = link.success_change
        if change is None:
            axes.barh(y, link.success, layout.bar, color=SOFT, alpha=0.5, lw=0)
            text = f"{100 * link.success:.1f} %"
            ends.append(link.success)
        else:
            of = link.of
            while of not in rows:
                of = links[of].of
            ends += _draw_change(axes, y, link, links[of], rows.index(of), layout.bar)
            text = f"{_points(change.value)}  ({_points(change.low)} to {_points(change.high)})"
        is_new = y == 0 or link.stage != links[rows[y - 1]].stage
        _write_beside(axes, y, link, text, is_new, layout)
    targets = [links[i].target for i in rows]
    ticks(axes, "y", targets if not layout.is_narrow else [""] * len(rows), 26)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    left_out = len(links) - len(rows)
    unchanged = f" ({left_out} link{'s' if left_out > 1 else ''} without a change)" if left_out else ""
    percent_axis(axes, "x", covering(ends), f"success, %{unchanged}", low=min(ends))


def _write_beside(axes: Axes, y: int, link: Link, change: str, is_new: bool, layout: _Layout) -> None:
    """Write a row's stage, its change, and its clean accuracy."""
    beside = axes.get_yaxis_transform()
    axes.text(1.02, y, change, transform=beside, va="center", color=INK)
    if layout.is_narrow:
        text = f"{link.stage}: {link.target}"
        above = axes.text(0.005, y - 0.46, short(text, 60), transform=beside, va="center", color=SOFT, size=8)
        show_on_hover([above], [text])
        return
    axes.text(1.39, y, f"{100 * link.clean:.1f} clean", transform=beside, va="center", color=SOFT)
    if is_new:
        axes.text(-0.83, y, link.stage, transform=beside, va="center", color=INK)


def _draw_change(axes: Axes, y: int, link: Link, previous: Link, row_before: int, bar: float) -> list[float]:
    """Draw a link's change from the success of a previous one; return all that an axis has to cover."""
    change = link.success_change
    assert change is not None
    before = previous.success
    after = link.success
    ends = [before + change.low, before + change.high]
    axes.barh(y, after - before, bar, left=before, color=COLOURS[1 if after > before else 0], alpha=0.75, lw=0)
    axes.plot([before, before], [row_before + bar / 2, y + bar / 2], color=SOFT, lw=0.5)
    axes.plot(ends, [y, y], color=INK, lw=1.2)
    return [before, after, *ends]


def _points(change: float) -> str:
    return f"{round(100 * change, 1) + 0.0:+.1f}"
