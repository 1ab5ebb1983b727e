"""The comparison as people read it: one page that opens offline, and a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.finished.changes import Change, Comparison, compare
from harness.finished.settings import Setting, differing
from harness.gate.history import label
from harness.report.pages import points, render
from harness.report.wording import percent
from harness.results.baseline import of_run
from harness.results.run_directory import read_run

ALPHA = 0.05
SHOWN = 40  # settings in the terminal; the page has all
KINDS = {"clean": "clean accuracy", "targeted": "targeted success", "untargeted": "untargeted success"}


class Compared(NamedTuple):
    """All runs by their names, where they lie, what differs, and each later one compared with the first."""

    runs: tuple[str, ...]
    places: tuple[str, ...]
    settings: tuple[Setting, ...]
    comparisons: tuple[Comparison, ...]


def compare_runs(run_dirs: Sequence[Path]) -> Compared:
    """Compare run directories, each later one with the first."""
    frozen = [of_run(run_dir) for run_dir in run_dirs]
    places = tuple(map(str, run_dirs))
    candidates = (tuple(map(label, frozen)), tuple(run_dir.name for run_dir in run_dirs), places)
    names = next((words for words in candidates if len(set(words)) == len(words)), places)
    settings = differing([read_run(run_dir) for run_dir in run_dirs])
    return Compared(names, places, tuple(settings), tuple(compare(frozen[0], later) for later in frozen[1:]))


def page(compared: Compared) -> str:
    """Return the page."""
    return render(
        "compare.html",
        runs=compared.runs,
        places=compared.places,
        settings=compared.settings,
        comparisons=list(zip(compared.runs[1:], compared.comparisons, strict=True)),
        counts=counts,
        most=most,
        kinds=KINDS,
        alpha=ALPHA,
    )


def terminal(compared: Compared) -> Iterator[RenderableType]:
    """Yield a table of what differs, then for each later run its changes, and what could not be paired."""
    first = compared.runs[0]
    settings = Table("differs", *compared.runs, header_style="bold")
    for setting in compared.settings[:SHOWN]:
        settings.add_row(Text(setting.key), *map(Text, setting.values))
    yield settings if compared.settings else Text("The runs have the same settings.")
    if len(compared.settings) > SHOWN:
        yield Text(f"{len(compared.settings) - SHOWN} more keys differ; the page has all")
    for run, comparison in zip(compared.runs[1:], compared.comparisons, strict=True):
        yield Text(f"{first} → {run}", "bold")
        if comparison.changes:
            yield _table(comparison.changes)
        yield from (Text(f"not paired: {line}", "yellow") for line in comparison.unmatched)
        yield from (Text(f"note: {line}") for line in comparison.notes)
        yield Text(f"{counts(comparison)} {most(comparison)}".strip(), "bold")


def counts(comparison: Comparison) -> str:
    """Return in one line how many rates changed."""
    every = len(comparison.changes) + len(comparison.equal)
    if not every:
        return "Nothing could be paired."
    left = " Some cells have no partner." if comparison.unmatched else ""
    if not comparison.changes:
        return f"Nothing changed: all {every} rates rest on the same answers.{left}"
    sure = sum(change.p < ALPHA for change in comparison.changes)
    return f"{sure} of {every} rates changed beyond chance; {len(comparison.equal)} rest on the same answers.{left}"


def most(comparison: Comparison) -> str:
    """Return the greatest change that is beyond chance in words; empty if none is."""
    sure = [change for change in comparison.changes if change.p < ALPHA]
    if not sure:
        return ""
    before, after = (percent(rate) for rate in sure[0].measured[:2])
    return f"Most of all: {KINDS[sure[0].kind]} of {sure[0].name}, from {before} to {after}."


def _table(changes: Sequence[Change]) -> Table:
    table = Table("cell", "rate", header_style="bold")
    for name in ("before", "now", "change", "95 %", "n", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for change in changes:
        before, after, difference, n, _ = change.measured
        interval = f"{points(difference.low)} to {points(difference.high)}"
        cells = (percent(before), percent(after), points(difference.value), interval, str(n), f"{change.p:.2g}")
        table.add_row(*map(Text, (change.name, KINDS[change.kind], *cells)), style="bold" if change.p < ALPHA else "")
    return table
