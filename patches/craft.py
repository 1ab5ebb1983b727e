"""Craft a patch: run an attack on a problem and return its patch in uint8. Importing this imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from patches.attacks import COMMON_OPTIONS, Options, check_best, check_per_image, load, options
from patches.patch import Patch

if TYPE_CHECKING:
    from torch import Tensor

    from patches.problem import Problem


def craft(
    attack: str,
    problem: Problem,
    given: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    surrogate: str = "float",
    images: tuple[str, ...] = (),
    best: bool = False,
) -> Patch:
    """Craft a patch with an attack, whose defaults the options `given` override, and round it to uint8.

    Images of the target class are left out of a universal patch; per-image patches keep all, whose ids are `images`.
    With `best` the attack's place is that of `patches.best_place`, or, of an attack that queries a device, the one it
    finds. Torch is seeded here; the attack judges nothing. ``checks`` holds the loss curve, the mean share of exactly
    zero gradients, seconds, steps (per patch), queries, images and options. On a CPU, the same seed, machine and
    threads give the same bytes. An unknown attack or option, a patch that does not fit, no images, and an infinite or
    NaN loss or gradient are a `UserError`.
    """
    import torch

    from patches.problem import loss_curve, merge_logs

    filled = options(attack, given or {})
    check_per_image(attack, problem.per_image)
    problem = _prepared(attack, problem, filled, best)
    started = time.perf_counter()
    problem, parts, pixels = _run(attack, problem, filled, best)
    seconds = time.perf_counter() - started
    log = merge_logs([part.log for part in parts])
    shares = [entry.zero_gradient_share for entry in log if entry.zero_gradient_share is not None]
    return Patch(
        name=name or f"{attack}-{problem.target_class}-s{problem.seed}-{problem.px}px",
        pixels=pixels if problem.per_image else pixels[0],
        mask=problem.mask[0].cpu().numpy(),
        attack=attack,
        surrogate=surrogate,
        target_class=problem.target_class,
        seed=problem.seed,
        shape=problem.shape,
        images=images if problem.per_image else (),
        corners=problem.corners if best else None,
        checks={
            "loss": loss_curve(log),
            "zero_gradient_share": float(np.mean(shares)) if shares else None,
            "seconds": seconds,
            **_cost(problem, len(log)),
            "images": len(problem.pixels),
            "options": filled,
            "device": problem.device,
            "threads": torch.get_num_threads(),
        },
    )


def _run(attack: str, problem: Problem, filled: Options, best: bool) -> tuple[Problem, list[Problem], Pixels]:
    """Return the problem with its places, its parts with their logs, and the pixels uint8 ``(1 or n, p, p, 3)``.

    Per-image patches are crafted batch by batch; an attack that queries a device gets all images at once.
    """
    import torch

    from patches.best_place import best_place
    from patches.surrogates.device import Device

    function = load(attack)
    own_options = {name: value for name, value in filled.items() if name not in COMMON_OPTIONS}
    queries_device = isinstance(problem.surrogate, Device)
    with torch.random.fork_rng():
        torch.manual_seed(problem.seed)
        if best and not queries_device:
            problem = replace(problem, corners=best_place(problem))
        batch = len(problem.pixels) if queries_device else max(1, int(filled.get("batch", 64)))
        parts = list(problem.parts(batch)) if problem.per_image else [problem]
        crafted = [function(part, **own_options) for part in parts]
    if best and queries_device:
        places: NDArray[np.int32]
        ((patches, places),) = crafted
        crafted = [patches]
        problem = replace(problem, corners=places)
    rounded = [_rounded(patch, part, attack) for patch, part in zip(crafted, parts, strict=True)]
    return problem, parts, np.concatenate(rounded)


def _cost(problem: Problem, steps: int) -> dict[str, Any]:
    """Return gradient steps or queries; with queries also which device answered and in how many calls."""
    from patches.surrogates.device import Device

    device = problem.surrogate
    if isinstance(device, Device):
        return {"steps": 0, "queries": device.queries, "asked": {**device.about, "calls": device.calls}}
    return {"steps": steps, "queries": None}


def _prepared(attack: str, problem: Problem, filled: Options, best: bool) -> Problem:
    """Check the problem; return it on its device with an empty log and without images of the target class."""
    import torch

    from patches.acceleration import accelerate
    from patches.surrogates.device import Device

    if any(filled.get(option) for option in COMMON_OPTIONS):
        fast = accelerate(problem.surrogate, bfloat16=filled["bfloat16"], compiled=filled["compile"])
        problem = replace(problem, surrogate=fast)
    if not 1 <= problem.px <= min(problem.image_size):
        raise UserError(f"patch size: expected 1 to {min(problem.image_size)} pixels, got {problem.px}")
    images = np.arange(len(problem.pixels))
    if not problem.per_image and problem.target_class is not None:
        images = np.flatnonzero(problem.labels != problem.target_class)
    if not len(images):
        raise UserError(f"no images to craft on: all {len(problem.labels)} are of class {problem.target_class}")
    if len(images) < len(problem.pixels):
        problem = replace(problem, pixels=problem.pixels[images], labels=problem.labels[images])
    if isinstance(problem.surrogate, Device):
        if best:
            check_best(attack, problem.per_image)
        return replace(problem, surrogate=problem.surrogate.over(images, filled.get("queries")), log=[])
    surrogate = problem.surrogate.to(problem.device)
    problem = replace(problem, surrogate=surrogate, log=[])
    with torch.no_grad():
        logits = surrogate(problem.images(torch.arange(1))[0])
    if logits.ndim != 2 or not 0 <= (problem.target_class or 0) < logits.shape[1]:
        raise UserError(
            f"target class {problem.target_class}: expected a class of the surrogate, 0 to {logits.shape[-1] - 1}; "
            f"its outputs are {tuple(logits.shape)}"
        )
    return problem


def _rounded(patch: Tensor, problem: Problem, attack: str) -> Pixels:
    """Clip a patch, round half to even and blacken it outside the mask: uint8 ``(1 or n, p, p, 3)``."""
    import torch

    one = (3, problem.px, problem.px)
    stack = (len(problem.pixels) if problem.per_image else 1, *one)
    allowed = [stack] if problem.per_image else [one, stack]
    if tuple(patch.shape) not in allowed or not bool(patch.isfinite().all()):
        raise UserError(f"attack {attack!r}: expected a finite {allowed[0]}, got {tuple(patch.shape)}")
    levels = (patch.detach().reshape(stack).clamp(0, 1) * 255).round() * problem.mask
    return levels.permute(0, 2, 3, 1).to(torch.uint8).contiguous().cpu().numpy()
