"""``run --dry-run``: what a run would do, what of it is stored, how long the rest takes, and whether it asks enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backends.device.json_types import typed
from backends.device.reading import DamagedFile, read_json
from harness.config import read_suite
from harness.config.overrides import Overrides
from harness.gate.notes import LARGE_UNSEEN
from harness.plan.described import check_brought
from harness.plan.plan import Plan, make
from harness.plan.warnings import warnings
from harness.results.baseline import patches_of
from harness.results.checks import WORTHWHILE
from harness.results.run_directory import RUN, read_run
from harness.results.stats import paired_interval
from harness.run.run import check_data
from harness.shipped import about_suite
from harness.store import TOOK, Took

FLIPS = 0.02  # of a patch's outcomes, where something unimportant changed
FRESH = 21  # patches a side, crafted anew: a rise of 5 points is found in 90 % of gates; docs/pages/findings/gate.md
STEP = 10  # images


class Task(NamedTuple):
    """A step of a plan: the folder and the key of its result, what it does, and on how many images."""

    stage: str
    key: str
    what: str
    images: int = 0


class Row(NamedTuple):
    """Steps of one kind: how many, how many are stored, and the seconds that the others take, None for unknown."""

    verb: str
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
    frozen: Path | None,
    console: Console,
) -> None:
    """Plan a run as `harness.run.run.run_suite` does, and print the plan; nothing is made but the plan."""
    from harness.data.datasets import class_names

    suite = read_suite(suite_file, overrides)
    check_data(data_dir)
    run_dir = out or Path("out") / suite.name
    store = run_dir / "store"
    known = patches_of(frozen) if frozen else {}
    with about_suite(suite_file):
        cache = store if store.is_dir() else None
        plan = make(suite, data_dir, cache, targets, {name: (p.sha256, w) for name, (p, w) in known.items()})
        check_brought(plan.artifacts, len(class_names(suite.data, data_dir)))
    for line in warnings(plan):
        console.print(Text(line, "yellow"), soft_wrap=True)
    print_dry_run(plan, run_dir, console)


def print_dry_run(plan: Plan, run_dir: Path, out: Console) -> None:
    """Print what a run into a directory would do, and how many images and seeds its questions need."""
    rows = list(rows_of(plan, run_dir))
    table = Table("step", "in all", "stored", "to do", "about")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.verb, str(row.all), str(row.stored), str(len(row.seconds)), duration(row.seconds))
    seconds = [one for row in rows for one in row.seconds]
    out.print(f"{plan.suite.name}: {len(plan.cells)} cells, into {run_dir}", soft_wrap=True)
    out.print(table)
    out.print(f"to do: {duration(seconds)}, one step after the other" if seconds else "nothing is left to do")
    out.print(_needs(plan))
    for line in _last_run(run_dir):
        out.print(Text(line, "yellow"), soft_wrap=True)


def rows_of(plan: Plan, run_dir: Path) -> Iterator[Row]:
    """Yield a row for each kind of step that a plan has."""
    known = known_times(run_dir)
    for verb, tasks in _tasks(plan).items():
        unique = {task.key: task for task in tasks}.values()
        missing = [task for task in unique if not (run_dir / "store" / task.stage / task.key).is_dir()]
        if unique:
            yield Row(verb, len(unique), len(unique) - len(missing), [estimate(task, known) for task in missing])


def _tasks(plan: Plan) -> dict[str, list[Task]]:
    artifacts = {*plan.artifacts, *(replay.artifact for replay in plan.replays)}
    trainings = [artifact.training for artifact in artifacts if artifact.training]
    crafted = [patch for patch in plan.patches if patch.surrogate]
    controls = [patch for patch in plan.patches if not patch.surrogate]
    counted = plan.suite.data.evaluate
    return {
        "read images": [Task("data", step.key, step.spec.name) for step in plan.data],
        "train or load a victim": [Task("victim", step.key, step.name) for step in plan.victims],
        "train to a precision": [Task("qat", step.key, step.name) for step in trainings],
        "export or read a file": [Task("artifact", step.key, step.name) for step in plan.artifacts],
        "craft a patch": [Task("patch", step.key, step.name) for step in crafted],
        "make a control": [Task("patch", step.key, step.name) for step in controls],
        "replay a case": [
            Task("replay", step.key, step.what, counted if step.case.split == "evaluate" else 0)
            for step in plan.replays
        ],
        "time a file": [Task("latency", step.key, step.what) for step in plan.latencies],
    }


def known_times(run_dir: Path) -> dict[str, list[Took]]:
    """Return what steps took, by stage: in this run's store, else in those of the runs beside it."""
    found: dict[str, list[Took]] = {}
    for store in (run_dir / "store", *sorted(run_dir.parent.glob("*/store"))):
        times: dict[str, list[Took]] = {}
        for file in sorted(store.glob(f"*/*/{TOOK}")):
            with suppress(DamagedFile):
                took = typed(Took, read_json(file), str(file))
                times.setdefault(file.parent.parent.name, []).append(took)
        for stage, several in times.items():
            found.setdefault(stage, several)
    return found


def estimate(task: Task, known: dict[str, list[Took]]) -> float | None:
    """Return the median of what the same task took before, or else one of its kind; None where there was none."""
    before = known.get(task.stage, [])
    same = [took for took in before if took.what == task.what]
    alike = [took for took in before if _kind(task.stage, took.what) == _kind(task.stage, task.what)]
    seconds = [_scaled(took, task.images) for took in same or alike]
    return median(seconds) if seconds else None


def _kind(stage: str, what: str) -> str:
    """Return what decides how long a task takes: of a patch its attack, of a replay or a timing its target."""
    if stage == "patch":
        return what.partition("-")[0]
    return what.rpartition(" on ")[2] if stage in ("replay", "latency") else ""


def _scaled(took: Took, images: int) -> float:
    return (took.seconds or 0.0) * (images / took.images if images and took.images else 1)


def duration(seconds: Sequence[float | None]) -> str:
    """Return the sum in words, and for how many steps nothing is known; empty for no steps."""
    if seconds and not any(one is not None for one in seconds):
        return "unknown"
    known = [one for one in seconds if one is not None]
    total = sum(known)
    words = f"{total:.0f} s" if total < 100 else f"{total / 60:.0f} min" if total < 5400 else f"{total / 3600:.1f} h"
    unknown = len(seconds) - len(known)
    return " + ".join(([words] if known else []) + ([f"{unknown} unknown"] if unknown else []))


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
