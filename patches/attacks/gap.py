"""GAP: one patch for all images, by gradient descent over random places (Brown et al. 2017, "Adversarial Patch")."""

from __future__ import annotations

import torch
from torch import Tensor

from patches.disguise import value_bounds
from patches.objectives import objective
from patches.paste import draw_poses, paste, pose_patch
from patches.patch import Pose
from patches.poses import canvas_side
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
    """Optimise a patch ``(1 or n, 3, p, p)`` in [0, 1] with Adam, clipping it to [0, 1] after every step.

    Each step draws a fresh batch of images and, for each image, a fresh random place: the expectation over images and
    locations of section 2 of the paper. If asked, it also draws a pose, uniformly (`patches.poses`).

    Args:
        problem: What to attack.
        steps: Gradient steps.
        learning_rate: Adam's, for pixels in [0, 1].
        batch: Images per step.
        rotation: Rotate each stamp by up to this many degrees either way.
        scale: Scale it by up to this share of its size either way.
        brightness: Shift its brightness by up to this share of white either way.
        contrast: Change its contrast by up to this share either way.
        disguise: Stay close to ``"grey"`` or to a picture under ``--data``; empty for no constraint.
        within: How far each value may differ from the disguise, as a share of white.
        smooth: Weight of total variation in the loss.
        printable: Weight of the distance to printable colours in the loss.
    """
    random = problem.generator()
    pose = Pose(rotation, scale, brightness, contrast)
    patch = problem.start(random)
    low, high = value_bounds(disguise, within, problem)
    patch.data = patch.data.clamp(low, high)
    optimizer = torch.optim.Adam([patch], learning_rate)
    loss_of = objective(problem.target_class)
    canvas = canvas_side(problem.px, pose)
    colours = palette().to(problem.device)
    for images, labels in problem.batches(steps, batch, random):
        corners = problem.places(len(images), random, canvas)
        stamps, masks = patch, problem.mask
        if any(pose):
            stamps, masks = pose_patch(patch, problem.mask, draw_poses(pose, len(images), random), canvas)
        loss = loss_of(problem.surrogate(paste(images, stamps, masks, corners)), labels)
        if smooth:
            loss = loss + smooth * total_variation(patch, problem.mask)
        if printable:
            loss = loss + printable * non_printability(patch, problem.mask, colours)
        (patch.grad,) = torch.autograd.grad(loss, patch)
        problem.log_step(loss, patch.grad)
        optimizer.step()
        patch.data = patch.data.clamp(low, high)
    return patch.detach()
