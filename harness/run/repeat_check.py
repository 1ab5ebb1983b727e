"""A few clean images replayed a second time, in a process of its own: are the answers the same to the last bit?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.hosts import prepare, replay
from harness.plan.cells import ReplayStep
from harness.plan.steps import TORCH
from harness.run import replays, stages
from harness.store import key, write_json

IMAGES = 32


def again(work: stages.Work) -> list[dict[str, Any]]:
    """For each artifact on each target: how many ``images`` were replayed twice and how many had ``equal`` logits.

    Where the second replay failed there is an ``error`` instead; where the first did, nothing. What was compared once
    is kept in the store.
    """
    return [found for step in _first_clean(work) if (found := _compare(work, step))]


def _first_clean(work: stages.Work) -> Iterator[ReplayStep]:
    for step in work.plan.replays:
        if step.case.name == "none" and step.case.split == "evaluate" and step.target.name != TORCH:
            yield step


def _compare(work: stages.Work, step: ReplayStep) -> dict[str, Any]:
    where = {"artifact": step.artifact.name, "target": step.target.name}
    first = replays.answers(work, step)
    if first.logits is None:
        return {}
    name = key("again", replay=step.key, images=IMAGES)
    if not work.store.has("again", name):
        n = min(-(-IMAGES // step.target.batch) * step.target.batch, len(first.logits))
        described, folder = stages.artifact(work, step.artifact)
        pixels = np.array(stages.images(work, step.case.data, step.case.split).pixels[:n])
        with (
            tempfile.TemporaryDirectory(dir=work.store.scratch) as out,
            work.display.doing("again", f"{step.artifact.name} on {step.target.name}, {n} images"),
        ):
            bundle = write_bundle(Path(out) / "bundle", described, folder / described.file, pixels, {"none": None})
            try:
                prepare(step.target)
            except UserError as error:
                return where | {"error": str(error)}
            outcome = replay(step.target, bundle.root, Path(out))
            if outcome.errors:
                return where | {"error": outcome.errors["none"]}
            with np.load(outcome.files["none"], allow_pickle=False) as arrays:
                equal = (arrays["logits"] == first.logits[:n]).all(axis=1)
            with work.store.writing("again", name) as beside:
                write_json(beside / "again.json", {"images": n, "equal": int(equal.sum())})
    found: dict[str, Any] = json.loads((work.store.path("again", name) / "again.json").read_text())
    return where | found
