"""Check of a run: every target as it answers the first clean images, against the same file elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from backends.device.errors import UserError
from harness.plan.cells import ReplayStep
from harness.results.measured import ElsewhereEntry
from harness.run import replays, stages
from harness.run.elsewhere import held
from harness.run.probe import IMAGES, Probe, probe
from harness.run.repeat_check import first_clean
from harness.run.target_facts import target_entry


def elsewheres(work: stages.Work) -> Iterator[ElsewhereEntry]:
    """Yield for each artifact on each target how alike the same file answers elsewhere; a packed target as it answered.

    Where the target gave no answers there is no entry.
    """
    for step in first_clean(work):
        try:
            given = _packed(work, step) if step.target.is_packed else probe(work, step.artifact, step.target)
        except UserError:  # told as the error of its replays
            continue
        if given is not None:
            yield held(work, step, given)


def _packed(work: stages.Work, step: ReplayStep) -> Probe | None:
    answer = replays.answers(work, step)
    if answer.logits is None:
        return None
    return Probe(answer.logits[:IMAGES], target_entry(step.target, answer.info, answer.machine))
