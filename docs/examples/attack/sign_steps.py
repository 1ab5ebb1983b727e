"""A universal patch by plain sign steps: the smallest attack that works."""

from __future__ import annotations

import torch
from torch import Tensor

from patches.objectives import objective
from patches.paste import paste
from patches.problem import Problem


def craft(problem: Problem, *, steps: int = 100, step_size: float = 0.02, batch: int = 64) -> Tensor:
    """Return a patch ``(1, 3, p, p)`` in [0, 1]; the keyword arguments are a suite's ``options``."""
    random = problem.generator()
    patch = problem.start(random)
    minimised = objective(problem.target_class)
    for images, labels in problem.batches(steps, batch, random):
        corners = problem.places(len(images), random)
        loss = minimised(problem.surrogate(paste(images, patch, problem.mask, corners)), labels)
        (gradient,) = torch.autograd.grad(loss, patch)
        problem.log_step(loss, gradient)  # logs the loss, and refuses one that is infinite or NaN
        patch = (patch.detach() - step_size * gradient.sign()).clamp(0, 1).requires_grad_()
    return patch.detach()
