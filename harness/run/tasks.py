"""What a plan has to do, task by task, and how long that takes as earlier runs tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from backends.device.json_types import typed
from backends.device.reading import DamagedFile, read_json
from harness.config import VictimTable
from harness.plan.cells import LatencyStep, ReplayStep
from harness.plan.plan import Plan
from harness.plan.steps import TORCH, ArtifactStep, DataStep, PatchStep, TrainingStep, VictimStep
from harness.store import TOOK, Took

Step = DataStep | VictimStep | TrainingStep | ArtifactStep | PatchStep | ReplayStep | LatencyStep


class Task(NamedTuple):
    """A step of a plan: the folder and the key of its result, what is done to what, and on how many images.

    Tasks that a run does in one go have the same ``batch``.
    """

    stage: str
    key: str
    verb: str
    what: str
    images: int = 0
    batch: str = ""


def verb(step: Step) -> str:
    """Return what a run does to make a step's result, in the word that it shows."""
    match step:
        case DataStep():
            return "read"
        case VictimStep():
            return "train" if isinstance(step.table, VictimTable) and step.table.train else "load"
        case TrainingStep():
            return "train"
        case ArtifactStep():
            return "read" if step.brought else "export"
        case PatchStep():
            return "craft" if step.surrogate else "make"
        case ReplayStep():
            return "run" if step.target.name == TORCH else "replay"
        case LatencyStep():
            return "time"


def tasks(plan: Plan) -> list[Task]:
    """Return all tasks of a plan, each once."""
    return list({(task.stage, task.key): task for task in _tasks(plan)}.values())


def _tasks(plan: Plan) -> Iterator[Task]:
    artifacts = {*plan.artifacts, *(replay.artifact for replay in plan.replays)}
    trainings = [artifact.training for artifact in artifacts if artifact.training]
    for data in plan.data:
        yield Task("data", data.key, verb(data), data.spec.name)
    for stage, steps in (
        ("victim", plan.victims), ("qat", trainings), ("artifact", plan.artifacts), ("patch", plan.patches),
    ):  # fmt: skip
        for step in steps:
            yield Task(stage, step.key, verb(step), step.name)
    for replay in plan.replays:
        images = plan.suite.data.evaluate if replay.case.split == "evaluate" else 0
        batch = f"{replay.target.name} {replay.artifact.key} {replay.case.split}"
        yield Task("replay", replay.key, verb(replay), replay.what, images, batch)
    for latency in plan.latencies:
        yield Task("latency", latency.key, verb(latency), latency.what)


class KnownTimes:
    """What steps took, by stage, and what others will take.

    It looks up each group of like tasks once: a plan may have 100,000 of them, and a store as many times.
    """

    def __init__(self, took: Mapping[str, Sequence[Took]]) -> None:
        self.took = took
        self._same: dict[tuple[str, ...], list[Took]] = {}
        self._alike: dict[tuple[str, ...], list[Took]] = {}
        self._known: dict[tuple[bool | int | str, ...], float] = {}
        for stage, several in took.items():
            for one in several:
                self._same.setdefault((stage, one.verb, one.what), []).append(one)
                self._alike.setdefault((stage, one.verb, _kind(stage, one.what)), []).append(one)

    def estimate(self, task: Task) -> float | None:
        """Return the median of what the same task took before, or else one of its kind; None where there was none."""
        for group, what in ((self._same, task.what), (self._alike, _kind(task.stage, task.what))):
            key = (task.stage, task.verb, what)
            if key in group:
                asked = (group is self._same, task.images, *key)
                if asked not in self._known:
                    self._known[asked] = median(_scaled(took, task.images) for took in group[key])
                return self._known[asked]
        return None


def known_times(run_dir: Path) -> KnownTimes:
    """Return what steps took: those of a stage in this run's store, else in those of the runs beside it."""
    found: dict[str, list[Took]] = {}
    for store in (run_dir / "store", *sorted(run_dir.parent.glob("*/store"))):
        times: dict[str, list[Took]] = {}
        for file in sorted(store.glob(f"*/*/{TOOK}")):
            with suppress(DamagedFile):
                took = typed(Took, read_json(file), str(file))
                times.setdefault(file.parent.parent.name, []).append(took)
        for stage, several in times.items():
            found.setdefault(stage, several)
    return KnownTimes(found)


def expected(missing: list[Task], known: KnownTimes) -> dict[str, float]:
    """Return by verb the seconds of one batch of missing tasks, where something is known of each of them."""
    seconds: dict[str, list[float | None]] = {}
    for task in missing:
        seconds.setdefault(task.verb, []).append(known.estimate(task))
    counts = batches(missing)
    return {
        verb: sum(one for one in several if one is not None) / counts[verb]
        for verb, several in seconds.items()
        if None not in several
    }


def batches(missing: list[Task]) -> dict[str, int]:
    """Return by verb in how many goes missing tasks are done."""
    counts: dict[str, set[str]] = {}
    for task in missing:
        counts.setdefault(task.verb, set()).add(task.batch or task.key)
    return {verb: len(different) for verb, different in counts.items()}


def _kind(stage: str, what: str) -> str:
    """Return what decides how long a task takes: a patch's attack, a replay's or a timing's target and defence."""
    if stage == "patch":
        return what.partition("-")[0]
    return what.rpartition(" on ")[2] if stage in ("replay", "latency") else ""


def _scaled(took: Took, images: int) -> float:
    return (took.seconds or 0.0) * (images / took.images if images and took.images else 1)
