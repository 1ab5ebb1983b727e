"""Patches: where they lie, what makes them, against which surrogate. Importing this imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.schema import Patch, Pixels, UserError
from patches.attacks import OF_ALL, find, options
from patches.attacks.controls import control

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
    `best` the place is the attack's to choose, by `patches.best_place`. Seeds torch, checks and clips what comes back.
    ``checks`` holds the loss curve, the mean share of exactly zero gradients, seconds, steps (of a patch; with a patch
    for each image each takes so many), queries, images and options; the attack judges nothing. On a CPU, the same seed
    on the same machine with the same threads gives the same bytes. Errors are `UserError`: an unknown attack or option,
    a patch that doesn't fit, no image left, a loss or gradient that is no number.
    """
    import torch

    from patches.faster import faster
    from patches.problem import combined, curve

    function, filled = find(attack), options(attack, given or {})
    problem = replace(
        problem, surrogate=faster(problem.surrogate, bfloat16=filled["bfloat16"], compiled=filled["compile"])
    )
    problem = _prepared(problem)
    started = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(problem.seed)
        if best:
            from patches.best_place import best_place

            problem = replace(problem, corners=best_place(problem))
        parts = list(problem.parts(max(1, int(filled.get("batch", 64))))) if problem.per_image else [problem]
        own = {key: value for key, value in filled.items() if key not in OF_ALL}
        made = [_rounded(function(part, **own), part, attack) for part in parts]
    seconds = time.perf_counter() - started
    log = combined([part.steps for part in parts])
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
            "loss": curve(log),
            "zero_gradient_share": float(np.mean([step.zero_gradient_share for step in log])) if log else None,
            "seconds": seconds,
            "steps": len(log),
            "queries": None,
            "images": len(problem.pixels),
            "options": filled,
            "device": problem.device,
            "threads": torch.get_num_threads(),
        },
    )


def _prepared(problem: Problem) -> Problem:
    """The problem on its device, with a log of its own, without the images of the target class."""
    import torch

    if not 1 <= problem.px <= min(problem.image_size):
        raise UserError(f"patch size: expected 1 to {min(problem.image_size)} pixels, got {problem.px}")
    if not problem.per_image:
        keep = problem.labels != (-1 if problem.target_class is None else problem.target_class)
        if not keep.any():
            raise UserError(
                f"no image to craft on is left of {len(keep)} without those of class {problem.target_class}"
            )
        problem = replace(problem, pixels=problem.pixels[keep], labels=problem.labels[keep])
    surrogate = problem.surrogate.to(problem.device)
    problem = replace(problem, surrogate=surrogate, steps=[])
    with torch.no_grad():
        logits = surrogate(problem.images(torch.arange(1))[0])
    if logits.ndim != 2 or not 0 <= (problem.target_class or 0) < logits.shape[1]:
        raise UserError(
            f"target class {problem.target_class}: expected one of the surrogate's outputs (n, classes), "
            f"which are {tuple(logits.shape)}"
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
