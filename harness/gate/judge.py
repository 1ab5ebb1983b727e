"""The verdict: everything that was found, and the exit code that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from backends.device.errors import UserError
from harness.gate.compare import Comparison, compare
from harness.gate.drift import Drift, drift
from harness.gate.faults import run_faults
from harness.gate.limits import LimitResult, check_limit
from harness.gate.notes import notes, other_suite
from harness.gate.pairs import pairs
from harness.gate.rules import Rules
from harness.results.frozen import Frozen
from patches.patch import CONTROLS

SHORTEST = 7  # digits of a hash, as git abbreviates it
CHANGED = "+"  # after a commit whose files were changed


class ExitCode(IntEnum):
    """The answer of the gate, as the exit code of its command."""

    NO_WORSE = 0
    WORSE = 1
    CANNOT_COMPARE = 2


@dataclass(frozen=True)
class Verdict:
    """What the gate found; ``faults`` are why cells cannot be compared or judged."""

    code: ExitCode
    baseline: str
    run: str
    alpha: float
    faults: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    limits: tuple[LimitResult, ...] = ()
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The answer in words: ``no worse``, ``worse`` or ``cannot compare``."""
        return self.code.name.lower().replace("_", " ")

    @property
    def all_equal(self) -> bool:
        """Whether every comparison found the same answers on the same images."""
        return bool(self.comparisons) and all(comparison.equal for comparison in self.comparisons)


def check_origin(run: Frozen, of: str) -> None:
    """Check that a run is of a plan or a commit, of which 7 digits are enough; of another, it is a `UserError`."""
    plan, commit = run.facts.plan, run.facts.commit
    is_commit = commit.startswith(of) or (commit and of.startswith(commit))
    if of == commit or (len(of) >= SHORTEST and (plan.startswith(of) or (is_commit and not commit.endswith(CHANGED)))):
        return
    where = (
        f"commit {commit}; run the suite again" if commit else "no commit, as it ran in no git checkout; give its plan"
    )
    raise UserError(f"--of {of}: {run.source} is of plan {plan or 'unknown'}, {where}")


def judge(base: Frozen | None, run: Frozen, rules: Rules) -> Verdict:
    """Judge a run by rules; without a baseline, by their limits alone.

    Whatever cannot be compared decides first: a missing cell proves nothing, however well the others do.
    """
    if base is None and not rules.limit:
        raise UserError("without a baseline, the gate needs rules with a [[limit]]: pass --rules or a baseline")
    compared = _compare_all(base, run, rules) if base else _Compared()
    limits, faults = _check_limits(run, rules, compared.faults)
    worse = any(c.worse for c in compared.comparisons) or any(limit.broken for limit in limits)
    if compared.drift and rules.drift == "worse":
        worse = True
    code = ExitCode.CANNOT_COMPARE if faults else ExitCode.WORSE if worse else ExitCode.NO_WORSE
    return Verdict(
        code=code,
        baseline=str(base.source) if base else "",
        run=str(run.source),
        alpha=sum(rules.alpha(rule) for rule in rules.compare) if base else 0.0,
        faults=tuple(dict.fromkeys(faults)),
        comparisons=compared.comparisons,
        limits=tuple(limits),
        drift=compared.drift,
        notes=compared.notes,
    )


@dataclass(frozen=True)
class _Compared:
    """What comparing a run with its baseline found."""

    faults: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()


def _compare_all(base: Frozen, run: Frozen, rules: Rules) -> _Compared:
    paired = pairs(base, run)
    faults = run_faults(base, run)
    if faults:  # other pixels of patched images would follow from these
        faults += [f"{pair.name}: {gap}" for pair in paired for gap in pair.gaps]
        return _Compared((*other_suite(base, run), *faults))
    faults += [f"{pair.name}: {fault}" for pair in paired for fault in pair.faults]
    comparisons = []
    for rule in rules.compare:
        some = compare(base, run, rule, rules.alpha(rule), paired)
        comparisons += some
        if not some and rule.where and not faults:
            faults.append(f"rule for {rule.metric} where {rule.where}: no cell matches, so nothing was judged")
    if not comparisons and not faults:
        faults.append("no cell was compared: no rule matches any")
    flips = tuple(drift(base, run, paired))
    return _Compared(tuple(faults), tuple(comparisons), flips, tuple(notes(base, run, paired, comparisons)))


def _check_limits(run: Frozen, rules: Rules, known_faults: tuple[str, ...]) -> tuple[list[LimitResult], list[str]]:
    """Return each limit's results, and the known faults with those of the limits added."""
    faults = list(known_faults)
    limits = []
    for limit in rules.limit:
        results = check_limit(run, limit)
        limits += results
        if not results:
            faults.append(f"limit {limit.rule!r}: no cell that ran matches, so nothing was judged")
    if rules.limit:
        faults += [fault for fault in _failed_places(run) if not any(fault in other for other in faults)]
    return limits, faults


def _failed_places(run: Frozen) -> list[str]:
    """Return the places with cells that failed on some image: a limit would be judged without them."""
    outcomes = run.outcomes
    judged = ~outcomes.cells["attack"].isin([control for control in CONTROLS if control != "none"])
    failed = [row for row in range(len(outcomes.cells)) if judged.iloc[row] and not outcomes.whole(row)]
    places = outcomes.cells.iloc[failed][["artifact", "target"]].drop_duplicates()
    return [f"{run.source}: {artifact} on {target} has failed cells" for artifact, target in places.to_numpy()]
