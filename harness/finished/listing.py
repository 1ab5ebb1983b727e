"""The run directories below a folder: what each is, its headline, and its worst cells."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from backends.device.errors import UserError
from harness.report.headline import headline
from harness.report.labels import labelled
from harness.report.rows import results
from harness.report.wording import Answer, percent, span
from harness.results.gathering import outcomes
from harness.results.metrics import cells
from harness.results.record_files import read_outcomes
from harness.results.run_directory import BEGUN, CELLS, REPORT, RUN, RunFacts, read_run, read_summary
from patches.patch import CONTROLS

STUDY = "study.html"
PAGES = (REPORT, STUDY, CELLS)
MOST_WORST = 3


class Listed(NamedTuple):
    """A run directory by its path below the folder; ``fault`` says why there is nothing to show, and ``run`` is None.

    ``worst`` are the cells with the most success in integers, ``pages`` the files that can be looked at.
    """

    place: str
    run: RunFacts | None
    verdict: Answer
    sentence: str
    worst: tuple[str, ...]
    pages: tuple[str, ...]
    fault: str


class Group(NamedTuple):
    """The runs of one suite, newest first."""

    suite: str
    runs: list[Listed]


def below(root: Path) -> list[Path]:
    """Return the run directories below a folder, unfinished ones too; links are not followed."""
    return sorted(_below(root))


def _below(root: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(root):
        if RUN in files or any(begun in (*inner, *files) for begun in BEGUN):
            inner.clear()  # what a run stores is no run
            yield Path(folder)


def listed(root: Path, run_dir: Path) -> Listed:
    """Return what a page says of a run directory; a damaged or unfinished one is listed with its fault."""
    place = run_dir.relative_to(root).as_posix()
    file = run_dir / RUN
    try:
        if not file.is_file():
            raise UserError(f"{run_dir}: no {RUN}: the run has not finished; the same command resumes it")
        return _read(place, run_dir, file.stat().st_mtime_ns)
    except (UserError, OSError) as error:
        return Listed(place, None, "nothing", "", (), (), str(error))


def groups(runs: Sequence[Listed]) -> list[Group]:
    """Return the whole runs by suite, that of the newest first."""
    whole = [(one, one.run) for one in runs if one.run]
    newest = sorted(whole, key=lambda pair: pair[1].started, reverse=True)
    of_suite: dict[str, list[Listed]] = {}
    for one, run in newest:
        of_suite.setdefault(run.suite.name, []).append(one)
    return [Group(suite, members) for suite, members in of_suite.items()]


@lru_cache(maxsize=256)
def _read(place: str, run_dir: Path, written: int) -> Listed:
    """Read a run that was ``written`` at this time; a page is loaded again more often than a run changes."""
    run = read_run(run_dir)
    known = {split: own for split, own in read_outcomes(run_dir, run).items() if split != "all"}
    per_image = [patch.name for patch in run.patches if patch.per_image]
    head = headline(outcomes(known), labelled(cells(known)), per_image, run.checks)
    worst = tuple(_worst(pd.DataFrame(read_summary(run_dir, run).over_patches)))
    pages = tuple(name for name in PAGES if (run_dir / name).is_file())
    return Listed(place, run, head.verdict, head.said, worst, pages, "")


def _worst(summary: pd.DataFrame) -> Iterator[str]:
    """Yield the integer cells that patches succeed on most, each with its rate and interval."""
    if summary.empty:
        return
    table = results(labelled(summary))
    integer = ~table["precision"].isin(["fp32", ""]) & ~table["attack"].isin(CONTROLS) & table["mean"].notna()
    worst = table[integer].sort_values("mean", ascending=False, kind="stable").head(MOST_WORST)
    for row in worst.to_dict("records"):
        rate = f"{percent(row['mean'])} ({span(row['low'], row['high'])})"
        yield f"{row['artifact_label']} on {row['target_label']}, {row['series_label']}: {rate}"
