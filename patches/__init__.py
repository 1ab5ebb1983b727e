"""Patches: where they lie, what makes them, against which surrogate. Importing this imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.schema import Patch, Pixels, UserError
from patches.attacks import find, options
from patches.attacks.controls import control

if TYPE_CHECKING:
    from torch import Tensor

    from patches.problem import Problem

__all__ = ["control", "craft"]


def craft(
    attack: str, problem: Problem, given: Mapping[str, Any] | None = None, *, name: str = "", surrogate: str = "float"
) -> Patch:
    """The patch that an attack makes of a problem, with `given` options over its defaults, rounded to uint8.

    Leaves images of the target class out, seeds torch, checks and clips what comes back. ``checks`` holds the loss
    curve, the mean share of exactly zero gradients, seconds, steps, images and options; the attack judges nothing.
    On a CPU, the same seed on the same machine with the same threads gives the same bytes. Errors are `UserError`:
    an unknown attack or option, a patch that doesn't fit, no image left, a loss or gradient that is no number.
    """
    import torch

    function, filled = find(attack), options(attack, given or {})
    problem = _prepared(problem, filled)
    started = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(problem.seed)
        made = function(problem, **filled)
    seconds = time.perf_counter() - started
    curve = problem.loss_curve()
    shares = [step.zero_gradient_share for step in problem.steps if step.zero_gradient_share is not None]
    return Patch(
        name=name or f"{attack}-{problem.target_class}-s{problem.seed}-{problem.px}px",
        pixels=_rounded(made, problem, attack),
        mask=problem.mask[0].cpu().numpy(),
        attack=attack,
        surrogate=surrogate,
        target_class=problem.target_class,
        seed=problem.seed,
        shape=problem.shape,
        checks={
            "loss": curve,
            "zero_gradient_share": float(np.mean(shares)) if shares else None,
            "seconds": seconds,
            **_cost(problem),
            "images": len(problem.pixels),
            "options": filled,
            "device": problem.device,
            "threads": torch.get_num_threads(),
        },
    )


def _cost(problem: Problem) -> dict[str, Any]:
    """Gradient steps and queries, which are stated apart; of a device that was asked, what it is and how often."""
    from patches.surrogates.device import Device

    steps, asked = len(problem.steps), problem.surrogate
    if isinstance(asked, Device):
        return {"steps": 0, "queries": asked.queries, "asked": {**asked.about, "calls": asked.calls}}
    return {"steps": steps, "queries": None}


def _prepared(problem: Problem, filled: Mapping[str, Any]) -> Problem:
    """The problem on its device, with a log of its own, without the images of the target class."""
    import torch

    from patches.surrogates.device import Device

    if not 1 <= problem.px <= min(problem.image_size):
        raise UserError(f"patch size: expected 1 to {min(problem.image_size)} pixels, got {problem.px}")
    keep = problem.labels != (-1 if problem.target_class is None else problem.target_class)
    if not keep.any():
        raise UserError(f"no image to craft on is left of {len(keep)} without those of class {problem.target_class}")
    surrogate = problem.surrogate
    surrogate = (
        surrogate.over(np.flatnonzero(keep), filled.get("queries"))
        if isinstance(surrogate, Device)
        else surrogate.to(problem.device)
    )
    problem = replace(problem, surrogate=surrogate, pixels=problem.pixels[keep], labels=problem.labels[keep], steps=[])
    if isinstance(surrogate, Device):
        return problem
    with torch.no_grad():
        logits = surrogate(problem.images(torch.arange(1))[0])
    if logits.ndim != 2 or not 0 <= (problem.target_class or 0) < logits.shape[1]:
        raise UserError(
            f"target class {problem.target_class}: expected one of the surrogate's outputs (n, classes), "
            f"which are {tuple(logits.shape)}"
        )
    return problem


def _rounded(made: Tensor, problem: Problem, attack: str) -> Pixels:
    """Clipped, rounded half to even, black outside the mask: uint8 ``(p, p, 3)``."""
    import torch

    if made.shape != (3, problem.px, problem.px) or not bool(torch.isfinite(made).all()):
        raise UserError(
            f"attack {attack!r}: expected a finite (3, {problem.px}, {problem.px}), got {tuple(made.shape)}"
        )
    levels = (made.detach().clamp(0, 1) * 255).round() * problem.mask
    return levels.permute(1, 2, 0).to(torch.uint8).contiguous().cpu().numpy()
