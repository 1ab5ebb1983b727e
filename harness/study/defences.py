"""Defences on the device: what they cost and what they are worth, against patches that do and do not expect them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.report.svg import COLOURS, INK, MARKERS, SOFT, drawing, legend, percent_axis, short
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.words import as_the_first, made, over, place

QUESTION = "What is a defence before the integer model worth, once the attacker expects it?"
RATES = ("targeted_success", "untargeted_success", "clean_accuracy")


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row a defence, place and what the patches expect (``through``), over target classes and seeds.

    ``attacker`` is ``unaware`` (made through no defence), ``adaptive`` (through this one) or ``of another``. Beside
    success stand the accuracy on clean images behind the defence, what noise does there, and ``added_ms``, the measured
    latency with the defence before the model less that without, at one thread.
    """
    found = made(inputs.over_patches, defended=True)
    if found.empty or not (found["defence"] != "").any():
        return pd.DataFrame()
    found = as_the_first(
        found[found["attack"] == inputs.settings.attack], "patch_px", "shape", "placement", "made_bits"
    )
    added = _added(inputs)
    rows = []
    for row in found.to_dict("records"):
        aware = {"": "unaware", row["defence"]: "adaptive"}.get(row["through"], "of another")
        rows.append(
            {
                **{c: row[c] for c in ("victim", "artifact", "target", "defence", "through")},
                "where": f"{row['victim']} {place(row)}",
                "attacker": "unaware" if row["through"] == "" else aware,
                **{f"{r}{end}": row[f"{r}{end}"] for r in RATES for end in ("", "_low", "_high")},
                **{c: row[c] for c in ("n_clean", "n_targeted", "n_untargeted", "n_patches", "noise", "interval_over")},
                "added_ms": added.get((row["artifact"], row["target"], row["defence"]), np.nan),
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> list[Figure]:
    """Success by place and defence, unaware and adaptive, beside clean accuracy."""
    rate = "targeted_success" if table["targeted_success"].notna().any() else "untargeted_success"
    table = table[table["attacker"] != "of another"]
    groups = list(table.groupby(["where", "defence"], sort=False))
    height = 0.3 * len(groups) + 1.3
    with drawing(9.0, height) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2.2, 1])
        for y, (_, rows) in enumerate(groups):
            for i, attacker in enumerate(("unaware", "adaptive")):
                for row in rows[rows["attacker"] == attacker].to_dict("records"):
                    at = y + 0.22 * (i - 0.5)
                    ends = [row[f"{rate}_low"], row[f"{rate}_high"]]
                    left.plot(ends, [at, at], color=COLOURS[i], lw=1.4)
                    left.plot(row[rate], at, MARKERS[i], color=COLOURS[i], ms=5)
            left.plot(rows["noise"].mean(), y, "|", color=SOFT, ms=9)
            first = rows.iloc[0]
            ends = [first["clean_accuracy_low"], first["clean_accuracy_high"]]
            right.plot(ends, [y, y], color=INK, lw=1.4)
            right.plot(first["clean_accuracy"], y, "D", color=INK, ms=4)
        names = [short(f"{where}, {defence or 'undefended'}", 52) for (where, defence), _ in groups]
        left.set_yticks(range(len(groups)), names, color=INK)
        left.set_ylim(len(groups) - 0.4, -0.6)
        percent_axis(left, "x", max(0.1, float(table[f"{rate}_high"].max())), f"{rate.split('_')[0]} success, %")
        percent_axis(right, "x", 1.0, "clean accuracy, %")
        for i, name in enumerate(("made without it", "made through it")):
            left.plot([], [], MARKERS[i], color=COLOURS[i], label=name)
        left.plot([], [], "|", color=SOFT, ms=9, label="noise")
        legend(figure, left)
        figure.subplots_adjust(0.38, 0.5 / height, 0.985, 1 - 0.35 / height, wspace=0.06)
    n = table[f"n_{rate.split('_')[0]}"] / table["n_patches"]
    caption = (
        f"{rate.replace('_', ' ').capitalize()} behind each defence, of patches made without and through it; "
        f"{table['n_patches'].max():.0f} patches a mark, {n.min():.0f} to {n.max():.0f} images each, and the accuracy "
        f"on {table['n_clean'].max():.0f} clean images; lines are 95 % intervals {over(table)}. {_costs(table)}"
    )
    return [Figure("success", caption, out[0])]


def _added(inputs: Inputs) -> dict[tuple[Any, ...], float]:
    """Milliseconds that a defence adds to the median of an artifact on a target, at one thread."""
    timed = [row for row in inputs.run.get("latency", []) if row["threads"] == 1]
    plain = {(row["artifact"], row["target"]): row["p50_ms"] for row in timed if not row.get("defence")}
    return {
        (row["artifact"], row["target"], row["defence"]): row["p50_ms"] - plain[row["artifact"], row["target"]]
        for row in timed
        if row.get("defence") and (row["artifact"], row["target"]) in plain
    }


def _costs(table: pd.DataFrame) -> str:
    """``jpeg:75 adds 0.41 ms, ...``; empty where nothing was timed."""
    known = table.dropna(subset=["added_ms"]).groupby("defence", sort=False)["added_ms"].median()
    return ", ".join(f"{name} adds {ms:.2f} ms" for name, ms in known.items()) + "." * bool(len(known))
