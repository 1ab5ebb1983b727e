"""Whole numbers times a real one, rounded: in float32, in float64, in fixed point.

A factor is a number, or an array that broadcasts against the numbers, such as one a channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patches.twins.fixed_point import Factor, times

Floats = NDArray[np.floating[Any]] | np.floating[Any] | float


class Float32(nn.Module):
    """In float32, rounded half to even: XNNPACK and onnxruntime."""

    def __init__(self, scale: Floats) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Whole numbers, float32."""
        return (x.to(torch.float32) * self.scale).round_()


class Float64(nn.Module):
    """In float64, rounded half away from zero, as C's ``round``."""

    def __init__(self, scale: Floats) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float64)))

    def forward(self, x: Tensor) -> Tensor:
        """Whole numbers, float64."""
        real = x.to(torch.float64) * self.scale
        whole = real.trunc()
        return whole + (real - whole).mul_(2).trunc_()


class Fixed(nn.Module):
    """In fixed point, rounded twice, half up and then half up or half away from zero (1 or 0 a factor in `away`)."""

    def __init__(self, by: Factor, away: Tensor) -> None:
        super().__init__()
        self.multiplier: Tensor
        self.shift: Tensor
        self.away: Tensor | None
        self.register_buffer("multiplier", by.multiplier)
        self.register_buffer("shift", by.shift)
        self.register_buffer("away", away if bool(away.any()) else None)

    def forward(self, x: Tensor) -> Tensor:
        """Whole numbers, int64."""
        return times(x.to(torch.int64), Factor(self.multiplier, self.shift), self.away)
