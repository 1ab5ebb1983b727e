"""Twin check: before patches are made on a twin, hold it against the runtime whose kernels it follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from backends.device import machine
from backends.device.errors import UserError
from backends.device.reading import read_json
from exporters.files import describe
from harness.plan.steps import PatchStep, SurrogateStep
from harness.results.integer_checks import SATURATION, saturates_on
from harness.results.measured import TwinEntry
from harness.run import crafting, stages
from harness.run.arithmetic import compare_in_batches, first_difference
from harness.run.trial import require_survived
from harness.store import key, write_json

if TYPE_CHECKING:
    from patches.twins import Twin

IMAGES = 8
BATCHES = (1, IMAGES, 5)  # a twin that takes an image's axis for the batch is wrong in one of them


def require_equal(work: stages.Work, twin: SurrogateStep | None = None) -> None:
    """Check every twin that patches are made on, or one; fewer equal integers than wanted are a `UserError`."""
    for entry in twins(work, twin):
        if entry.equal < entry.wanted:
            share = "none" if not entry.equal else f"{entry.equal:.1%}"
            where = f", from operator {entry.differs_from} on" if entry.differs_from else ""
            raise UserError(
                f"{entry.artifact}: the twin computes {share} of the integers of {entry.kernels} on {entry.images} "
                f"images{where}, and twin_equal wants {entry.wanted:.1%}; a patch made on it would say nothing about "
                f"the file. {entry.cause}Make it on another surrogate, or set the attack's twin_equal to what you "
                "accept"
            )


def twins(work: stages.Work, only: SurrogateStep | None = None) -> Iterator[TwinEntry]:
    """Yield each twin that a patch of the plan is made on, or one, and in how much it equals its runtime; kept."""
    made: dict[tuple[str, str], list[tuple[PatchStep, SurrogateStep]]] = {}
    for patch in work.plan.patches:
        steps = [step for step in _of(patch) if not only or _name(step) == _name(only)]
        if steps and not crafting.is_baseline(work, patch):
            for step in steps:
                made.setdefault(_name(step), []).append((patch, step))
    for several in made.values():
        patches = tuple(patch.name for patch, _ in several)
        wanted = max(patch.twin_equal for patch, _ in several)
        yield _entry(work, several[0][1]).model_copy(update={"patches": patches, "wanted": wanted})


def _of(patch: PatchStep) -> Iterator[SurrogateStep]:
    """Yield the twins that a patch is made on, unless a baseline's takes its place."""
    if patch.surrogate:
        for step in patch.surrogate.members or (patch.surrogate,):
            if step.kind == "twin":
                yield step


def _name(twin: SurrogateStep) -> tuple[str, str]:
    return twin.made_of, twin.words.variant


def _entry(work: stages.Work, step: SurrogateStep) -> TwinEntry:
    assert step.artifact is not None
    name = key("twin", artifact=step.artifact.key, kernels=step.words.variant, images=IMAGES)
    if not work.store.has("twin", name):
        with work.display.doing("check", f"twin of {step.artifact.name}"):
            entry = _compare(work, step)
        with work.store.writing("twin", name) as folder:
            write_json(folder / "twin.json", entry.plain())
    return TwinEntry.model_validate(read_json(work.store.path("twin", name) / "twin.json"))


def _compare(work: stages.Work, step: SurrogateStep) -> TwinEntry:
    from patches.surrogates.twin import surrogate

    assert step.artifact is not None
    described, folder = stages.artifact(work, step.artifact)
    require_survived(folder / described.file, (step.words.variant,))
    twin = surrogate(folder / f"{described.name}.json", step.words.variant)
    pixels = np.array(stages.images(work, step.victim.data, "craft").pixels[:IMAGES])
    found = compare_in_batches(twin, pixels, BATCHES)
    equal = min(one.equal for one in found)
    return TwinEntry(
        artifact=described.name,
        kernels=twin.kernels,
        images=len(pixels),
        batches=BATCHES,
        integers=sum(one.outputs for one in found),
        equal=equal,
        largest=max(one.largest for one in found),
        differs_from=first_difference(twin, pixels, BATCHES) if equal < 1 else "",
        cause=_cause(twin) if equal < 1 else "",
    )


def _cause(twin: Twin) -> str:
    """Say that this CPU saturates the sums of a twin's file, if it does."""
    here, signature = machine.describe(), describe(twin.path).signature
    mend = saturates_on(here.arch, (*here.features, *here.detected), twin.kernels, signature)
    return f"{SATURATION.format(signature.upper(), twin.kernels, mend)}. " if mend else ""
