"""A plan on any number of workers, simulated: steps of known length, given out as Dask's scheduler gives them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.run.parts import PART_SECONDS, PROBE_SECONDS


@dataclass(frozen=True)
class Timed:
    """A step: how long it takes, after which others, how urgent it is, and whether its images may be split."""

    name: str
    what: str
    seconds: float
    after: frozenset[str] = frozenset()
    urgency: int = 0
    splits: bool = False


class Chain(NamedTuple):
    """The steps that follow each other for longest: no number of workers is faster."""

    seconds: float
    steps: tuple[Timed, ...]


def makespan(steps: Sequence[Timed], workers: int, overhead: float = 0.0) -> float:
    """Return the seconds until all steps are done; a step stands after those that it waits for.

    A free worker is given the most urgent step that waits for nothing, the longest among equals, as runs of known
    steps do: list scheduling (Graham, 1969). The scheduler gives out one at a time, ``overhead`` seconds each.
    """
    waits = {step.name: len(step.after) for step in steps}
    follow: dict[str, list[int]] = {step.name: [] for step in steps}
    for number, step in enumerate(steps):
        for before in step.after:
            follow[before].append(number)
    ready = [(-step.urgency, -step.seconds, number) for number, step in enumerate(steps) if not step.after]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = given = 0.0
    while ready or running:
        while ready and len(running) < workers:
            *_, number = heapq.heappop(ready)
            given = max(given, now) + overhead
            heapq.heappush(running, (given + steps[number].seconds, number))
        now, number = heapq.heappop(running)
        for later in follow[steps[number].name]:
            waits[steps[later].name] -= 1
            if not waits[steps[later].name]:
                heapq.heappush(ready, (-steps[later].urgency, -steps[later].seconds, later))
    return now


def critical_path(steps: Sequence[Timed]) -> Chain:
    """Return the longest path; a step stands after those that it waits for."""
    longest: dict[str, Chain] = {}
    for step in steps:
        before = max((longest[name] for name in step.after), key=lambda chain: chain.seconds, default=Chain(0.0, ()))
        longest[step.name] = Chain(before.seconds + step.seconds, (*before.steps, step))
    return max(longest.values(), key=lambda chain: chain.seconds, default=Chain(0.0, ()))


def split(steps: Sequence[Timed], workers: int) -> list[Timed]:
    """Return the steps as so many workers do them: a long replay is stopped early and done in parts side by side."""
    made: list[Timed] = []
    ends: dict[str, frozenset[str]] = {}  # of a step, what is done when it is
    for step in steps:
        after = frozenset().union(*(ends[name] for name in step.after))
        left = step.seconds - PROBE_SECONDS
        parts = min(workers, int(left / PART_SECONDS)) if step.splits else 1
        if parts < 2:
            made.append(replace(step, after=after))
            ends[step.name] = frozenset({step.name})
            continue
        made.append(replace(step, after=after, seconds=PROBE_SECONDS))
        several = [
            replace(step, name=f"{step.name}, part {n} of {parts}", seconds=left / parts, after=frozenset({step.name}))
            for n in range(1, parts + 1)
        ]
        made += several
        ends[step.name] = frozenset(part.name for part in several)
    return made
