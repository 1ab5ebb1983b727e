"""The table of results for the terminal, and what failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.report.labels import labelled
from harness.report.rows import controls_shown, results
from harness.report.wording import percent, span
from harness.results.entries import ErrorEntry

if TYPE_CHECKING:
    from harness.report.defences import Defended, Success

UNLIMITED = 10_000  # columns of text
RATE = len("(12.3–45.6)")
MANY_ROWS = 40  # above this, every second row is dimmed
NAMES = ("victim", "artifact", "target", "attack")
FIGURES = ("clean", "95 %", "success", "95 %", "n", "patches", "min – max")
EXPENDABLE = ("min – max", "patches")  # columns left out, one after the other, where a terminal is too narrow
JOINED = 2  # targets named in a row; more are counted there and named below
NOTES = {
    "*": "* interval over images only, for these very patches: no class has two seeds",
    "†": "† affected by a failed self-check",
}


class _Row(NamedTuple):
    """A row of the table: the names of its place, and the figures of all columns, blank where it failed."""

    victim: str
    artifact: str
    target: str
    attack: str
    figures: tuple[Text, ...]


def table(summary: pd.DataFrame, console: Console) -> Table:
    """Return clean accuracy and success by artifact, target and attack, with intervals and controls.

    ``summary`` is that of `metrics.summarise`; the split ``all``, a check of the networks, is left out. Targets whose
    figures are all alike share a row; a name that all rows share stands above. What does not fit the console's width is
    left out, from the least column on.
    """
    shown = results(labelled(summary[summary["split"] != "all"]))
    controls = [name for name in controls_shown(summary) if name != "grey"]
    rows, listed = _merged([_row(row, controls) for _, row in shown.iterrows()])
    for left_out in range(len(EXPENDABLE) + 1):
        out = _table(rows, [*FIGURES, *controls], EXPENDABLE[:left_out])
        if _fits(out, console):
            break
    else:
        _fold(out)
    text = "".join(str(cell) for column in out.columns for cell in column.cells)
    out.caption = "\n".join([*listed, *(note for mark, note in NOTES.items() if mark in text)])
    return out


def _fits(out: Table, console: Console) -> bool:
    return Measurement.get(console, console.options.update(width=UNLIMITED), out).maximum <= console.width


def _fold(out: Table) -> None:
    """Leave out lines and space, so that names have room to be folded."""
    out.box = box.SIMPLE
    out.padding = (0, 1, 0, 0)
    out.pad_edge = False


def defence_table(rows: Sequence[Defended], console: Console) -> Table:
    """Return what each defence leaves to patches that do not expect it and to those that do, and what it costs.

    In a narrow console the costs are left out.
    """
    whole = _defences(rows, with_costs=True)
    if _fits(whole, console):
        return whole
    out = _defences(rows, with_costs=False)
    _fold(out)
    return out


def _defences(rows: Sequence[Defended], with_costs: bool) -> Table:
    certifies = any(pd.notna(row.certified.rate) for row in rows)
    out = Table(title="defences", title_justify="left", header_style="bold")
    for name in ("artifact", "target", "defence"):
        out.add_column(name, overflow="fold")
    out.add_column("clean", justify="right", no_wrap=True)
    for name in (*(["certified"] if certifies else []), "naive", "adaptive"):
        out.add_column(name, justify="right", min_width=RATE)
    for name in ("passes", "p50, ms") if with_costs else ():
        out.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        names = (row.artifact_label, row.target, row.defence or "none")
        certified = [_rate(row.certified)] if certifies else []
        adaptive = "only naively" if row.only_naive else _rate(row.adaptive) if row.defence else ""
        p50 = "–" if pd.isna(row.p50_ms) else f"{row.p50_ms:.2f}"
        costs = (f"{row.passes:.0f}", p50) if with_costs else ()
        clean = percent(row.clean["clean_accuracy"])
        out.add_row(*map(Text, names), clean, *certified, _rate(row.naive), adaptive, *costs)
    return out


def _rate(success: Success) -> str:
    return "–" if pd.isna(success.rate) else f"{percent(success.rate)} ({span(success.low, success.high)})"


def failures(errors: Sequence[ErrorEntry]) -> Iterator[Text]:
    """Yield what failed, by target and message: where, then the whole message on lines of its own, to copy from."""
    groups: dict[tuple[str, str], list[ErrorEntry]] = defaultdict(list)
    for error in errors:
        groups[error.target, error.message].append(error)
    for (target, message), alike in groups.items():
        files = list(dict.fromkeys(error.artifact for error in alike))
        where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        cases = "1 case" if len(alike) == 1 else f"{len(alike)} cases"
        yield Text.assemble(("failed:", "red"), f" {where} on {target}, {cases}\n{message}")


def _table(rows: Sequence[_Row], figures: Sequence[str], left_out: Sequence[str]) -> Table:
    shared = [name for name in ("victim", "attack") if len({getattr(row, name) for row in rows}) == 1]
    title = ", ".join(getattr(rows[0], name) for name in shared) if rows else ""
    is_long = len(rows) > MANY_ROWS
    out = Table(
        header_style="bold",
        row_styles=["", "dim"] if is_long else None,
        title=title or None,
        title_justify="left",
        caption_justify="left",
    )
    names = [name for name in NAMES if name not in shared]
    kept = [i for i, name in enumerate(figures) if name not in left_out]
    for name in names:
        out.add_column(name, overflow="fold")
    for i in kept:
        out.add_column(figures[i], justify="right", no_wrap=True)
    for row in rows:
        out.add_row(*(Text(getattr(row, name)) for name in names), *(row.figures[i] for i in kept))
    return out


def _merged(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """Return one row for targets that are alike in every figure, and a line for each list that is too long for it."""
    groups: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        groups[(row.victim, row.artifact, row.attack, *map(str, row.figures))].append(row)
    letters: dict[tuple[str, ...], str] = {}
    merged = []
    for alike in groups.values():
        targets = tuple(row.target for row in alike)
        name = ", ".join(targets)
        if len(targets) > JOINED:
            letter = letters.setdefault(targets, _letter(len(letters)))
            name = f"{len(targets)} targets ({letter})"
        merged.append(alike[0]._replace(target=name))
    return merged, [f"{letter}: {', '.join(targets)}" for targets, letter in letters.items()]


def _letter(i: int) -> str:
    return ascii_lowercase[i % 26] * (1 + i // 26)


def _row(row: pd.Series, controls: Sequence[str]) -> _Row:
    failed = row["status"] == "error"
    attack = row["defence"] if row["attack"] == "none" and not failed else row["series_label"]
    figures = _failed(controls) if failed else _figures(row, controls)
    return _Row(str(row["victim"]), str(row["artifact_label"]), str(row["target_label"]), str(attack), tuple(figures))


def _failed(controls: Sequence[str]) -> list[Text]:
    figures = [Text() for _ in (*FIGURES, *controls)]
    figures[FIGURES.index("success")] = Text("failed", "bold red")
    return figures


def _figures(row: pd.Series, controls: Sequence[str]) -> list[Text]:
    clean = [Text(percent(row["clean_accuracy"])), Text(span(row["clean_accuracy_low"], row["clean_accuracy_high"]))]
    blank = [Text()] * (2 + len(controls))
    if row["attack"] == "none":
        return [*clean, Text(), Text(), Text(str(row["n_clean"])), *blank]
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
    return [*clean, Text(success), Text(interval), *counts, *beside]
