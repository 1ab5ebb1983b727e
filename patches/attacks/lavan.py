"""LaVAN: localized visible noise (Karmon et al. 2018): the target class's logit up, the source's down."""

from __future__ import annotations

import torch
from torch import Tensor

from patches.objectives import label_margins
from patches.paste import paste
from patches.problem import Problem


def craft(problem: Problem, *, steps: int = 300, learning_rate: float = 0.05, batch: int = 64) -> Tensor:
    """Optimise a patch ``(1 or n, 3, p, p)`` in [0, 1], universal or per image, at a known place or anywhere.

    The loss is that of section 3 of the paper, over logits. The paper takes plain gradient steps, whose size depends on
    the network's logits; Adam replaces them, so that one learning rate suits every network.

    Args:
        problem: What to attack.
        steps: Gradient steps.
        learning_rate: Adam's, for pixels in [0, 1].
        batch: Images per step.
    """
    random = problem.generator()
    patch = problem.start(random)
    optimizer = torch.optim.Adam([patch], learning_rate)
    loss_of = label_margins(problem.target_class)
    for images, labels in problem.batches(steps, batch, random):
        corners = problem.places(len(images), random)
        loss = loss_of(problem.surrogate(paste(images, patch, problem.mask, corners)), labels).mean()
        (patch.grad,) = torch.autograd.grad(loss, patch)
        problem.log_step(loss, patch.grad)
        optimizer.step()
        patch.data.clamp_(0, 1)
    return patch.detach()
