"""What a reader of the verdict should know besides: where it is weak, and what it did not judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.gate.compare import Comparison
from harness.gate.pairs import Pair
from harness.results.frozen import Frozen

BEYOND_NOISE = 0.05  # what a patch has to reach beyond the noise control to be worth gating
LARGE_UNSEEN = 0.05  # a worsening of this size should not go unseen


def notes(base: Frozen, run: Frozen, paired: Sequence[Pair], comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield the notes to a comparison."""
    yield from other_suite(base, run)
    if changed := sum(bool(c.changes) for c in comparisons):
        yield f"{changed} of {len(comparisons)} comparisons span a change and are judged by statistics"
    if any(c.anew for c in comparisons):
        yield "patches were recrafted for new weights: the patch is the unit, so small changes go unseen"
    blind = [c for c in comparisons if not c.worse and c.unseen > max(c.margin, LARGE_UNSEEN)]
    if blind:
        most = 100 * max(c.unseen for c in blind)
        could_not = f"{len(blind)} comparisons cannot exclude a worsening of up to {most:.1f} points"
        yield f"{could_not}; more images or patches could"
    for text in run.facts.failed_checks:
        yield f"a self-check of the run failed: {text}"
    table = run.outcomes.cells
    of_row = list(zip(table["artifact"], table["target"], strict=True))
    judged = {of_row[row] for pair in paired for _, row in pair.cells}
    places = dict.fromkeys(of_row)
    new = [f"{artifact} on {target}" for artifact, target in places if (artifact, target) not in judged]
    if new:
        yield f"not in the baseline, so not judged: {', '.join(new)}"
    yield from _weak_patches(base, comparisons)


def other_suite(base: Frozen, run: Frozen) -> Iterator[str]:
    """Yield that the baseline is of another suite, if it is."""
    if base.facts.suite != run.facts.suite:
        yield f"the baseline is of the suite {base.facts.suite!r}, the run of {run.facts.suite!r}"


def _weak_patches(base: Frozen, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A baseline whose patches do no more than noise has nothing to lose, and passes whatever comes."""
    outcomes = base.outcomes
    rates = []
    for row in outcomes.cells.index[outcomes.cells["attack"] == "noise"]:
        counted = outcomes.among(row, "targeted")
        if counted.any():
            rates.append(outcomes.hits(row, "targeted")[counted].mean())
    floor = float(np.mean(rates)) + BEYOND_NOISE if rates else 0.0
    weak = [c for c in comparisons if c.metric == "targeted_success" and c.before < floor]
    if weak:
        points = f"{100 * BEYOND_NOISE:.0f} points of noise"
        yield (
            f"{len(weak)} comparisons start within {points}: patches without effect prove little; "
            "freeze a baseline with stronger ones"
        )
