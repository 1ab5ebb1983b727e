"""Repeat check: compare a target's answers with those of its probe, another process, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from harness.plan.cells import ReplayStep
from harness.plan.steps import TORCH
from harness.results.measured import RepeatEntry
from harness.run import replays, stages
from harness.run.probe import probe


def repeats(work: stages.Work) -> Iterator[RepeatEntry]:
    """Yield for each artifact on each target how many of the images that were replayed twice have equal logits.

    Where the probe failed, the entry has its error; where the replay did, there is none.
    """
    for step in first_clean(work):
        logits = replays.answers(work, step).logits
        if logits is not None and not step.target.is_packed:
            yield _repeat(work, step, logits)


def first_clean(work: stages.Work) -> Iterator[ReplayStep]:
    """Yield the replay of the clean, undefended evaluation images for each artifact and target."""
    for step in work.plan.replays:
        if step.case.name == "none" and step.case.split == "evaluate" and step.target.name != TORCH:
            yield step


def _repeat(work: stages.Work, step: ReplayStep, logits: NDArray[np.float32]) -> RepeatEntry:
    artifact, target = step.artifact.name, step.target.name
    try:
        other = probe(work, step.artifact, step.target).logits
    except UserError as error:
        return RepeatEntry(artifact=artifact, target=target, error=str(error))
    equal = int((other == logits[: len(other)]).all(axis=1).sum())
    return RepeatEntry(artifact=artifact, target=target, images=len(other), equal=equal)
