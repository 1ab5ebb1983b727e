"""Evidence for the self-checks that only the store holds: pixels as crafted and as replayed, kinds of outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from backends.device.bundle import Hashes, hash_pixels, pasted
from backends.device.reading import read_json
from harness.data.splits import SPLITS
from harness.plan.cells import Case
from harness.plan.steps import TORCH
from harness.results.entries import CaseEntry, OtherPixels, OutputsEntry
from harness.run import crafting, replays, stages

PASTED_AT_ONCE = 64


def cases(work: stages.Work) -> list[CaseEntry]:
    """Return each stack of images with the hash of its pixels as crafted, and the places whose devices saw others.

    The patch is read from the store, pasted and hashed again; a device reports the hash of what it pasted.
    """
    cases = {step.case.key: step.case for step in work.plan.replays}
    crafted = {key: _crafted(work, case) for key, case in cases.items()}
    others: dict[str, list[OtherPixels]] = {key: [] for key in cases}
    for step in work.plan.replays:
        if step.target.name != TORCH and work.store.has("replay", step.key):
            ran = read_json(work.store.path("replay", step.key) / "ran.json")
            seen = Hashes(ran.get("pixels_sha256", ""), ran.get("defended_sha256", ""))
            if seen != crafted[step.case.key]:
                place = {"artifact": step.artifact.name, "target": step.target.name}
                hashes = {"pixels_sha256": seen.pixels, "defended_sha256": seen.defended}
                others[step.case.key].append(OtherPixels.model_validate(place | hashes))
    return [_entry(case, crafted[key], others[key]) for key, case in cases.items()]


def _entry(case: Case, crafted: Hashes, others: list[OtherPixels]) -> CaseEntry:
    return CaseEntry(
        size=case.data.size,
        split=case.split,
        patch=case.patch.name if case.patch else "",
        patch_px=case.px,
        placement=case.place,
        placement_seed=case.placement_seed,
        defence=case.defence,
        pixels_sha256=crafted.pixels,
        defended_sha256=crafted.defended,
        others=tuple(others),
    )


def _crafted(work: stages.Work, case: Case) -> Hashes:
    images = stages.images(work, case.data, case.split)
    stamps = crafting.stamps(work, case, images.ids)
    return hash_pixels(pasted(images.pixels, stamps, PASTED_AT_ONCE), case.defence)


def outputs(work: stages.Work) -> Iterator[OutputsEntry]:
    """Yield for each artifact on a target the declared kind of its outputs, and their range on clean images."""
    for step in work.plan.replays:
        answer = replays.answers(work, step)
        if step.case.name == "none" and step.case.split == "evaluate" and answer.logits is not None:
            declared = "logits" if step.target.name == TORCH else stages.artifact(work, step.artifact)[0].output_kind
            yield OutputsEntry(
                artifact=step.artifact.name,
                target=step.target.name,
                declared=declared,
                classes=answer.logits.shape[1],
                least=float(answer.logits.min()),
                most=float(answer.logits.max()),
                furthest_sum_from_one=float(np.abs(answer.logits.sum(axis=1, dtype=np.float64) - 1).max()),
            )


def copies(work: stages.Work) -> int:
    """Count the evaluation images with the same pixels as one used to calibrate, craft or select."""
    data = work.plan.data[0]
    known = {split: {image.tobytes() for image in stages.images(work, data, split).pixels} for split in SPLITS}
    others = set().union(*(known[split] for split in SPLITS if split != "evaluate"))
    return sum(image.tobytes() in others for image in stages.images(work, data, "evaluate").pixels)
