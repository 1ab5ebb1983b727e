"""The pages of the local server: all runs, two of them compared, and a suite's history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from markupsafe import Markup

from backends.device.errors import UserError
from harness.finished import comparison, listing
from harness.finished.listing import Group, Listed
from harness.gate import history
from harness.report.pages import render
from harness.results.baseline import of_run

MOST_RUNS = 20  # of a history: the newest


def page(root: Path, address: str, query: Mapping[str, str]) -> str:
    """Return the page at an address; one that is not there is a `UserError`."""
    runs = [listing.listed(root, run_dir) for run_dir in listing.below(root)]
    groups = listing.groups(runs)
    if not address:
        return _index(root, runs, groups)
    kind, _, name = address.partition("/")
    if kind == "history":
        return _history(root, next((group for group in groups if group.suite == unquote(name)), None))
    if kind == "compare":
        known = {one.place: root / one.place for one in runs if one.run}
        before = known.get(query.get("before", ""))
        after = known.get(query.get("after", ""))
        if before and after:
            return comparison.page(comparison.compare_runs([before, after]))
    raise UserError("no such page")


def failure(message: str) -> str:
    """Return a page with an error."""
    return render("local_failure.html", message=message)


def _index(root: Path, runs: list[Listed], groups: list[Group]) -> str:
    faulty = [one for one in runs if one.fault]
    return render("local_runs.html", root=root, groups=groups, faulty=faulty, count=len(runs), quote=_quoted)


def _history(root: Path, group: Group | None) -> str:
    if group is None or len(group.runs) < 2:
        raise UserError("no such history: it needs two runs of one suite")
    runs = [of_run(root / one.place) for one in reversed(group.runs[:MOST_RUNS])]
    tracks = history.tracks(runs)
    labels = [history.label(run) for run in runs]
    figure = Markup(history.figure(runs, tracks))
    return render(
        "local_history.html", suite=group.suite, labels=labels, tracks=tracks, figure=figure, shown=history.shown
    )


def _quoted(place: str) -> str:
    return quote(place, errors="surrogateescape")
