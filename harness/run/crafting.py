"""The stages of patches: craft or load them, place them on images, and bundle them with an artifact for a device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backends.device.bundle import Stamps
from harness.plan.cells import Case
from harness.plan.steps import TORCH, ArtifactStep, PatchStep, SurrogateStep
from harness.run import queries
from harness.run.bundles import pack
from harness.run.stages import Work, artifact, images, source, trained, victim
from harness.run.tasks import verb
from harness.store import Took, place
from patches.patch import Patch

if TYPE_CHECKING:
    from torch import nn


def patch(work: Work, step: PatchStep) -> Patch:
    """Return a crafted patch or a control, at the input size of the victim that it was crafted on."""
    folder = work.store.path("patch", step.key)
    if not work.store.has("patch", step.key):
        from PIL import Image

        took = None if step.frozen else Took(verb(step), step.name)  # to take a baseline's is no craft
        with work.display.doing(verb(step), step.name) as tick, work.store.writing("patch", step.key, took) as beside:
            made = (
                _given(work, step) if step.surrogate is None else _baseline_or_crafted(work, step, step.surrogate, tick)
            )
            made.save(beside / "patch.npz")
            Image.fromarray(_sheet(made), "RGBA").save(beside / "patch.png")
    return Patch.read(folder / "patch.npz")


def _sheet(made: Patch) -> np.ndarray:
    """Draw a patch, its mask as alpha; of a per-image patch the first sixteen, four by four."""
    several = made.pixels.reshape(-1, *made.pixels.shape[-3:])
    several = several[: 16 if len(several) >= 16 else 1]
    alpha = np.broadcast_to((made.mask * 255).astype(np.uint8)[..., None], (*several.shape[:3], 1))
    rows, px = round(len(several) ** 0.5), made.px
    grid = np.concatenate([several, alpha], axis=3).reshape(rows, rows, px, px, 4)
    return np.ascontiguousarray(grid.swapaxes(1, 2).reshape(rows * px, rows * px, 4))


def _baseline_or_crafted(
    work: Work, step: PatchStep, surrogate: SurrogateStep, tick: Callable[[int, int, str], None]
) -> Patch:
    return work.frozen[step.name] if is_baseline(work, step) else _craft(work, step, surrogate, tick)


def is_baseline(work: Work, step: PatchStep) -> bool:
    """Whether a baseline's patch takes a patch's place: the weights are those that it was crafted on."""
    return bool(step.frozen and step.surrogate and surrogate_sha256(work, step.surrogate) == step.frozen[1])


def surrogate_sha256(work: Work, step: SurrogateStep) -> str:
    """Hash the weights or the file that a surrogate is made of; of an ensemble, the hashes of its members.

    A network that is rounded without training has its victim's hash.
    """
    if step.members:
        hashes = [surrogate_sha256(work, member) for member in step.members]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()
    if step.artifact and step.artifact.format != TORCH:
        return artifact(work, step.artifact)[0].sha256
    if step.artifact and step.artifact.training:
        from harness.networks import quantization_aware_training as qat

        return qat.digest(trained(work, step.artifact.training))
    return victim(work, step.victim).sha256


def _given(work: Work, step: PatchStep) -> Patch:
    """Return a patch that is not crafted: a control, or one from a file."""
    from patches.attacks import IMPORTED
    from patches.attacks.controls import control, sticker
    from patches.attacks.imported import cutout, load_patch
    from patches.placement import resize_mask, with_mask

    if step.attack == IMPORTED:
        assert step.file
        return load_patch(
            step.file, name=step.name, target_class=step.target_class, px=step.px, image_size=step.data.size
        )
    shape = "square" if step.file else step.shape
    if step.attack == "sticker":
        seen = images(work, step.data, "craft")
        made: Patch | None = sticker(seen.pixels, seen.labels, step.target_class, step.px, shape, step.seed)
    else:
        made = control(step.attack, step.px, shape, step.seed)
    if made is None:
        raise ValueError(f"{step.attack} makes no patch")
    return with_mask(made, resize_mask(cutout(step.file).mask, step.px), step.shape) if step.file else made


def _craft(work: Work, step: PatchStep, made_on: SurrogateStep, tick: Callable[[int, int, str], None]) -> Patch:
    from patches.attacks import options
    from patches.craft import craft
    from patches.placement import corners
    from patches.problem import Problem

    seen = images(work, step.data, step.split)
    chosen = options(step.attack, step.options)
    steps = int(chosen.get("steps", 0)) * int(chosen.get("restarts", 1))
    anywhere = step.placement in ("", "best") or (step.placement == "random" and not step.per_image)
    known = None if anywhere else corners(step.placement, seen.ids, step.px, step.data.size, step.placement_seed)
    given = step.options | ({"disguise": str(step.file)} if step.file else {})
    with _surrogate(work, step, made_on) as surrogate:
        problem = Problem(
            surrogate=surrogate,
            pixels=np.array(seen.pixels), labels=np.array(seen.labels),
            target_class=step.target_class, px=step.px, shape=step.shape, seed=step.seed, device=work.device,
            per_image=step.per_image, corners=known if known is None or step.per_image else known[:1],
            progress=lambda done, loss: tick(done, steps, f"loss {loss:.2f}"),
        )  # fmt: skip
        return craft(
            step.attack, problem, given, name=step.name, surrogate=step.surrogate_for(),
            images=seen.ids if step.per_image else (), best=step.placement == "best",
        )  # fmt: skip


@contextmanager
def _surrogate(work: Work, step: PatchStep, made_on: SurrogateStep) -> Iterator[nn.Module]:
    """Open what a patch is crafted on: a network with gradients, or a session on a target."""
    from patches.differentiable_defences import defended
    from patches.surrogates import build

    if made_on.target:
        with queries.device(work, step, made_on) as device:
            yield device
        return
    if made_on.members:
        network = build(made_on.kind, [_build(work, member) for member in made_on.members])
    else:
        network = _build(work, made_on)
    defence = made_on.words.defence
    yield defended(defence, network) if defence else network


def _build(work: Work, step: SurrogateStep) -> nn.Module:
    """Build a surrogate from a network, from what a simulation needs, or from an artifact's description."""
    from patches.surrogates import build

    if step.artifact is None:
        return build(step.kind, work.network(step.victim), step.words.variant)
    if step.artifact.format == TORCH:
        return build(step.kind, source(work, step.artifact))
    described, folder = artifact(work, step.artifact)
    return build(step.kind, folder / f"{described.name}.json", step.words.variant)


def stamps(work: Work, case: Case, ids: Sequence[str]) -> Stamps | None:
    """Return what a case pastes on images with these ids; None for a clean case."""
    from patches import placement

    if case.patch is None:
        return None
    carried, at = (
        placement.resize_patch(patch(work, step), step.data.size, case.data.size, case.px)
        for step in (case.patch, case.at or case.patch)
    )
    return placement.stamps_for(carried, case.placement, ids, case.data.size, case.placement_seed, at, case.pose)


def bundle(work: Work, step: ArtifactStep, cases: Sequence[Case]) -> Path:
    """Pack an artifact and all cases of one split into the directory that a device gets."""
    return pack(work, step, cases, partial(stamps, work))


def place_patch(work: Work, step: PatchStep, into: Path) -> Path:
    """Copy a patch to where a user looks for it, as npz and as a picture; return the npz."""
    patch(work, step)
    for suffix in (".npz", ".png"):
        place(work.store.path("patch", step.key) / f"patch{suffix}", into / f"{step.name}{suffix}")
    return into / f"{step.name}.npz"
