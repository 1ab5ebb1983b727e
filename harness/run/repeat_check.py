"""Repeat check: replay a few clean images a second time, in a new process, and compare the answers bit for bit."""

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
from backends.hosts import prepare, replay
from harness.plan.cells import ReplayStep
from harness.plan.steps import TORCH
from harness.results.measured import RepeatEntry
from harness.run import replays, stages
from harness.store import key, write_json

IMAGES = 32


def repeats(work: stages.Work) -> Iterator[RepeatEntry]:
    """Yield for each artifact on each target how many of the images that were replayed twice have equal logits.

    Where the second replay failed, the entry has its error; where the first did, there is none. Kept in the store.
    """
    for step in first_clean(work):
        first = replays.answers(work, step).logits
        if first is not None and not step.target.is_packed:
            yield _repeat(work, step, first)


def first_clean(work: stages.Work) -> Iterator[ReplayStep]:
    """Yield the replay of the clean, undefended evaluation images for each artifact and target."""
    for step in work.plan.replays:
        if step.case.name == "none" and step.case.split == "evaluate" and step.target.name != TORCH:
            yield step


def _repeat(work: stages.Work, step: ReplayStep, first: NDArray[np.float32]) -> RepeatEntry:
    artifact, target = step.artifact.name, step.target.name
    name = key("again", replay=step.key, images=IMAGES)
    if not work.store.has("again", name):
        n = min(-(-IMAGES // step.target.batch) * step.target.batch, len(first))
        try:
            with work.display.doing("again", f"{artifact} on {target}, {n} images"):
                second = _replay(work, step, n)
        except UserError as error:
            return RepeatEntry(artifact=artifact, target=target, error=str(error))
        equal = int((second == first[:n]).all(axis=1).sum())
        with work.store.writing("again", name) as folder:
            write_json(folder / "again.json", {"images": n, "equal": equal})
    counts = read_json(work.store.path("again", name) / "again.json")
    return RepeatEntry(artifact=artifact, target=target, images=counts["images"], equal=counts["equal"])


def _replay(work: stages.Work, step: ReplayStep, n: int) -> NDArray[np.float32]:
    """Return the logits of the first images; a replay that fails is a `UserError`."""
    described, folder = stages.artifact(work, step.artifact)
    pixels = np.array(stages.images(work, step.case.data, step.case.split).pixels[:n])
    with tempfile.TemporaryDirectory(dir=work.store.scratch) as out:
        bundle = write_bundle(Path(out) / "bundle", described, folder / described.file, pixels, {"none": None})
        prepare(step.target)
        outcome = replay(step.target, bundle.root, Path(out))
        if outcome.errors:
            raise UserError(outcome.errors["none"])
        return read_answers(outcome.files["none"], (len(pixels), None))["logits"]
