"""What the steps of a plan take: as measured, else as others of their kind."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from simulated import Timed

from harness.plan.cells import LatencyStep, ReplayStep
from harness.plan.plan import Plan
from harness.plan.steps import TORCH, ArtifactStep, PatchStep, SurrogateStep, TrainingStep
from harness.run.graph import Node, graph, latencies
from harness.run.replays import Batch
from harness.run.tasks import Step, known_times, verb

Kind = tuple[str, ...]
MEASURED, ALIKE, USUAL, GIVEN, NOTHING = (
    "measured", "as others of the same kind", "as others with the same verb", "given", "taken for nothing"
)  # fmt: skip


class Row(NamedTuple):
    """Seconds of a step: its stage, what it is done to as a run names it, and on how many images."""

    stage: str
    what: str
    seconds: float
    images: int = 0


def of_run(folder: Path) -> list[Row]:
    """Return what a run measured, or those beside it; one that was interrupted measured some of its steps."""
    took = known_times(folder).took
    return [Row(stage, one.what, one.seconds or 0.0, one.images) for stage, several in took.items() for one in several]


def read(file: Path) -> list[Row]:
    """Read a table of measured steps."""
    if not file.is_file():
        return []
    with file.open() as lines:
        return [Row(r["stage"], r["what"], float(r["seconds"]), int(r["images"])) for r in csv.DictReader(lines)]


def append(file: Path, row: Row) -> None:
    """Add a row to a table."""
    is_new = not file.is_file()
    with file.open("a") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        if is_new:
            writer.writerow(Row._fields)
        writer.writerow([row.stage, row.what, f"{row.seconds:.3f}", row.images])


def name(step: Step | SurrogateStep) -> str:
    """Return what a step is done to, as a run's times name it."""
    if isinstance(step, ReplayStep | LatencyStep):
        return step.what
    if isinstance(step, SurrogateStep):
        return f"{step.made_of} {step.words.variant}".strip()
    return step.name if hasattr(step, "name") else step.spec.name


def kinds(stage: str, step: Step | SurrogateStep) -> tuple[Kind, Kind]:
    """Return what decides how long a step takes, to the bits, and then without them."""
    match step:
        case ReplayStep(artifact=file, target=target) | LatencyStep(artifact=file, target=target):
            rounded = "" if file.precision == "fp32" or target.name != TORCH else "simulated"
            alike = (stage, target.name, file.victim.name, rounded)
            return (*alike, file.precision), alike
        case ArtifactStep():
            alike = (stage, step.format, step.victim.name)
            return (*alike, step.precision), alike
        case TrainingStep():
            return (stage, step.name), (stage, step.name)  # its epochs decide
        case PatchStep(surrogate=made) if made:
            alike = (stage, step.attack, made.kind, made.victim.name)
            return (*alike, str(made.words)), alike
        case PatchStep():
            return (stage, step.attack, str(step.data.size)), (stage, step.attack)
        case _:
            return (stage, name(step)), (stage, name(step))


class Times:
    """The seconds of a plan's steps; ``given`` are those of a verb, whatever was measured."""

    def __init__(self, plan: Plan, rows: Iterable[Row], given: Mapping[str, float]) -> None:
        self._given = given
        self._same: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            self._same.setdefault((row.stage, row.what), []).append(row)
        self._alike: dict[Kind, list[Row]] = {}
        self._usual: dict[str, list[Row]] = {}
        self._images = plan.suite.data.evaluate
        self.counts: dict[str, Counter[str]] = {}  # by verb, of how many steps what is known
        named = {(stage, name(step)): step for node in _nodes(plan) for stage, step in steps_of(node)}
        for (stage, what), step in named.items():
            if rows_here := self._same.get((stage, what)):
                for kind in dict.fromkeys(kinds(stage, step)):
                    self._alike.setdefault(kind, []).extend(rows_here)
                self._usual.setdefault(_verb(step), []).extend(rows_here)

    @property
    def unknown(self) -> Counter[str]:
        """Of how many steps nothing is known, by verb."""
        return Counter({verb: found[NOTHING] for verb, found in self.counts.items() if found[NOTHING]})

    def node(self, node: Node, after: frozenset[str]) -> Timed:
        """Return a node with the time of all its steps; a bundle has none."""
        seconds = sum(self._step(stage, step) for stage, step in steps_of(node))
        splits = node.stage == "replay" and isinstance(node.of, Batch) and node.of.target.name != TORCH
        return Timed(node.name, f"{node.verb} {node.what}", seconds, after, node.urgency, splits)

    def _step(self, stage: str, step: Step | SurrogateStep) -> float:
        fine, coarse = kinds(stage, step)
        images = self._images if isinstance(step, ReplayStep) and step.case.split == "evaluate" else 0
        given = self._given.get(_verb(step))
        known = {
            GIVEN: None if given is None else [Row(stage, "", given)],
            MEASURED: self._same.get((stage, name(step))),
            ALIKE: self._alike.get(fine) or self._alike.get(coarse),
            USUAL: self._usual.get(_verb(step)),
        }
        how, rows = next(((how, rows) for how, rows in known.items() if rows), (NOTHING, []))
        self.counts.setdefault(_verb(step), Counter())[how] += 1
        return median([_scaled(row, images) for row in rows]) if rows else 0.0


def timed(plan: Plan, times: Times) -> list[Timed]:
    """Return the nodes of a plan's graph with their times; latencies come last, as on a cluster."""
    nodes = graph(plan)
    last = nodes.keys() - {before for node in nodes.values() for before in node.after}
    first = [times.node(node, node.after) for node in nodes.values()]
    return first + [times.node(node, frozenset(last)) for node in latencies(plan).values()]


def steps_of(node: Node) -> list[tuple[str, Step | SurrogateStep]]:
    """Return the steps that a node does, each with its stage."""
    if isinstance(node.of, Batch):
        return [] if node.stage == "bundle" else [("replay", step) for step in node.of.steps]
    return [(node.stage, node.of)]


def _nodes(plan: Plan) -> list[Node]:
    return [*graph(plan).values(), *latencies(plan).values()]


def _verb(step: Step | SurrogateStep) -> str:
    return "check" if isinstance(step, SurrogateStep) else verb(step)


def _scaled(row: Row, images: int) -> float:
    return row.seconds * (images / row.images if images and row.images else 1)
