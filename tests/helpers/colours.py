"""A network whose best patch is known, and problems on it."""

import numpy as np
import torch
from torch import nn

from patches.problem import Problem
from patches.surrogates import build


class Colours(nn.Module):
    """Logits are ten times the mean of red, green and blue: the best patch for a class is known, its pure colour."""

    def __init__(self, weights: tuple[float, float, float] = (1, 1, 1)) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, x):
        return 10 * x.mean((2, 3)) * self.weights


def pixels(n=20, size=(12, 10), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), np.uint8)


def problem(surrogate=None, target_class=0, **more):
    return Problem(
        build("float", surrogate or Colours()), pixels(), np.arange(20) % 3, target_class, **{"px": 4} | more
    )
