"""Repeat check: replay a few clean images a second time, in a new process, and compare the answers bit for bit.

Of a fleet the board that answered replays them again, or another where it is gone; and then each other board.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.answers import read_answers
from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.device.reading import read_json
from backends.hosts import Target, availability, prepare, replay
from harness.plan.cells import ReplayStep
from harness.plan.steps import TORCH
from harness.results.measured import AlikeEntry, RepeatEntry
from harness.run import fleets, replays, stages
from harness.store import key, write_json

IMAGES = 32


def repeats(work: stages.Work) -> Iterator[RepeatEntry]:
    """Yield for each artifact on each target how many of the images that were replayed twice have equal logits.

    Where the second replay failed, the entry has its error; where the first did, there is none. Kept in the store.
    """
    for step in first_clean(work):
        first = replays.answers(work, step).logits
        if first is not None and not step.target.is_packed:
            board = fleets.answered_by(work, step)
            if len(step.target.boards) > 1 and availability(board):
                board = fleets.one_board(step.target)
            yield RepeatEntry.model_validate(_again(work, step, first, board))


def alike(work: stages.Work) -> Iterator[AlikeEntry]:
    """Yield for each artifact on a fleet, and each other board that took part, how many images have equal logits.

    A board that was set aside is not asked.
    """
    active = {
        target.name: [one.address for one in fleets.boards(work, target) if one.replays and not one.aside]
        for target in work.plan.targets
    }
    for step in first_clean(work):
        first = replays.answers(work, step).logits
        if first is not None and len(step.target.boards) > 1:
            board = fleets.answered_by(work, step)
            for other in step.target.boards:
                if other.address in active[step.target.name] and other != board:
                    facts = _again(work, step, first, other, other=other.address)
                    yield AlikeEntry.model_validate(facts | {"board": board.address, "other": other.address})


def first_clean(work: stages.Work) -> Iterator[ReplayStep]:
    """Yield the replay of the clean, undefended evaluation images for each artifact and target."""
    for step in work.plan.replays:
        if step.case.name == "none" and step.case.split == "evaluate" and step.target.name != TORCH:
            yield step


def _again(
    work: stages.Work, step: ReplayStep, first: NDArray[np.float32], board: Target, **also: str
) -> dict[str, object]:
    """Return the keys of a `RepeatEntry`; the result is kept under the replay's key, and ``also``."""
    place: dict[str, object] = {"artifact": step.artifact.name, "target": step.target.name}
    name = key("again", replay=step.key, images=IMAGES, **also)
    if not work.store.has("again", name):
        n = min(-(-IMAGES // step.target.batch) * step.target.batch, len(first))
        try:
            with work.display.doing("again", f"{', '.join([step.what, *also.values()])}, {n} images"):
                second = _replay(work, step, board, n)
        except UserError as error:
            return place | {"error": str(error)}
        equal = int((second == first[:n]).all(axis=1).sum())
        with work.store.writing("again", name) as folder:
            write_json(folder / "again.json", {"images": n, "equal": equal})
    counts = read_json(work.store.path("again", name) / "again.json")
    return place | {"images": counts["images"], "equal": counts["equal"]}


def _replay(work: stages.Work, step: ReplayStep, board: Target, n: int) -> NDArray[np.float32]:
    """Return the logits of the first images; a replay that fails is a `UserError`."""
    described, folder = stages.artifact(work, step.artifact)
    pixels = np.array(stages.images(work, step.case.data, step.case.split).pixels[:n])
    with tempfile.TemporaryDirectory(dir=work.store.scratch) as out:
        bundle = write_bundle(Path(out) / "bundle", described, folder / described.file, pixels, {"none": None})
        prepare(board)
        outcome = replay(board, bundle.root, Path(out))
        if outcome.errors:
            raise UserError(outcome.errors["none"])
        return read_answers(outcome.files["none"], (len(pixels), None))["logits"]
