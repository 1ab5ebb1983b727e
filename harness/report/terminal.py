"""The headline table for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness.report.headline import percent, span
from harness.report.labels import labelled
from harness.report.rows import results, stand_ins


def table(summary: pd.DataFrame) -> Table:
    """Clean accuracy and success by artifact, target and attack, their intervals and the controls; errors in red.

    ``summary`` is that of `metrics.summarise`; the check over every image (split ``all``) is left out. An
    interval with a star is over images alone: it says nothing of other patches.
    """
    out = Table(header_style="bold", row_styles=["", "dim"] if len(summary) > 40 else None)
    beside = [name for name in stand_ins(summary) if name != "grey"]
    for name in ("victim", "artifact", "target", "attack"):
        out.add_column(name, overflow="fold")
    for name in ("clean", "95 %", "success", "95 %", "n", "patches", "min – max", *beside):
        out.add_column(name, justify="right", no_wrap=True)
    rest = [""] * (2 + len(beside))
    for row in results(labelled(summary[summary["split"] != "all"])):
        place = [Text(str(row[c])) for c in ("victim", "artifact_label", "target", "series_label")]
        if row["status"] == "error":
            out.add_row(*place, Text("error", "bold red"), "", Text(str(row["error"]), "red"), "", "", *rest)
            continue
        clean = [percent(row["clean_accuracy"]), span(row["clean_accuracy_low"], row["clean_accuracy_high"])]
        if row["attack"] == "none":
            out.add_row(*place[:3], Text(str(row["defence"])), *clean, "", "", str(row["n_clean"]), *rest)
            continue
        patches = Text(str(row["n_patches"]))
        if row["n_failed"]:
            patches.append(f", {row['n_failed']} failed", "red")
        success = (
            "†" * bool(row.get("doubts")) + percent(row["mean"]) + ("" if row["kind"] == "targeted" else " untargeted")
        )
        controls = [percent(row[name]) if row["kind"] == "targeted" else "" for name in beside]
        star = "*" if row["interval_over"] == "images" else ""
        interval = span(row["low"], row["high"]) + star
        out.add_row(*place, *clean, success, interval, str(row["n"]), patches, span(row["min"], row["max"]), *controls)
    said = "".join(str(cell) for column in out.columns for cell in column.cells)
    notes = {
        "*": "* over images alone, for these very patches: no class has two seeds",
        "†": "† a check failed",
    }
    out.caption = "; ".join(note for mark, note in notes.items() if mark in said)
    return out
