"""GAP: one patch for all images, by gradient descent over random places (Brown et al. 2017, "Adversarial Patch")."""

from __future__ import annotations

import torch
from torch import Tensor

from patches import posing
from patches.disguise import disguised
from patches.objectives import objective
from patches.paste import paste
from patches.patch import Pose
from patches.poses import side
from patches.printable import non_printability, palette, total_variation
from patches.problem import Problem


def craft(
    problem: Problem,
    *,
    steps: int = 300,
    learning_rate: float = 0.05,
    batch: int = 64,
    rotation: float = 0.0,
    scale: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    disguise: str = "",
    within: float = 0.3,
    smooth: float = 0.0,
    printable: float = 0.0,
) -> Tensor:
    """A patch ``(1 or n, 3, p, p)`` in [0, 1], by Adam with every step clipped to [0, 1].

    Each step takes a fresh batch of images, each image a fresh random place: the expectation over images and locations
    of section 2 of the paper; over poses too, uniform to so many degrees and shares either way (`patches.poses`), none
    unless given. `disguise` is ``grey`` or a picture under --data: every value of the patch stays `within` so much of
    it, the paper's bound. `smooth` and `printable` are weights of the terms of `patches.printable`.
    """
    random, pose = problem.generator(), Pose(rotation, scale, brightness, contrast)
    patch = problem.start(random)
    low, high = disguised(disguise, within, problem)
    patch.data = patch.data.clamp(low, high)
    optimizer = torch.optim.Adam([patch], learning_rate)
    minimised, canvas = objective(problem.target_class), side(problem.px, pose)
    colours = palette().to(problem.device)
    for images, labels in problem.batches(steps, batch, random):
        corners, stamps, covers = problem.places(len(images), random, canvas), patch, problem.mask
        if any(pose):
            stamps, covers = posing.posed(patch, problem.mask, posing.draw(pose, len(images), random), canvas)
        loss = minimised(problem.surrogate(paste(images, stamps, covers, corners)), labels)
        if smooth:
            loss = loss + smooth * total_variation(patch, problem.mask)
        if printable:
            loss = loss + printable * non_printability(patch, problem.mask, colours)
        (patch.grad,) = torch.autograd.grad(loss, patch)
        problem.step(loss, patch.grad)
        optimizer.step()
        patch.data = patch.data.clamp(low, high)
    return patch.detach()
