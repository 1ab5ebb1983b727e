"""Repeat check: compare a target's answers with those of its probe, another process, bit for bit.

Of a fleet also with the probes of the other boards.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.hosts import Target, availability
from harness.plan.cells import ReplayStep
from harness.plan.steps import TORCH
from harness.results.measured import AlikeEntry, RepeatEntry
from harness.run import fleets, replays, stages
from harness.run.probe import probe


def repeats(work: stages.Work) -> Iterator[RepeatEntry]:
    """Yield for each artifact on each target how many of the images that were replayed twice have equal logits.

    Where the probe failed, the entry has its error; where the replay did, there is none.
    """
    for step in first_clean(work):
        logits = replays.answers(work, step).logits
        if logits is not None and not step.target.is_packed:
            board = fleets.answered_by(work, step)
            if len(step.target.boards) > 1 and availability(board):
                board = fleets.one_board(step.target)
            yield RepeatEntry.model_validate(_again(work, step, logits, board))


def alike(work: stages.Work) -> Iterator[AlikeEntry]:
    """Yield for each artifact on a fleet, and each other board that took part, how many images have equal logits.

    A board that was set aside is not asked.
    """
    active = {
        target.name: [one.address for one in fleets.boards(work, target) if one.replays and not one.aside]
        for target in work.plan.targets
    }
    for step in first_clean(work):
        logits = replays.answers(work, step).logits
        if logits is not None and len(step.target.boards) > 1:
            board = fleets.answered_by(work, step)
            for other in step.target.boards:
                if other.address in active[step.target.name] and other != board:
                    facts = _again(work, step, logits, other)
                    yield AlikeEntry.model_validate(facts | {"board": board.address, "other": other.address})


def first_clean(work: stages.Work) -> Iterator[ReplayStep]:
    """Yield the replay of the clean, undefended evaluation images for each artifact and target."""
    for step in work.plan.replays:
        if step.case.name == "none" and step.case.split == "evaluate" and step.target.name != TORCH:
            yield step


def _again(work: stages.Work, step: ReplayStep, logits: NDArray[np.float32], board: Target) -> dict[str, object]:
    """Return the keys of a `RepeatEntry`: how the answers of a replay compare with the probe of a board."""
    place: dict[str, object] = {"artifact": step.artifact.name, "target": step.target.name}
    try:
        other = probe(work, step.artifact, board).logits
    except UserError as error:
        return place | {"error": str(error)}
    equal = int((other == logits[: len(other)]).all(axis=1).sum())
    return place | {"images": len(other), "equal": equal}
