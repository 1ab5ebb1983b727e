"""How far above noise patches are: their success beside that of a random patch, on each artifact."""

from __future__ import annotations

import pandas as pd

from harness.report.svg import drawing, legend, percent_axis
from harness.study.lib.inputs import Figure, Inputs

QUESTION = "Does the patch do more than noise of the same size?"


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return a row per artifact and target: mean ``success`` and ``noise``, over ``n_patches`` patches."""
    table = inputs.over_patches
    chosen = table[(table["attack"] == inputs.settings.attack) & (table["status"] == "ok")]
    columns = {"targeted_success": "success", "noise": "noise", "n_patches": "n_patches"}
    return chosen[["artifact", "target", *columns]].rename(columns=columns).reset_index(drop=True)


def draw(table: pd.DataFrame) -> list[Figure]:
    """Return one figure: two marks per artifact and target."""
    names = (table["artifact"] + " on " + table["target"]).tolist()
    with drawing(7, 0.6 + 0.25 * len(table)) as (figure, out):
        axes = figure.subplots()
        axes.plot(table["success"], names, "o", label="patch")
        axes.plot(table["noise"], names, "x", label="noise")
        percent_axis(axes, "x", float(table["success"].max()), "targeted success, %")
        legend(figure, axes)
        figure.subplots_adjust(left=0.45, bottom=0.2, right=0.98)
    caption = f"Targeted success of patches and of noise; {table['n_patches'].sum()} cells of one patch each."
    return [Figure("by-artifact", caption, out[0])]
