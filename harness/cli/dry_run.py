"""``run --dry-run``: what a run would do, what of it is stored, how long the rest takes, and whether it asks enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backends.device.reading import DamagedFile
from harness import shared_store
from harness.config import read_suite
from harness.config.overrides import Overrides
from harness.display import in_words
from harness.gate.notes import LARGE_UNSEEN
from harness.plan.described import check_brought
from harness.plan.licences import unaccepted
from harness.plan.plan import Plan, make
from harness.plan.warnings import warnings
from harness.results.baseline import patches_of
from harness.results.checks import WORTHWHILE
from harness.results.run_directory import RUN, read_run
from harness.results.stats import paired_interval
from harness.run.run import data_folder
from harness.run.shared_results import machine
from harness.run.tasks import Task, known_times, tasks
from harness.shared_store import SharedStore
from harness.shipped import about_suite

FLIPS = 0.02  # of a patch's outcomes, where something unimportant changed
FRESH = 21  # patches a side, crafted anew: a rise of 5 points is found in 90 % of gates; docs/pages/findings/gate.md
STEP = 10  # images
KINDS = {
    ("data", "read"): "read images",
    ("victim", "load"): "load a victim",
    ("victim", "train"): "train a victim",
    ("qat", "train"): "train to a precision",
    ("artifact", "read"): "read a file",
    ("artifact", "export"): "export a file",
    ("patch", "craft"): "craft a patch",
    ("patch", "make"): "make a control",
    ("replay", "run"): "run a case in torch",
    ("replay", "replay"): "replay a case",
    ("latency", "time"): "time a file",
}


class Row(NamedTuple):
    """Work of one kind: how many tasks, how many are stored, and the seconds that the others take, None for unknown."""

    words: str
    all: int
    stored: int
    seconds: list[float | None]


def dry_run(
    suite_file: Path,
    data_dir: Path | None,
    out: Path | None,
    *,
    overrides: Overrides,
    targets: tuple[str, ...],
    device: str = "cpu",
    frozen: Path | None,
    store: str = "",
    console: Console,
) -> None:
    """Plan a run as `harness.run.run.run_suite` does, and print the plan; nothing is made but the plan."""
    from harness.data.datasets import class_names

    suite = read_suite(suite_file, overrides)
    folder = data_folder(suite, suite_file, data_dir)
    run_dir = out or Path("out") / suite.name
    place = shared_store.read(store) if store else None
    here = run_dir / "store"
    known = patches_of(frozen) if frozen else {}
    with about_suite(suite_file):
        cache = here if here.is_dir() else None
        plan = make(suite, folder, cache, targets, {name: (p.sha256, w) for name, (p, w) in known.items()})
        check_brought(plan.artifacts, len(class_names(suite.data, folder)))
    for line in warnings(plan):
        console.print(Text(line, "yellow"), soft_wrap=True)
    for line in unaccepted(plan, lambda stage, name: (here / stage / name).is_dir()):
        console.print(Text(f"the run will be refused: {line}", "red"), soft_wrap=True)
    shared = SharedStore(place, machine(plan, device), console.print) if place else None
    print_dry_run(plan, run_dir, console, shared)


def print_dry_run(plan: Plan, run_dir: Path, out: Console, shared: SharedStore | None = None) -> None:
    """Print what a run into a directory would do, and how many images and seeds its questions need."""
    rows = list(rows_of(plan, run_dir, shared))
    table = Table("work", "in all", "stored", "to do", "about")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.words, str(row.all), str(row.stored), str(len(row.seconds)), duration(row.seconds))
    seconds = [one for row in rows for one in row.seconds]
    out.print(f"{plan.suite.name}: {len(plan.cells)} cells, into {run_dir}", soft_wrap=True)
    out.print(table)
    out.print(f"to do: {duration(seconds)}, one after the other" if seconds else "nothing is left to do")
    out.print(_needs(plan))
    for line in _last_run(run_dir):
        out.print(Text(line, "yellow"), soft_wrap=True)


def rows_of(plan: Plan, run_dir: Path, shared: SharedStore | None = None) -> Iterator[Row]:
    """Yield a row for each kind of work that a plan has; what a shared store has counts as stored."""

    def is_stored(task: Task) -> bool:
        here = run_dir / "store" / task.stage / task.key
        return here.is_dir() or bool(shared and shared.lists(task.stage, task.key))

    known = known_times(run_dir)
    every = tasks(plan)
    for (stage, verb), words in KINDS.items():
        chosen = [task for task in every if (task.stage, task.verb) == (stage, verb)]
        missing = [task for task in chosen if not is_stored(task)]
        if chosen:
            yield Row(words, len(chosen), len(chosen) - len(missing), [known.estimate(task) for task in missing])


def duration(seconds: Sequence[float | None]) -> str:
    """Return the sum in words, and for how many tasks nothing is known; empty for no tasks."""
    if seconds and not any(one is not None for one in seconds):
        return "unknown"
    known = [one for one in seconds if one is not None]
    unknown = len(seconds) - len(known)
    return " + ".join(([in_words(sum(known))] if known else []) + ([f"{unknown} unknown"] if unknown else []))


def _needs(plan: Plan) -> Table:
    """Return how many images and seeds the questions of a run and of its gate need, and how many the suite has."""
    patches = [len(table.seeds) * len(table.target_classes or (None,)) for table in plan.suite.attack]
    fewest = min(patches, default=1)
    images = f"{plan.suite.data.evaluate} images"
    points = f"{100 * LARGE_UNSEEN:.0f} points"
    table = Table("question", "needs", "has")
    table.add_row(
        f"success beyond noise, to {100 * WORTHWHILE:.0f} points?", f"{images_to_beat_noise()} images, at worst", images
    )
    if patches:
        table.add_row(f"gate, patches frozen: a rise of {points}?", f"{images_to_gate(fewest)} images", images)
        few = f"{fewest} patch" if fewest == 1 else f"{fewest} patches"
        table.add_row(f"gate, patches made anew: a rise of {points}?", f"{FRESH} patches (seeds x classes)", few)
    return table


def _last_run(run_dir: Path) -> Iterator[str]:
    """Yield what the last run into this directory left open, such as how many images would have told."""
    with suppress(DamagedFile):
        if (run_dir / RUN).is_file():
            for check in read_run(run_dir).checks:
                if check.status == "failed":
                    yield f"the last run here: {check.asks} {check.says}"


def images_to_beat_noise() -> int:
    """Return how many images tell a success from noise, where the two differ on half of the images: the worst case."""
    return _first(lambda n: float(paired_interval(0, n / 2, n)[1]) <= WORTHWHILE)


def images_to_gate(patches: int) -> int:
    """Return how many images exclude a large rise of frozen patches, where a few outcomes flip either way."""
    return _first(lambda n: float(paired_interval(0, FLIPS * n / patches, n, patches=patches)[1]) <= LARGE_UNSEEN)


def _first(enough: Callable[[int], bool]) -> int:
    n = STEP
    while not enough(n):
        n += STEP
    return n
