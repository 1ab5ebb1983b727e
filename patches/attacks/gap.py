"""GAP: one patch for all images, by gradient descent over random places (Brown et al. 2017, "Adversarial Patch")."""

from __future__ import annotations

import torch
from torch import Tensor

from patches.objectives import objective
from patches.paste import paste
from patches.problem import Problem


def craft(problem: Problem, *, steps: int = 300, learning_rate: float = 0.05, batch: int = 64) -> Tensor:
    """A patch ``(1 or n, 3, p, p)`` in [0, 1], by Adam with every step clipped to [0, 1].

    Each step takes a fresh batch of images, each image a fresh random place: the expectation over images and locations
    of section 2 of the paper.
    """
    random = problem.generator()
    patch = problem.start(random)
    optimizer = torch.optim.Adam([patch], learning_rate)
    minimised = objective(problem.target_class)
    for images, labels in problem.batches(steps, batch, random):
        corners = problem.places(len(images), random)
        loss = minimised(problem.surrogate(paste(images, patch, problem.mask, corners)), labels)
        (patch.grad,) = torch.autograd.grad(loss, patch)
        problem.step(loss, patch.grad)
        optimizer.step()
        patch.data.clamp_(0, 1)
    return patch.detach()
