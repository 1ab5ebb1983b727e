"""Scale whole numbers and round them: in float32, in float64, in fixed point.

A scale is a number, or an array that broadcasts against the numbers, such as one per channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patches.twins.fixed_point import Factor, multiply

Floats = NDArray[np.floating[Any]] | np.floating[Any] | float


class Float32(nn.Module):
    """Scale in float32 and round half to even: XNNPACK and onnxruntime."""

    def __init__(self, scale: Floats) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float32."""
        return (x.to(torch.float32) * self.scale).round_()


class Float64(nn.Module):
    """Scale in float64 and round half away from zero, as C's ``round``."""

    def __init__(self, scale: Floats) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float64)))

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float64."""
        return half_away(x.to(torch.float64) * self.scale)


class Quotient(nn.Module):
    """Divide in float32 or float64 and round half away from zero: LiteRT's portable code that quantizes floats."""

    def __init__(self, scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(scale, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers of that dtype."""
        return half_away(x.to(self.scale.dtype) / self.scale)


class FixedPoint(nn.Module):
    """Scale in fixed point and round twice, half up, the second time half away from zero where `away` is 1."""

    def __init__(self, by: Factor, away: Tensor) -> None:
        super().__init__()
        self.multiplier: Tensor
        self.shift: Tensor
        self.away: Tensor | None
        self.register_buffer("multiplier", by.multiplier)
        self.register_buffer("shift", by.shift)
        self.register_buffer("away", away if bool(away.any()) else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, int64."""
        return multiply(x.to(torch.int64), Factor(self.multiplier, self.shift), self.away)


def half_away(real: Tensor) -> Tensor:
    """Round half away from zero, as C's ``round``."""
    whole = real.trunc()
    return whole + (real - whole).mul_(2).trunc_()
