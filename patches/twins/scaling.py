"""Scale whole numbers and round them: in float32, in float64, in fixed point.

A scale is a number, or an array that broadcasts against the numbers, such as one per channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patches.twins.fixed_point import SMALL, Factor, multiply, multiply_small

BLOCK = 2**18  # numbers: of int64 they fit a cache
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
        self.only_right = bool((by.shift <= 0).all())

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, int64, or float64 of small floats."""
        by = Factor(self.multiplier, self.shift)
        if self.only_right and x.is_floating_point() and x.numel() and _is_small(x):
            return multiply_small(x, by, self.away)
        return multiply(x.to(torch.int64), by, self.away)


class InBlocks(nn.Module):
    """An elementwise layer, a block of its operands at a time, so that what it computes on the way stays in the cache.

    A block has whole last ``axes``, by default whole images; operands of different shapes are one block.
    """

    def __init__(self, layer: nn.Module, axes: int | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.axes = axes

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return what the layer does, float32."""
        if any(other.shape != x.shape for other in others):
            out: Tensor = self.layer(x, *others)
            return out.to(torch.float32)
        kept = x.shape[1 if self.axes is None else x.ndim - self.axes :]
        flat = [operand.reshape(-1, *kept) for operand in (x, *others)]
        found = torch.empty_like(flat[0], dtype=torch.float32)
        rows = max(BLOCK // max(kept.numel(), 1), 1)
        for first in range(0, len(found), rows):
            found[first : first + rows] = self.layer(*(operand[first : first + rows] for operand in flat))
        return found.reshape(x.shape)


def _is_small(x: Tensor) -> bool:
    low, high = x.aminmax()
    return bool(low > -SMALL) and bool(high < SMALL)


def half_away(real: Tensor) -> Tensor:
    """Round half away from zero, as C's ``round``."""
    whole = real.trunc()
    return whole + (real - whole).mul_(2).trunc_()
