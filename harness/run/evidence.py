"""What the self-checks need and only the store can tell: pixels as crafted and as replayed, and kinds of outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from backends.device.bundle import paste
from backends.device.defences import defend
from harness.data.splits import SPLITS
from harness.plan.cells import Case
from harness.plan.steps import TORCH
from harness.run import crafting, replays, stages

PASTED_AT_ONCE = 64
HASHES = ("pixels_sha256", "defended_sha256")  # of a stack as it was pasted, and after a defence


def cases(work: stages.Work) -> list[dict[str, Any]]:
    """For each stack of images: the hash of its pixels as crafted here, and the places that say they saw others.

    The patch is read from the store, laid and hashed anew; what the device pasted is what it told of itself.
    """
    found: dict[str, dict[str, Any]] = {}
    for step in work.plan.replays:
        case, file = step.case, work.store.path("replay", step.key) / "ran.json"
        if case.key not in found:
            found[case.key] = {
                "size": case.data.size, "split": case.split,
                "patch": case.patch.name if case.patch else "",
                "patch_px": case.px, "placement": case.place, "placement_seed": case.placement_seed,
                "defence": case.defence, **_crafted(work, case), "others": [],
            }  # fmt: skip
        if step.target.name != TORCH and file.is_file():
            ran = json.loads(file.read_text())
            told = {name: ran.get(name, "") for name in HASHES}
            if told != {name: found[case.key][name] for name in HASHES}:
                where = {"artifact": step.artifact.name, "target": step.target.name}
                found[case.key]["others"].append(where | told)
    return list(found.values())


def _crafted(work: stages.Work, case: Case) -> dict[str, str]:
    """The hashes of a case's pixels, pasted and defended."""
    seen, pasted, defended = stages.images(work, case.data, case.split), hashlib.sha256(), hashlib.sha256()
    lying = crafting.stamps(work, case, seen.ids)
    for i in range(0, len(seen.pixels), PASTED_AT_ONCE):
        part = slice(i, i + PASTED_AT_ONCE)
        pixels = np.array(seen.pixels[part])
        if lying is not None:
            stamp = lying.stamps if len(lying.stamps) == 1 else lying.stamps[part]
            mask = lying.mask if len(lying.mask) == 1 else lying.mask[part]
            pixels = paste(pixels, stamp, mask, lying.corners[part])
        pasted.update(pixels.tobytes())
        if case.defence:
            defended.update(defend(case.defence, pixels).tobytes())
    return dict(zip(HASHES, (pasted.hexdigest(), defended.hexdigest() if case.defence else ""), strict=True))


def outputs(work: stages.Work) -> Iterator[dict[str, Any]]:
    """For each artifact on a target the kind of outputs that it declares, and what they are like on clean images."""
    for step in work.plan.replays:
        answer = replays.answers(work, step)
        if step.case.name == "none" and step.case.split == "evaluate" and answer.logits is not None:
            declared = "logits" if step.target.name == TORCH else stages.artifact(work, step.artifact)[0].output_kind
            yield {
                "artifact": step.artifact.name, "target": step.target.name, "declared": declared,
                "classes": answer.logits.shape[1],
                "least": float(answer.logits.min()), "most": float(answer.logits.max()),
                "furthest_sum_from_one": float(np.abs(answer.logits.sum(axis=1, dtype=np.float64) - 1).max()),
            }  # fmt: skip


def copies(work: stages.Work) -> int:
    """How many evaluation images have the very pixels of one that calibrated, crafted or selected."""
    data = work.plan.data[0]
    known = {split: {image.tobytes() for image in stages.images(work, data, split).pixels} for split in SPLITS}
    others = set().union(*(known[split] for split in SPLITS if split != "evaluate"))
    return sum(image.tobytes() in others for image in stages.images(work, data, "evaluate").pixels)
