"""Measure a sample of a suite's steps: ``PYTHONPATH=. python benchmarks/speed/sample.py SUITE TABLE --data DIR``.

One step of each kind, in CPU seconds with one thread, which a busy machine changes little; what is long is measured
short: of a training one epoch counts for all, of an attack two short runs tell what a step and what the rest takes,
of a replay one case of all. Stop it at any time: a second call goes on. ``scale.py simulate`` reads the table.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from times import Kind, Row, append, kinds, name, read, steps_of

from harness.config import VictimTable, read_suite
from harness.console import console
from harness.display import Display
from harness.plan.cells import LatencyStep, ReplayStep
from harness.plan.plan import Plan, make
from harness.plan.steps import TORCH, ArtifactStep, PatchStep, SurrogateStep, TrainingStep, VictimStep
from harness.run import crafting, perform, stages
from harness.run.elsewhere import fault
from harness.run.graph import Node, graph, latencies
from harness.run.lanes import Share
from harness.run.replays import Batch
from harness.run.tasks import Step
from harness.store import Store

SHORT, LONGER = 3, 9  # steps of an attack


class Sampler:
    """A suite's plan, and the same with one epoch and few steps, in a store of its own."""

    def __init__(self, suite: Path, folder: Path, data: Path | None) -> None:
        self.plan = make(read_suite(suite), data, None)
        self.nodes = _nodes(self.plan)
        self._works = {steps: _work(suite, folder, data, steps) for steps in (SHORT, LONGER)}
        self._short = {steps: _nodes(work.plan) for steps, work in self._works.items()}
        self._took: dict[str, float] = {}  # by name, of nodes that are done, some on the way to another

    def of_each_kind(self) -> Iterator[int]:
        """Yield the number of one node of each kind, first without regard to bits; what needs a training comes last."""
        seen: set[Kind] = set()
        for level in (1, 0):
            by_verb: dict[str, list[int]] = {}
            for number, node in enumerate(self.nodes):
                for stage, step in steps_of(node)[:1]:
                    if kinds(stage, step)[level] not in seen:
                        seen |= set(kinds(stage, step))
                        by_verb.setdefault(node.verb, []).append(number)
            in_turn = [one for several in zip_longest(*by_verb.values()) for one in several if one is not None]
            yield from sorted(in_turn, key=lambda number: _is_trained(steps_of(self.nodes[number])[0][1]))

    def row(self, number: int) -> Row:
        """Measure a node's first step."""
        stage, step = steps_of(self.nodes[number])[0]
        if stage == "replay":
            return Row(stage, name(step), self._case(number), self.plan.suite.data.evaluate)
        seconds = self._seconds(number, SHORT)
        if isinstance(step, PatchStep) and step.surrogate and (steps := step.options.get("steps")):
            each = (self._seconds(number, LONGER) - seconds) / (LONGER - SHORT)
            seconds += max(each, 0.0) * (steps - SHORT)
        elif isinstance(step, TrainingStep):
            seconds *= step.table.epochs
        elif isinstance(step, VictimStep) and isinstance(step.table, VictimTable) and step.table.train:
            seconds *= step.table.train.epochs
        return Row(stage, name(step), seconds)

    def _seconds(self, number: int, steps: int) -> float:
        return self._do(steps, self._short[steps][number])

    def _case(self, number: int) -> float:
        """Return the seconds of a case of a batch: what all cases take, shared out."""
        work, batch = self._works[SHORT], self._short[SHORT][number].of
        assert isinstance(batch, Batch)
        cheap = [one for one in batch.steps if not one.case.patch or one.case.patch.attack in ("grey", "noise")][:3]
        for one in cheap:
            stages.images(work, one.case.data, one.case.split)
            if one.case.patch:
                crafting.patch(work, one.case.patch)
        if batch.target.name == TORCH:
            work.simulated(batch.steps[0].artifact)
        else:
            self._do(SHORT, self._named(SHORT, f"artifact:{batch.steps[0].artifact.key}"))
            fault(work, batch.steps[0], lambda: None)  # once for a target, whatever is replayed
        first, both = (
            _cpu(partial(perform.perform, work, Node("replay", "", "", several), Share(1), 1))
            for several in (Batch(tuple(some), tuple(one.case for one in some)) for some in (cheap[:1], cheap[1:]))
        )
        each = max(both - first, 0.0)
        return (first + each * (len(batch.steps) - 1)) / len(batch.steps)

    def _do(self, steps: int, node: Node) -> float:
        """Do a node, after what it waits for, and return its seconds, whenever it was done."""
        if node.name not in self._took:
            for before in node.after:
                self._do(steps, self._named(steps, before))
            self._took[node.name] = _cpu(lambda: perform.perform(self._works[steps], node, Share(1), 1))
        return self._took[node.name]

    def _named(self, steps: int, name: str) -> Node:
        return next(node for node in self._short[steps] if node.name == name)


def _is_trained(step: Step | SurrogateStep) -> bool:
    """Return whether a step is a training, or is done to what one makes."""
    match step:
        case TrainingStep() | ArtifactStep(training=TrainingStep()):
            return True
        case VictimStep(table=table):
            return isinstance(table, VictimTable) and table.train is not None
        case PatchStep(surrogate=made):
            return made is not None and _is_trained(made)
        case ReplayStep(artifact=file) | LatencyStep(artifact=file) | SurrogateStep(artifact=file) if file:
            return _is_trained(file)
        case ArtifactStep(victim=victim) | SurrogateStep(victim=victim):
            return _is_trained(victim)
        case _:
            return False


def _work(suite: Path, folder: Path, data: Path | None, steps: int) -> stages.Work:
    text = re.sub(r"\bepochs = \d+", "epochs = 1", re.sub(r"\bsteps = \d+", f"steps = {steps}", suite.read_text()))
    (folder / "suites").mkdir(parents=True, exist_ok=True)
    short = folder / "suites" / f"{steps}-{suite.name}"
    short.write_text(text)
    display = Display(console(quiet=True), quiet=True)
    plan = make(read_suite(short), data, None)
    return stages.Work(plan, Store(folder / "store", display.warn), display, "cpu", {})


def _nodes(plan: Plan) -> list[Node]:
    return [*graph(plan).values(), *latencies(plan).values()]


def _cpu(do: Callable[[], object]) -> float:
    """Return the CPU seconds of this process and of those that it started."""
    before = _used()
    do()
    return _used() - before


def _used() -> float:
    several = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in several)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(given, Sampler(given.suite, Path(folder), given.data))


def measure(given: argparse.Namespace, sampler: Sampler) -> None:
    """Add rows to the table, for the minutes that are given."""
    done = {(row.stage, row.what) for row in read(given.table)}
    until = time.monotonic() + 60 * given.minutes
    for number in sampler.of_each_kind():
        stage, step = steps_of(sampler.nodes[number])[0]
        if (stage, name(step)) in done:
            continue
        if time.monotonic() > until:
            sys.exit(f"{given.minutes:g} minutes are over; run again to go on")
        row = sampler.row(number)
        append(given.table, row)
        print(*row, flush=True)


if __name__ == "__main__":
    main()
