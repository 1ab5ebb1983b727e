"""Hold a run against absolute limits, by the bound of each rate's interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.gate.pairs import group_name
from harness.gate.rules import KIND, LimitTable, matches
from harness.results.columns import OVER_PATCHES
from harness.results.frozen import Frozen
from harness.results.stats import mean_rate
from patches.patch import CONTROLS


@dataclass(frozen=True)
class LimitResult:
    """A limit on one group of patches; it is broken where the interval's bound is beyond it."""

    name: str
    rule: str
    value: float
    bound: float
    n: int
    broken: bool


def check_limit(run: Frozen, limit: LimitTable) -> list[LimitResult]:
    """Hold every group of the run's patches that a limit applies to against it; failed cells are left out."""
    kind = KIND[limit.metric]
    outcomes = run.outcomes
    results = []
    for _, rows in outcomes.cells.groupby(list(OVER_PATCHES), sort=False, dropna=False):
        columns = outcomes.cell(rows.index[0])
        is_clean = columns["attack"] == "none"
        if (kind == "clean") != is_clean or (not is_clean and columns["attack"] in CONTROLS):
            continue
        cells = [row for row in rows.index if outcomes.whole(row)]
        if not cells or not matches(columns, limit.where):
            continue
        hits = outcomes.hits_each(cells, kind)
        counted = outcomes.among_each(cells, kind)
        rate = mean_rate(hits, counted, outcomes.goals[cells], limit.confidence)
        if np.isnan(rate.value):
            continue
        bound = rate.high if limit.is_upper else rate.low
        broken = bound > limit.value if limit.is_upper else bound < limit.value
        results.append(
            LimitResult(group_name(columns), limit.rule, rate.value, bound, int(counted.sum()), bool(broken))
        )
    return results
