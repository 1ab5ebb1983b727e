"""Compare paired cells by a rule: the change of a metric, its interval, and its significance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.gate.pairs import Pair, image_order
from harness.gate.rules import KIND, CompareTable, Metric, matches
from harness.results.frozen import Frozen
from harness.results.stats import Difference, difference, holm, mean_over_patches
from harness.results.success import Kind


@dataclass(frozen=True)
class Comparison:
    """A metric of a pair: each side's rate and the paired change, all over the images that count on both.

    ``equal`` says that every image's answer counts alike. ``low`` to ``high`` is the change's 95 % interval. ``p`` is
    one-sided, in the direction that is worse, and corrected over the rule's comparisons. ``n`` images of ``patches``
    patches. ``unseen`` is the largest worsening that the interval does not exclude.
    """

    name: str
    metric: Metric
    before: float
    after: float
    change: float
    low: float
    high: float
    n: int
    patches: int
    p: float
    margin: float
    unseen: float
    worse: bool
    equal: bool
    anew: bool
    changes: tuple[str, ...]


class Measured(NamedTuple):
    """A rate of a pair on both sides, and its paired change, all over the ``n`` images that count on both.

    ``equal`` says that every image's answer counts alike.
    """

    before: float
    after: float
    change: Difference
    n: int
    equal: bool


def compare(base: Frozen, run: Frozen, rule: CompareTable, alpha: float, paired: Sequence[Pair]) -> list[Comparison]:
    """Return a rule's comparisons, Holm-corrected; pairs with faults and rates without an image are left out."""
    order = image_order(base, run)
    comparisons = []
    for pair in paired:
        is_clean = pair.columns["attack"] == "none"
        if pair.faults or is_clean != (rule.metric == "clean_accuracy") or not matches(pair.columns, rule.where):
            continue
        comparison = _comparison(base, run, rule, pair, order)
        if comparison is not None:
            comparisons.append(comparison)
    adjusted = holm([comparison.p for comparison in comparisons])
    sign = _sign(rule)
    return [
        replace(comparison, p=float(p), worse=bool(p < alpha and sign * comparison.change > rule.margin))
        for comparison, p in zip(comparisons, adjusted, strict=True)
    ]


def measure(base: Frozen, run: Frozen, kind: Kind, pair: Pair, order: NDArray[np.int64], sign: int) -> Measured | None:
    """Measure the change of a pair's rate, times ``sign``; None where no image counts on both sides."""
    rows = [row for row, _ in pair.cells]
    hits, counted = _matrices(base, rows, kind)
    hits_now, counted_now = (matrix[:, order] for matrix in _matrices(run, [row for _, row in pair.cells], kind))
    both = counted & counted_now
    if not both.any():
        return None
    rise = sign * (hits_now.astype(np.float64) - hits)
    if pair.anew:
        # Recrafted patches are paired by class and seed, so what a class has in common cancels out.
        one_class = np.zeros(len(rows), np.int64)
        change = difference(rise, both, one_class, "patches and images")
    else:
        change = difference(rise, both, base.outcomes.goals[rows])
    equal = not (rise * both).any() and bool((counted == counted_now).all())
    return Measured(mean_over_patches(hits, both), mean_over_patches(hits_now, both), change, int(both.sum()), equal)


def _comparison(
    base: Frozen, run: Frozen, rule: CompareTable, pair: Pair, order: NDArray[np.int64]
) -> Comparison | None:
    kind = KIND[rule.metric]
    sign = _sign(rule)
    measured = measure(base, run, kind, pair, order, sign)
    if measured is None:
        return None
    before, after, worsening, n, equal = measured
    low, high = sorted((sign * worsening.low, sign * worsening.high))
    return Comparison(
        name=pair.name,
        metric=rule.metric,
        before=before,
        after=after,
        change=sign * worsening.value,
        low=low,
        high=high,
        n=n,
        patches=0 if kind == "clean" else len(pair.cells),
        p=worsening.p_above,
        margin=rule.margin,
        unseen=max(0.0, worsening.high),
        worse=False,
        equal=equal,
        anew=pair.anew,
        changes=pair.changes,
    )


def _matrices(frozen: Frozen, rows: list[int], kind: Kind) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return hits and the images that count, each ``(rows, images)``."""
    hits = frozen.outcomes.hits_each(rows, kind)
    counted = frozen.outcomes.among_each(rows, kind)
    return hits, counted


def _sign(rule: CompareTable) -> int:
    return 1 if rule.worse == "higher" else -1
