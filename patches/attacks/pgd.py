"""PGD: a patch for each image, by sign steps with momentum, restarted (Madry et al. 2018; Dong et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from patches.objectives import cross_entropies
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
    """Optimise one patch per image, ``(n, 3, p, p)`` in [0, 1], and keep each image's best over all restarts.

    A step moves by `step_size` against the sign of the accumulated gradient; each new gradient is first divided by its
    L1 norm (Dong et al. 2018, equations 6 and 7). The only bound is [0, 1]. A restart begins at fresh noise. The last
    patches of a restart are evaluated too, so it takes ``steps + 1`` passes.

    Args:
        problem: What to attack.
        steps: Gradient steps per restart.
        step_size: Length of a step, for pixels in [0, 1].
        momentum: Share of the accumulated gradient that each step keeps.
        restarts: Independent starts from noise.
        batch: Images per pass.
    """
    random = problem.generator()
    loss_of = cross_entropies(problem.target_class)
    corners = problem.places(len(problem.pixels), random)
    best = torch.zeros(len(problem.pixels), 3, problem.px, problem.px, device=problem.device)
    lowest = torch.full((len(best),), torch.inf, device=problem.device)

    def evaluate(patch: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        losses = loss_of(problem.surrogate(paste(images, patch, problem.mask, corners)), labels)
        better = losses.detach() < lowest
        lowest[better] = losses.detach()[better]
        best[better] = patch.detach()[better]
        return losses

    for _ in range(restarts):
        patch = problem.start(random)
        velocity = torch.zeros_like(patch)
        for images, labels in problem.batches(steps, batch, random):
            losses = evaluate(patch, images, labels)
            (gradient,) = torch.autograd.grad(losses.sum(), patch)
            problem.log_step(losses.mean(), gradient)
            velocity = momentum * velocity + gradient / gradient.abs().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
            patch = (patch.detach() - step_size * velocity.sign()).clamp(0, 1).requires_grad_()
        with torch.no_grad():
            evaluate(patch, *problem.images(torch.arange(len(best))))
    return best
