"""Patches: where they lie, what makes them, against which surrogate. Importing this imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from patches.attacks import COMMON_OPTIONS, check_per_image, load, options
from patches.attacks.controls import control
from patches.patch import Patch

if TYPE_CHECKING:
    from torch import Tensor

    from patches.problem import Problem

__all__ = ["control", "craft"]


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
    """The patch that an attack makes of a problem, with `given` options over its defaults, rounded to uint8.

    Leaves images of the target class out, unless each image gets a patch of its own: then `images` are their ids. With
    `best` the place is the attack's to choose, by `patches.best_place`, or as it searches: an attack that asks a device
    gives the places with its patches, and gets all images at once. Seeds torch, checks and clips what comes back.
    ``checks`` holds the loss curve, the mean share of exactly zero gradients, seconds, steps (of a patch; with a patch
    for each image each takes so many), queries, images and options; the attack judges nothing. On a CPU, the same seed
    on the same machine with the same threads gives the same bytes. Errors are `UserError`: an unknown attack or option,
    a patch that doesn't fit, no image left, a loss or gradient that is no number.
    """
    import torch

    from patches.acceleration import accelerate
    from patches.problem import loss_curve, merge_logs
    from patches.surrogates.device import Device

    function, filled = load(attack), options(attack, given or {})
    check_per_image(attack, problem.per_image)
    asks = isinstance(problem.surrogate, Device)
    if any(filled.get(option) for option in COMMON_OPTIONS):
        fast = accelerate(problem.surrogate, bfloat16=filled["bfloat16"], compiled=filled["compile"])
        problem = replace(problem, surrogate=fast)
    problem = _prepared(problem, filled)
    if best and asks and not problem.per_image:
        raise UserError(
            f"attack {attack!r} looks for places with a patch for each image: give its [[attack]] per_image = true, "
            "or another placement than best"
        )
    started = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(problem.seed)
        if best and not asks:
            from patches.best_place import best_place

            problem = replace(problem, corners=best_place(problem))
        batch = len(problem.pixels) if asks else max(1, int(filled.get("batch", 64)))
        parts = list(problem.parts(batch)) if problem.per_image else [problem]
        own = {key: value for key, value in filled.items() if key not in COMMON_OPTIONS}
        found = [function(part, **own) for part in parts]
    if best and asks:
        found, corners = [found[0][0]], found[0][1]
        problem = replace(problem, corners=corners)
    made = [_rounded(patch, part, attack) for patch, part in zip(found, parts, strict=True)]
    seconds = time.perf_counter() - started
    log = merge_logs([part.log for part in parts])
    shares = [step.zero_gradient_share for step in log if step.zero_gradient_share is not None]
    return Patch(
        name=name or f"{attack}-{problem.target_class}-s{problem.seed}-{problem.px}px",
        pixels=np.concatenate(made) if problem.per_image else made[0][0],
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


def _cost(problem: Problem, steps: int) -> dict[str, Any]:
    """Gradient steps and queries, which are stated apart; of a device that was asked, what it is and how often."""
    from patches.surrogates.device import Device

    asked = problem.surrogate
    if isinstance(asked, Device):
        return {"steps": 0, "queries": asked.queries, "asked": {**asked.about, "calls": asked.calls}}
    return {"steps": steps, "queries": None}


def _prepared(problem: Problem, filled: Mapping[str, Any]) -> Problem:
    """The problem on its device, with a log of its own, without the images of the target class."""
    import torch

    from patches.surrogates.device import Device

    if not 1 <= problem.px <= min(problem.image_size):
        raise UserError(f"patch size: expected 1 to {min(problem.image_size)} pixels, got {problem.px}")
    images = np.arange(len(problem.pixels))
    if not problem.per_image:
        images = np.flatnonzero(problem.labels != (-1 if problem.target_class is None else problem.target_class))
        if not len(images):
            raise UserError(
                f"no image to craft on is left of {len(problem.labels)} without those of class {problem.target_class}"
            )
        problem = replace(problem, pixels=problem.pixels[images], labels=problem.labels[images])
    if isinstance(problem.surrogate, Device):
        asked = problem.surrogate.over(images, filled.get("queries"))
        return replace(problem, surrogate=asked, log=[])
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


def _rounded(made: Tensor, problem: Problem, attack: str) -> Pixels:
    """Clipped, rounded half to even, black outside the mask: uint8 ``(1 or n, p, p, 3)``."""
    import torch

    one = (3, problem.px, problem.px)
    each = (len(problem.pixels) if problem.per_image else 1, *one)
    if not (made.shape == each or (made.shape == one and not problem.per_image)) or not bool(made.isfinite().all()):
        wanted = each if problem.per_image else one
        raise UserError(f"attack {attack!r}: expected a finite {wanted}, got {tuple(made.shape)}")
    levels = (made.detach().reshape(each).clamp(0, 1) * 255).round() * problem.mask
    return levels.permute(0, 2, 3, 1).to(torch.uint8).contiguous().cpu().numpy()
