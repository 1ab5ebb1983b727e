"""The agreement page: is it the runtime, the version, the instruction set or the emulator?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.report.svg import INK, SOFT, drawing, short
from harness.results.entries import TargetEntry
from harness.results.run_directory import Run
from patches.patch import CONTROLS

CELL, LETTER = 0.42, 0.075  # inches
FEW = 3  # targets that a figure is drawn for
Row = dict[Any, Any]


class Page(NamedTuple):
    """What is said of one artifact: targets that gave the very same values, a figure, and a row for each pair."""

    artifact: str
    identical: list[list[str]]
    figure: Markup
    rows: list[Row]
    pairs: int


def pages(run: Run, cells: pd.DataFrame) -> list[Page]:
    """A page for each artifact that several targets ran; ``cells`` are labelled."""
    found = pd.DataFrame([pair.plain() for pair in run.agreement])
    if found.empty:
        return []
    labels = dict(zip(cells["artifact"], cells["victim"] + ", " + cells["artifact_label"], strict=True))
    traits = {target.name: _traits(target) for target in run.targets}
    made = cells[~cells["attack"].isin(CONTROLS) & (cells["status"] == "ok")]
    rate = "targeted_success" if made["targeted_success"].notna().any() else "untargeted_success"
    success = made.groupby(["artifact", "target"])[rate].mean().to_dict()
    out = []
    for artifact, table in found.groupby("artifact", sort=False):
        rows = [_row(pair, traits, success) for pair in table.to_dict("records")]
        targets = list(dict.fromkeys([*table["a"], *table["b"]]))
        rows.sort(key=lambda row: (len(row["differ"]), row["differ"], row["a"], row["b"]))
        name = str(labels.get(artifact, artifact))
        pairs = len(table[["a", "b"]].drop_duplicates())
        out.append(Page(name, _identical(targets, table), _matrix(targets, table), rows, pairs))
    return out


def _traits(target: TargetEntry) -> dict[str, str]:
    """What can make two targets differ, in the words of the page."""
    return {
        "runtime": target.runtime,
        "version": str(target.info.get("version", "")),
        "kernels": str(target.info.get("kernels", "")),
        "instruction set": target.machine.arch,
        "CPU": target.machine.cpu,
        "emulation": str(bool(target.machine.emulated)),
        "host": target.host,
    }


def _row(pair: Row, traits: dict[str, dict[str, str]], success: dict[Any, float]) -> Row:
    a, b = (traits.get(pair[side], {}) for side in "ab")
    differ = [name for name, value in a.items() if b.get(name) != value]
    if "runtime" in differ and "version" in differ:
        differ.remove("version")  # another runtime's numbers mean nothing
    rates = {f"success_{side}": success.get((pair["artifact"], pair[side]), np.nan) for side in "ab"}
    return pair | rates | {"differ": differ}


def _identical(targets: list[str], table: pd.DataFrame) -> list[list[str]]:
    """Groups of two and more targets between which no value differs, on clean and on patched images."""
    same = table.groupby(["a", "b"])["values_differ"].max() == 0
    groups: list[list[str]] = []
    for target in targets:
        home = next((group for group in groups if same.get((group[0], target), False)), None)
        if home:
            home.append(target)
        else:
            groups.append([target])
    return [group for group in groups if len(group) > 1]


def _matrix(targets: list[str], table: pd.DataFrame) -> Markup:
    """Share of values that differ, %: below the diagonal on clean images, above it on patched ones."""
    at = {target: i for i, target in enumerate(targets)}
    shares = np.full((len(targets), len(targets)), np.nan)
    for row in table.to_dict("records"):
        low, high = sorted((at[row["a"]], at[row["b"]]))
        shares[(high, low) if row["images"] == "clean" else (low, high)] = row["values_differ"]
    if len(targets) < FEW:
        return Markup("")
    names = [short(target, 30) for target in targets]
    side, margin = CELL * len(targets), 0.2 + LETTER * max(map(len, names))
    width, height = side + margin + 0.9, side + margin + 0.1
    with drawing(width, height) as (figure, out):
        axes = figure.add_axes((margin / width, 0.1 / height, side / width, side / height))
        axes.pcolormesh(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1.4, edgecolor="face", lw=0.1)
        for (y, x), share in np.ndenumerate(shares):
            if np.isfinite(share):
                colour = "#ffffff" if share > 0.8 else "#1a1a1a"
                text = "=" if share == 0 else f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"
                axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=colour, size=8)
        axes.plot([0, len(targets)], [0, len(targets)], color=SOFT, lw=0.6)
        axes.set(xlim=(0, len(targets)), ylim=(len(targets), 0))
        ticks = np.arange(len(targets)) + 0.5
        axes.set_yticks(ticks, names, color=INK)
        axes.xaxis.tick_top()
        axes.set_xticks(ticks, names, color=INK, rotation=50, ha="left", rotation_mode="anchor")
        for spine in axes.spines.values():
            spine.set_visible(False)
    return Markup('<div style="max-width: {:.0f}px">{}</div>').format(96 * width, out[0])
