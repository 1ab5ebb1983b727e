"""The headline table for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness.metrics import summarise
from harness.report.headline import percent
from harness.report.labels import labelled
from harness.report.rows import results


def table(cells: pd.DataFrame) -> Table:
    """Clean accuracy and success by artifact, target and attack, with the noise control beside it; errors in red.

    ``cells`` are those of `harness.metrics.cells`; the check over every image (split ``all``) is left out.
    """
    out = Table(header_style="bold", row_styles=["", "dim"] if len(cells) > 40 else None)
    for name in ("victim", "artifact", "target", "attack"):
        out.add_column(name, overflow="fold")
    for name in ("clean", "success", "min – max", "patches", "noise"):
        out.add_column(name, justify="right", no_wrap=True)
    evaluated = cells[cells["split"] != "all"]
    for row in results(labelled(summarise(evaluated))) if len(evaluated) else []:
        place = [Text(str(row[c])) for c in ("victim", "artifact_label", "target", "series_label")]
        if row["status"] == "error":
            out.add_row(*place, Text("error", "bold red"), Text(str(row["error"]), "red"), *[""] * 3)
            continue
        if row["attack"] == "none":
            out.add_row(*place[:3], "", percent(row["clean_accuracy"]), *[""] * 4)
            continue
        patches = Text(str(row["n_patches"]))
        if row["n_failed"]:
            patches.append(f", {row['n_failed']} failed", "red")
        success = percent(row["mean"]) + ("" if row["kind"] == "targeted" else " untargeted")
        noise = percent(row["noise"]) if row["kind"] == "targeted" else ""
        ends = f"{percent(row['low'])} – {percent(row['high'])}"
        out.add_row(*place, percent(row["clean_accuracy"]), success, ends, patches, noise)
    return out
