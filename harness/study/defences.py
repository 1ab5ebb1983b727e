"""Defences on the device: their cost, and their worth against patches that expect them and patches that do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.svg import COLOURS, INK, MARKERS, SOFT, covering, drawing, legend, percent_axis, ticks
from harness.study.lib.cells import attacks
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.labels import interval_over, place
from harness.study.lib.tables import like_the_first, where, with_interval

QUESTION = "What is a defence in front of the integer model worth, once the attacker expects it?"
RATES = ("targeted_success", "untargeted_success", "clean_accuracy")
ATTACKERS = {"unaware": "made without it", "adaptive": "made with it"}


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per place, defence and defence that the patches expect (``through``), over classes and seeds.

    ``attacker`` is ``unaware`` (expects no defence), ``adaptive`` (expects this one) or ``of another``. Beside success
    stand the accuracy on clean images behind the defence, the success of noise there, and ``added_ms``, the measured
    latency with the defence less that without, at one thread.
    """
    table = attacks(inputs.over_patches, defended=True)
    if not (table["defence"] != "").any():
        return pd.DataFrame()
    table = where(table, attack=inputs.settings.attack)
    table = like_the_first(table, "patch_px", "shape", "placement", "made_bits")
    expected = table["expected_defence"]
    kinds = [expected == "", expected == table["defence"]]
    table = table.assign(
        where=[f"{row.victim} {place(row)}" for row in table.itertuples()],
        attacker=np.select(kinds, list(ATTACKERS), "of another"),
        through=expected,  # the column's name in published tables
    )
    table = table.merge(_added_ms(inputs.latency), how="left", on=["artifact", "target", "defence"])
    columns = [
        *("victim", "artifact", "target", "defence", "through", "where", "attacker"),
        *with_interval(*RATES),
        *("n_clean", "n_targeted", "n_untargeted", "n_patches", "noise", "interval_over", "added_ms"),
    ]
    return table[columns]


def _added_ms(latency: pd.DataFrame) -> pd.DataFrame:
    """Return the milliseconds that each defence adds to the median latency of an artifact on a target."""
    keys = ["artifact", "target"]
    if latency.empty:
        return pd.DataFrame(columns=[*keys, "defence", "added_ms"])
    timed = where(latency, threads=1)
    timed = timed.assign(defence=timed["defence"].fillna("") if "defence" in timed else "")
    plain = where(timed, defence="").set_index(keys)["p50_ms"].rename("plain_ms")
    timed = timed[timed["defence"] != ""].join(plain, on=keys)
    return timed.assign(added_ms=timed["p50_ms"] - timed["plain_ms"])[[*keys, "defence", "added_ms"]]


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw success by place and defence, unaware and adaptive, beside clean accuracy."""
    rate = "targeted_success" if table["targeted_success"].notna().any() else "untargeted_success"
    table = table[table["attacker"] != "of another"]
    n = table[f"n_{rate.split('_')[0]}"] / table["n_patches"]
    caption = (
        f"{rate.replace('_', ' ').capitalize()} behind each defence, of patches made without and with it, "
        f"{table['n_patches'].max():.0f} patches per mark, {n.min():.0f} to {n.max():.0f} images each, and the "
        f"accuracy on {table['n_clean'].max():.0f} clean images; lines are 95 % intervals {interval_over(table)}."
    )
    added = table.dropna(subset=["added_ms"]).groupby("defence", sort=False)["added_ms"].median()
    if len(added):
        costs = ", ".join(f"{defence} adds {ms:.2f} ms" for defence, ms in added.items())
        caption += f" Latency: {costs}."
    return [Figure("success", caption, _panels(table, rate))]


def _panels(table: pd.DataFrame, rate: str) -> Markup:
    groups = list(table.groupby(["where", "defence"], sort=False))
    height = 0.3 * len(groups) + 1.3
    with drawing(9.0, height) as (figure, out):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2.2, 1])
        for y, (_, rows) in enumerate(groups):
            for i, attacker in enumerate(ATTACKERS):
                for _, row in where(rows, attacker=attacker).iterrows():
                    _mark(left, row, rate, y + 0.22 * (i - 0.5), MARKERS[i], COLOURS[i], 5)
            left.plot(rows["noise"].mean(), y, "|", color=SOFT, ms=9)
            _mark(right, rows.iloc[0], "clean_accuracy", y, "D", INK, 4)
        names = [f"{where_}, {defence or 'undefended'}" for (where_, defence), _ in groups]
        ticks(left, "y", names, 52, color=INK)
        left.set_ylim(len(groups) - 0.4, -0.6)
        percent_axis(left, "x", covering(table[f"{rate}_high"], table["noise"]), f"{rate.split('_')[0]} success, %")
        percent_axis(right, "x", 1.0, "clean accuracy, %")
        for i, name in enumerate(ATTACKERS.values()):
            left.plot([], [], MARKERS[i], color=COLOURS[i], label=name)
        left.plot([], [], "|", color=SOFT, ms=9, label="noise")
        legend(figure, left)
        figure.subplots_adjust(0.38, 0.5 / height, 0.985, 1 - 0.35 / height, wspace=0.06)
    return out[0]


def _mark(axes: Axes, row: pd.Series, rate: str, y: float, marker: str, colour: str, size: int) -> None:
    axes.plot([row[f"{rate}_low"], row[f"{rate}_high"]], [y, y], color=colour, lw=1.4)
    axes.plot(row[rate], y, marker, color=colour, ms=size)
