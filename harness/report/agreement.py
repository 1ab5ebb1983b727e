"""The page's section on agreement: is it the runtime, the version, the instruction set, or the emulator?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from harness.report.svg import INK, SOFT, drawing, shortened, ticks
from harness.results.entries import TargetEntry
from harness.results.measured import AgreementEntry
from harness.results.run_directory import RunFacts
from patches.patch import CONTROLS

CELL_INCHES = 0.42
LETTER_INCHES = 0.075
FEW = 3  # targets below which a figure says no more than the table


class PairRow(NamedTuple):
    """Two targets on clean or patched images, the respects in which they differ, and the success on each."""

    entry: AgreementEntry
    differ: list[str]
    success_a: float
    success_b: float


class Page(NamedTuple):
    """One artifact: groups of targets with identical values, a figure, a row for each pair, and how many pairs."""

    artifact: str
    identical: list[list[str]]
    figure: Markup
    rows: list[PairRow]
    pairs: int


def pages(run: RunFacts, cells: pd.DataFrame) -> list[Page]:
    """Return a page for each artifact that several targets ran; ``cells`` are labelled."""
    labels = dict(zip(cells["artifact"], cells["victim"] + ", " + cells["artifact_label"], strict=True))
    traits = {target.name: _traits(target) for target in run.targets}
    attacked = cells[~cells["attack"].isin(CONTROLS) & (cells["status"] == "ok")]
    rate = "targeted_success" if attacked["targeted_success"].notna().any() else "untargeted_success"
    success = attacked.groupby(["artifact", "target"])[rate].mean().to_dict()
    out = []
    of_artifact: dict[str, list[AgreementEntry]] = {}
    for entry in run.agreement:
        of_artifact.setdefault(entry.artifact, []).append(entry)
    for artifact, entries in of_artifact.items():
        targets = list(dict.fromkeys([*(entry.a for entry in entries), *(entry.b for entry in entries)]))
        rows = []
        for entry in entries:
            rates = (success.get((artifact, target), np.nan) for target in (entry.a, entry.b))
            rows.append(PairRow(entry, _differ(traits.get(entry.a, {}), traits.get(entry.b, {})), *rates))
        rows.sort(key=lambda row: (len(row.differ), row.differ, row.entry.a, row.entry.b))
        name = str(labels.get(artifact, artifact))
        pairs = len({(entry.a, entry.b) for entry in entries})
        figure = _matrix(targets, entries) if len(targets) >= FEW else Markup("")
        out.append(Page(name, _identical(targets, entries), figure, rows, pairs))
    return out


def _traits(target: TargetEntry) -> dict[str, str]:
    """Return what can make two targets differ, in the words of the page."""
    return {
        "runtime": target.runtime,
        "version": str(target.info.get("version", "")),
        "kernels": str(target.info.get("kernels", "")),
        "instruction set": target.machine.arch,
        "instructions": str(target.info.get("instructions", "")),
        "CPU": target.machine.cpu,
        "emulation": str(bool(target.machine.emulated)),
        "host": target.host,
    }


def _differ(a: dict[str, str], b: dict[str, str]) -> list[str]:
    differ = [name for name, value in a.items() if b.get(name) != value]
    if "runtime" in differ:  # what only one of them tells, or tells in its own words, does not compare
        differ = [name for name in differ if name not in ("version", "instructions")]
    return differ


def _identical(targets: Sequence[str], entries: Sequence[AgreementEntry]) -> list[list[str]]:
    """Group the targets between which no value differs, on clean and on patched images; groups of two and more."""
    apart = {(entry.a, entry.b) for entry in entries if entry.values_differ > 0}
    compared = {(entry.a, entry.b) for entry in entries}
    groups: list[list[str]] = []
    for target in targets:
        same = (group for group in groups if (group[0], target) in compared - apart)
        home = next(same, None)
        if home:
            home.append(target)
        else:
            groups.append([target])
    return [group for group in groups if len(group) > 1]


def _matrix(targets: Sequence[str], entries: Sequence[AgreementEntry]) -> Markup:
    """Draw the share of values that differ, %: below the diagonal on clean images, above it on patched ones."""
    index = {target: i for i, target in enumerate(targets)}
    shares = np.full((len(targets), len(targets)), np.nan)
    for entry in entries:
        low, high = sorted((index[entry.a], index[entry.b]))
        shares[(high, low) if entry.images == "clean" else (low, high)] = entry.values_differ
    names = shortened(targets, 30)
    side = CELL_INCHES * len(targets)
    margin = 0.2 + LETTER_INCHES * max(map(len, names))
    width, height = side + margin + 0.9, side + margin + 0.1
    with drawing(width, height) as (figure, out):
        axes = figure.add_axes((margin / width, 0.1 / height, side / width, side / height))
        axes.pcolormesh(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1.4, edgecolor="face", lw=0.1)
        _write_shares(axes, shares)
        axes.plot([0, len(targets)], [0, len(targets)], color=SOFT, lw=0.6)
        axes.set(xlim=(0, len(targets)), ylim=(len(targets), 0))
        axes.xaxis.tick_top()
        ticks(axes, "y", targets, 30, offset=0.5, color=INK)
        ticks(axes, "x", targets, 30, offset=0.5, color=INK, rotation=50, ha="left", rotation_mode="anchor")
        for spine in axes.spines.values():
            spine.set_visible(False)
    return out[0]


def _write_shares(axes: Axes, shares: NDArray[np.float64]) -> None:
    for (y, x), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = "#ffffff" if share > 0.8 else "#1a1a1a"
            text = f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"
            if share == 0:
                text = "="
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=colour, size=8)
