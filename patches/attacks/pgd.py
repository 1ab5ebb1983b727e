"""PGD: a patch for each image, by sign steps with momentum, restarted (Madry et al. 2018; Dong et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from patches.objectives import likelihoods
from patches.paste import paste
from patches.problem import Problem


def craft(
    problem: Problem,
    *,
    steps: int = 40,
    step_size: float = 0.05,
    momentum: float = 0.9,
    restarts: int = 1,
    batch: int = 64,
) -> Tensor:
    """Patches ``(n, 3, p, p)`` in [0, 1]: of all steps and restarts, each image's with the least loss.

    A step goes `step_size` against the sign of the gradient that momentum accumulates, each new one first divided by
    its L1 norm (Dong et al. 2018, equations 6 and 7); the only bound is [0, 1]. A restart begins at fresh noise. Each
    restart's last patches are looked at too, so that there are ``steps + 1`` passes, of which ``steps`` count as steps.
    """
    random, minimised = problem.generator(), likelihoods(problem.target_class)
    corners = problem.places(len(problem.pixels), random)
    best = torch.zeros(len(problem.pixels), 3, problem.px, problem.px, device=problem.device)
    least = torch.full((len(best),), torch.inf, device=problem.device)

    def look(patch: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        losses = minimised(problem.surrogate(paste(images, patch, problem.mask, corners)), labels)
        better = losses.detach() < least
        least[better], best[better] = losses.detach()[better], patch.detach()[better]
        return losses

    for _ in range(restarts):
        patch = problem.start(random)
        velocity = torch.zeros_like(patch)
        for images, labels in problem.batches(steps, batch, random):
            losses = look(patch, images, labels)
            (gradient,) = torch.autograd.grad(losses.sum(), patch)
            problem.step(losses.mean(), gradient)
            velocity = momentum * velocity + gradient / gradient.abs().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
            patch = (patch.detach() - step_size * velocity.sign()).clamp(0, 1).requires_grad_()
        with torch.no_grad():
            look(patch, *problem.images(torch.arange(len(best))))
    return best
