"""A probe: the first clean evaluation images, replayed by themselves on a target, before anything else of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends.answers import read_answers
from backends.device.artifact import Artifact, Pixels
from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.device.reading import read_json
from backends.events import CaseFailed, Event, Loaded
from backends.hosts import Target, machine_facts, prepare, replay
from harness.plan.steps import ArtifactStep, decided
from harness.results.agreement import Floats
from harness.results.entries import TargetEntry
from harness.run import stages
from harness.run.asking import Ran
from harness.run.fleets import one_board
from harness.run.target_facts import target_entry
from harness.store import key, write_json

IMAGES = 32
Hear = Callable[[], None]  # called at each event of the device; what it raises ends the device


class Probe(NamedTuple):
    """Logits ``(n, outputs)`` of a file, and what the target said was in force."""

    logits: Floats
    target: TargetEntry


def probe(work: stages.Work, artifact: ArtifactStep, target: Target, hear: Hear = lambda: None) -> Probe:
    """Return a file's answers to the first images in whole batches, kept in the store; a failure is a `UserError`."""
    data = artifact.victim.data
    name = key("probe", artifact=artifact.key, data=data.key, images=IMAGES, by=decided(target))
    folder = work.store.path("probe", name)
    if work.store.has("probe", name):
        work.store.offer("probe", name)  # a cluster's worker that made it shares nothing itself
    else:
        described, at = stages.artifact(work, artifact)
        n = -(-IMAGES // target.batch) * target.batch
        pixels = np.array(stages.images(work, data, "evaluate").pixels[:n])
        with work.display.doing("check", f"{artifact.name} on {target.name}, {len(pixels)} images"):
            logits, said = replayed(one_board(target), described, at / described.file, pixels, work.store.scratch, hear)
        with work.store.writing("probe", name) as beside:
            np.savez(beside / "answers.npz", logits=logits)
            write_json(beside / "ran.json", {**said})
    ran = read_json(folder / "ran.json")
    logits = read_answers(folder / "answers.npz", (None, None))["logits"]
    return Probe(logits, target_entry(target, ran["info"], ran["machine"]))


def replayed(
    target: Target, artifact: Artifact, file: Path, pixels: Pixels, scratch: Path, hear: Hear
) -> tuple[Floats, Ran]:
    """Return the logits of clean images, and what was in force; a failure is a `UserError`."""
    ran: Ran = {"info": {}, "machine": {}}

    def take(event: Event | CaseFailed) -> None:
        hear()
        if isinstance(event, Loaded):
            ran["info"], ran["machine"] = event.info, machine_facts(target, event)

    with tempfile.TemporaryDirectory(dir=scratch) as out:
        bundle = write_bundle(Path(out) / "bundle", artifact, file, pixels, {"none": None})
        prepare(target)
        outcome = replay(target, bundle.root, Path(out), on_event=take)
        if outcome.errors:
            raise UserError(outcome.errors["none"])
        return read_answers(outcome.files["none"], (len(pixels), None))["logits"], ran
