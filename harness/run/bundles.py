"""Bundles: the directories that devices get, kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from backends.device.bundle import Stamps, write_bundle
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.run.stages import Work, artifact, images, images_file
from harness.store import key


def pack(
    work: Work,
    step: ArtifactStep,
    cases: Sequence[Case],
    stamps: Callable[[Case, Sequence[str]], Stamps | None],
) -> Path:
    """Pack an artifact and cases of one split into a bundle; ``stamps(case, ids)`` says what a case pastes on images.

    A case without stamps is replayed clean. The bundle is written once and kept.
    """
    data, split = cases[0].data, cases[0].split
    name = key_of(step, cases)
    if not work.store.has("bundle", name):
        described, folder = artifact(work, step)
        ids = images(work, data, split).ids
        stacks = {case.name: stamps(case, ids) for case in cases}
        what = f"{step.name}, {len(cases)} cases of {len(ids)} images"
        with work.display.doing("bundle", what), work.store.writing("bundle", name) as beside:
            pixels = images_file(work, data, split)
            defended = {case.name: case.defence for case in cases if case.defence}
            write_bundle(beside, described, folder / described.file, pixels, stacks, defended)
    return work.store.path("bundle", name)


def key_of(step: ArtifactStep, cases: Sequence[Case]) -> str:
    """Return the key of a bundle."""
    return key("bundle", artifact=step.key, cases=sorted(case.key for case in cases))
