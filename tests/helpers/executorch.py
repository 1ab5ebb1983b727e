"""ExecuTorch, which writes and runs ``.pte`` files, and a network of what it takes."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.runtimes import engine, prepare
from harness.networks.victims import Normalised
from helpers import small_networks as small
from helpers.required import absent


def require() -> None:
    """Leave a test out where the package is missing."""
    if not find_spec("executorch"):
        absent("executorch", "not installed: pip install --no-deps executorch==1.5.1 ruamel.yaml")


class Mixed(nn.Module):
    """ReLU6, depthwise convolution, parts joined, max pooling, a shortcut of every second pixel, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1))
        self.last = nn.Conv2d(16, 12, 1)
        self.linear = nn.Linear(28, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = functional.relu(self.deep(x) + short)
        x = torch.cat([functional.relu(self.last(x)), x], 1)
        return self.linear(functional.max_pool2d(x, 2).mean((2, 3)))


def mixed() -> nn.Module:
    torch.manual_seed(0)
    return small.settled(Normalised(Mixed(), small.MEAN, small.STD), small.pixels(64))


def logits(file: Path, x: np.ndarray) -> np.ndarray:
    """What ExecuTorch makes of pixels."""
    runtime = engine("executorch")()
    runtime.load(file, {}, 1)
    return runtime.run(prepare(runtime.input, small.as_input(x).numpy(), file))
