"""The table of results for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness.report.headline import percent, span
from harness.report.labels import labelled
from harness.report.rows import controls_shown, results

MANY_ROWS = 40  # above this, every second row is dimmed
NOTES = {
    "*": "* interval over images only, for these very patches: no class has two seeds",
    "†": "† affected by a failed self-check",
}


def table(summary: pd.DataFrame) -> Table:
    """Return clean accuracy and success by artifact, target and attack, with intervals and controls; errors in red.

    ``summary`` is that of `metrics.summarise`; the split ``all``, a check of the networks, is left out.
    """
    shown = results(labelled(summary[summary["split"] != "all"]))
    controls = [name for name in controls_shown(summary) if name != "grey"]
    out = Table(header_style="bold", row_styles=["", "dim"] if len(summary) > MANY_ROWS else None)
    for name in ("victim", "artifact", "target", "attack"):
        out.add_column(name, overflow="fold")
    for name in ("clean", "95 %", "success", "95 %", "n", "patches", "min – max", *controls):
        out.add_column(name, justify="right", no_wrap=True)
    for _, row in shown.iterrows():
        out.add_row(*_cells(row, controls))
    text = "".join(str(cell) for column in out.columns for cell in column.cells)
    out.caption = "; ".join(note for mark, note in NOTES.items() if mark in text)
    return out


def _cells(row: pd.Series, controls: list[str]) -> list[Text]:
    attack = row["defence"] if row["attack"] == "none" and row["status"] != "error" else row["series_label"]
    place = [Text(str(cell)) for cell in (row["victim"], row["artifact_label"], row["target"], attack)]
    blank = [Text()] * (2 + len(controls))
    if row["status"] == "error":
        return [*place, Text("error", "bold red"), Text(), Text(str(row["error"]), "red"), Text(), Text(), *blank]
    clean = [Text(percent(row["clean_accuracy"])), Text(span(row["clean_accuracy_low"], row["clean_accuracy_high"]))]
    if row["attack"] == "none":
        return [*place, *clean, Text(), Text(), Text(str(row["n_clean"])), *blank]
    targeted = row["kind"] == "targeted"
    success = percent(row["mean"]) if targeted else f"{percent(row['mean'])} untargeted"
    if row.get("doubts"):
        success = f"†{success}"
    interval = span(row["low"], row["high"])
    if row["interval_over"] == "images":
        interval += "*"
    patches = Text(str(row["n_patches"]))
    if row["n_failed"]:
        patches.append(f", {row['n_failed']} failed", "red")
    counts = [Text(str(row["n"])), patches, Text(span(row["min"], row["max"]))]
    beside = [Text(percent(row[name]) if targeted else "") for name in controls]
    return [*place, *clean, Text(success), Text(interval), *counts, *beside]
