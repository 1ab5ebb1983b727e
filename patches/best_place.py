"""Find the place where the gradient of a network's decision is largest under the patch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from patches.objectives import label_margins
from patches.problem import Problem

BATCH = 64


def best_place(problem: Problem) -> NDArray[np.int32]:
    """Return row and column, int32 ``(1, 2)``, or ``(n, 2)`` with a patch for each image.

    Each place scores the absolute gradient of LaVAN's margin (`patches.objectives.label_margins`) with respect to the
    clean image, summed over channels, covered pixels and, for a universal patch, images. The first of equal places,
    row by row, wins. Karmon et al. 2018 choose places by hand or at random; this is the first-order choice.
    """
    loss = label_margins(problem.target_class)
    kernel = problem.mask[:, None].float()
    found = []
    total: Tensor | None = None
    for part in problem.parts(BATCH):
        images, labels = part.images(torch.arange(len(part.pixels)))
        images.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(problem.surrogate(images), labels).sum(), images)
        sensitivity = conv2d(gradient.abs().sum(1, keepdim=True), kernel)[:, 0]
        total = sensitivity.sum(0, keepdim=True) + (0 if total is None else total)
        found.append(_largest(sensitivity))
    assert total is not None
    places = torch.cat(found) if problem.per_image else _largest(total)
    return places.cpu().numpy().astype(np.int32)


def _largest(scores: Tensor) -> Tensor:
    at = scores.flatten(1).argmax(1)
    return torch.stack([at // scores.shape[2], at % scores.shape[2]], dim=1)
