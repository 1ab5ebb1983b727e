"""The verdict: everything that was found, and the exit code that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from backends.device.errors import UserError
from harness.gate.compare import Comparison, Drift, Held, compare, drift, hold
from harness.gate.pairs import Pair, pairs, unlike
from harness.gate.rules import Rules
from harness.results.baseline import Frozen
from harness.results.columns import CELL_COLUMNS
from patches.patch import CONTROLS

NO_WORSE, WORSE, CANNOT_COMPARE = 0, 1, 2
BEYOND_NOISE = 0.05  # what a patch has to reach beyond the noise control to be worth gating
WORDS = {NO_WORSE: "no worse", WORSE: "worse", CANNOT_COMPARE: "cannot compare"}


@dataclass(frozen=True)
class Verdict:
    """What the gate found. ``faults`` are why cells can't be compared, ``changes`` what differs, by pair."""

    code: int
    baseline: str
    run: str
    alpha: float
    faults: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    limits: tuple[Held, ...] = ()
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def word(self) -> str:
        """The code in words."""
        return WORDS[self.code]


def judge(base: Frozen | None, run: Frozen, rules: Rules) -> Verdict:
    """Judges a run by rules; without a baseline by their limits alone.

    Whatever can't be compared decides first: a missing cell is no proof of anything, however well the others do.
    """
    _check_columns(rules)
    found = pairs(base, run) if base else []
    faults = unlike(base, run) if base else []
    faults += [f"{pair.name}: {fault}" for pair in found for fault in pair.faults]
    comparisons, flips, notes = [], [], []
    if base and not unlike(base, run):
        flips = drift(base, run, found)
        for rule in rules.compare:
            some = compare(base, run, rule, rules.alpha(rule), found)
            comparisons += some
            if not some and rule.where and not faults:
                faults.append(f"rule for {rule.metric} where {rule.where}: no cell fits it, so nothing was judged")
        if not comparisons and not faults:
            faults.append("no cell was compared: the rules fit none")
        notes = _notes(run, found, comparisons) + _harmless(base, comparisons)
    elif not base and not rules.limit:
        raise UserError("without a baseline a gate needs rules with a [[limit]]; give --rules, or a baseline")
    limits = []
    for limit in rules.limit:
        held = hold(run, limit)
        limits += held
        if not held:
            faults.append(f"limit {limit.rule!r}: no cell that ran fits it, so nothing was judged")
    if rules.limit:
        faults += [fault for fault in _errors(run) if not any(fault in known for known in faults)]
    worse = any(c.worse for c in comparisons) or any(h.broken for h in limits)
    worse |= bool(flips) and rules.drift == "worse"
    code = CANNOT_COMPARE if faults else WORSE if worse else NO_WORSE
    alpha = sum(rules.alpha(rule) for rule in rules.compare) if base else 0.0
    return Verdict(
        code, str(base.source) if base else "", str(run.source), alpha, tuple(dict.fromkeys(faults)),
        tuple(comparisons), tuple(limits), tuple(flips), tuple(notes),
    )  # fmt: skip


def _errors(run: Frozen) -> list[str]:
    """Cells of the run without a prediction on every image: a limit on them would be judged without them."""
    known = run.outcomes
    made = ~known.cells["attack"].isin([c for c in CONTROLS if c != "none"])
    bad = [row for row in range(len(known.cells)) if made.iloc[row] and not known.whole(row)]
    places = dict.fromkeys(f"{known.cells['artifact'].iloc[i]} on {known.cells['target'].iloc[i]}" for i in bad)
    return [f"{run.source}: {place} has cells in error" for place in places]


def _notes(run: Frozen, found: list[Pair], comparisons: list[Comparison]) -> list[str]:
    notes = []
    if moved := sum(bool(c.changes) for c in comparisons):
        notes.append(f"{moved} of {len(comparisons)} comparisons are across a change: there statistics decide")
    if any(c.anew for c in comparisons):
        notes.append("patches were crafted anew for new weights: the patch is the unit, and small changes go unseen")
    if blind := [c for c in comparisons if not c.worse and c.unseen > max(c.margin, 0.05)]:
        most = max(c.unseen for c in blind)
        notes.append(
            f"{len(blind)} comparisons could not rule out a change for the worse of up to {100 * most:.1f} points: "
            "more images or patches would"
        )
    notes += [f"a check of the run on itself failed: {text}" for text in run.facts["failed_checks"]]
    table = run.outcomes.cells
    seen = {tuple(table[["artifact", "target"]].iloc[row]) for pair in found for _, row in pair.cells}
    new = dict.fromkeys(zip(table["artifact"], table["target"], strict=True))
    if unknown := [f"{a} on {t}" for a, t in new if (a, t) not in seen]:
        notes.append(f"not in the baseline, so not judged: {', '.join(unknown)}")
    return notes


def _harmless(base: Frozen, comparisons: list[Comparison]) -> list[str]:
    """A baseline whose patches do no more than noise has nothing to lose, and passes whatever comes."""
    known = base.outcomes
    noise = known.cells.index[known.cells["attack"] == "noise"]
    rates = [
        known.hits(row, "targeted")[among].mean() for row in noise if (among := known.among(row, "targeted")).any()
    ]
    floor = float(np.mean(rates)) + BEYOND_NOISE if rates else 0.0
    weak = [c for c in comparisons if c.metric == "targeted_success" and c.before < floor]
    if not weak:
        return []
    return [
        f"{len(weak)} comparisons begin within {100 * BEYOND_NOISE:.0f} points of noise: patches that do nothing prove "
        "little; freeze a baseline with stronger ones"
    ]


def _check_columns(rules: Rules) -> None:
    for where in (*(rule.where for rule in rules.compare), *(limit.where for limit in rules.limit)):
        if unknown := set(where) - set(CELL_COLUMNS):
            names = ", ".join(CELL_COLUMNS)
            raise UserError(f"rules: where names {', '.join(sorted(unknown))}, which no cell has; there are {names}")
