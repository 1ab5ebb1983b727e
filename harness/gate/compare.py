"""What the gate measures: changes of paired cells, flips where nothing changed, rates against limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from harness.gate.pairs import Pair, environment_changes, order, same_file
from harness.gate.rules import Columns, Compare, Limit, Metric
from harness.results.baseline import Frozen
from harness.results.outcomes import OVER_PATCHES, Kind
from harness.results.stats import difference, holm, mean_rate
from patches.patch import CONTROLS

KIND: dict[Metric, Kind] = {
    "clean_accuracy": "clean",
    "targeted_success": "targeted",
    "untargeted_success": "untargeted",
}


@dataclass(frozen=True)
class Comparison:
    """A metric of a pair: each side's own rate, and the paired change on the images that count on both.

    ``low`` to ``high`` is the change's 95 % interval, ``p`` is one-sided in the direction that is worse and corrected
    over its rule's comparisons; ``n`` images of ``patches`` patches. ``unseen`` is the greatest change for the worse
    that the interval leaves possible.
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
    anew: bool
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """A limit on one group of patches; it is broken where the bound of the interval is beyond it."""

    name: str
    rule: str
    value: float
    bound: float
    n: int
    broken: bool


@dataclass(frozen=True)
class Drift:
    """Predictions that flipped although artifact, patches, pixels and environment are the same."""

    name: str
    flips: int
    n: int
    image: str


def compare(base: Frozen, run: Frozen, rule: Compare, alpha: float, found: Sequence[Pair]) -> list[Comparison]:
    """A rule's comparisons, Holm-corrected; pairs with faults and rates without an image are left out."""
    out, where = [], order(base, run)
    for pair in found:
        patched = rule.metric != "clean_accuracy"
        if pair.faults or patched == (pair.columns["attack"] == "none") or not matches(pair.columns, rule.where):
            continue
        if (one := _measure(base, run, rule, pair, where)) is not None:
            out.append(one)
    adjusted = holm([one.p for one in out])
    rising = 1 if rule.worse == "higher" else -1
    return [
        replace(one, p=float(p), worse=bool(p < alpha and rising * one.change > rule.margin))
        for one, p in zip(out, adjusted, strict=True)
    ]


def _measure(base: Frozen, run: Frozen, rule: Compare, pair: Pair, where: NDArray[np.int64]) -> Comparison | None:
    kind = KIND[rule.metric]
    a, b = ([cells[side] for cells in pair.cells] for side in (0, 1))
    hits, among = [], []
    for frozen, rows, at in ((base, a, slice(None)), (run, b, where)):
        hits.append(np.array([frozen.outcomes.hits(row, kind)[at] for row in rows]))
        among.append(np.array([frozen.outcomes.among(row, kind)[at] for row in rows]))
    both = among[0] & among[1]
    if not both.any():
        return None
    rising = 1.0 if rule.worse == "higher" else -1.0
    steps = rising * (hits[1].astype(np.float64) - hits[0])
    classes = base.outcomes.goals[a]
    # Patches crafted anew are paired by class and seed, so what classes have in common is gone from the differences.
    fixed = np.zeros(len(classes), np.int64)
    change = difference(steps, both, fixed, "patches and images") if pair.anew else difference(steps, both, classes)
    before, after = (_mean(h & m, m) for h, m in zip(hits, among, strict=True))
    low, high = sorted((rising * change.low, rising * change.high))
    patches = len(a) if kind != "clean" else 0
    return Comparison(
        pair.name, rule.metric, before, after, rising * change.value, low, high, int(both.sum()), patches,
        change.p_above, rule.margin, max(0.0, change.high), False, pair.anew, pair.changes,
    )  # fmt: skip


def _mean(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    some = among.any(axis=1)
    return float((hits[some].sum(axis=1) / among[some].sum(axis=1)).mean())


def drift(base: Frozen, run: Frozen, found: Sequence[Pair]) -> list[Drift]:
    """The pairs whose predictions flipped without a cause."""
    out, where = [], order(base, run)
    for pair in found:
        target = str(pair.columns["target"])
        if pair.faults or pair.anew or environment_changes(base, run, target):
            continue
        if not all(same_file(base, run, cells) for cells in pair.cells):
            continue
        flipped = np.array([base.outcomes.preds[a] != run.outcomes.preds[b][where] for a, b in pair.cells])
        if flipped.any():
            image = str(base.outcomes.images[flipped.any(axis=0)][0])
            out.append(Drift(pair.name, int(flipped.sum()), flipped.size, image))
    return out


def hold(run: Frozen, limit: Limit) -> list[Held]:
    """A limit on every group of the run's patches that it applies to, of which all cells ran."""
    kind, out = KIND[limit.metric], []
    known = run.outcomes
    for _, rows in known.cells.groupby(list(OVER_PATCHES), sort=False, dropna=False):
        columns = dict(rows.iloc[0])
        is_clean = columns["attack"] == "none"
        if (kind == "clean") != is_clean or (not is_clean and columns["attack"] in CONTROLS):
            continue
        cells = [row for row in rows.index if known.whole(row)]
        if not matches(columns, limit.where) or not cells:
            continue
        hits, among = (np.array([part(row, kind) for row in cells]) for part in (known.hits, known.among))
        found = mean_rate(hits, among, known.goals[cells], limit.confidence)
        if np.isnan(found.value):
            continue
        bound = found.high if limit.is_upper else found.low
        broken = bound > limit.value if limit.is_upper else bound < limit.value
        name = Pair(columns, (), False, (), ()).name
        out.append(Held(name, limit.rule, found.value, bound, int(among.sum()), bool(broken)))
    return out


def matches(columns: object, where: Columns) -> bool:
    """Whether each named column of a cell fits its pattern."""
    assert isinstance(columns, dict)
    return all(fnmatchcase(str(columns.get(name)), pattern) for name, pattern in where.items())
