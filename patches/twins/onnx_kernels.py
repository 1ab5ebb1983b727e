"""The arithmetic of onnxruntime's integer kernels (MLAS) on x86-64 with AVX2 and FMA, found by measurement.

Everything is float32, rounded once, half to even. Convolution, pooling and dense layers scale the accumulator. Addition
and multiplication round after adding the zero point, which moves some halves. A lookup table is computed from reals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patches.twins.network import Quant
from patches.twins.straight_through import pick


class Add(nn.Module):
    """The sum of two tensors of steps: two fused multiply-adds, the second operand first."""

    def __init__(self, a: Quant, b: Quant, out: Quant) -> None:
        super().__init__()
        self.ratios = [float(np.float32(q.scale) / np.float32(out.scale)) for q in (a, b)]
        self.zero_points = a.zero_point, b.zero_point, out.zero_point
        by_a, by_b = (np.float32(ratio) for ratio in self.ratios)
        both = np.float32(np.float64(by_a) * a.zero_point + np.float64(by_b * np.float32(b.zero_point)))
        self.start = float(np.float32(out.zero_point) - both)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return whole numbers, float32; float64 holds each product and sum exactly, so one rounding makes an FMA."""
        by_a, by_b = self.ratios
        zero_a, zero_b, zero_out = self.zero_points
        sum_b = (b.to(torch.float64) + zero_b).mul_(by_b).add_(self.start).to(torch.float32)
        sums = (a.to(torch.float64) + zero_a).mul_(by_a).add(sum_b).to(torch.float32)
        return sums.round_().sub_(zero_out)


class Multiply(nn.Module):
    """The product of two tensors of steps, scaled; it takes the product."""

    def __init__(self, a: Quant, b: Quant, out: Quant) -> None:
        super().__init__()
        self.scale = float(np.float32(a.scale) * np.float32(b.scale) / np.float32(out.scale))
        self.zero_point = out.zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float32."""
        scaled = x * self.scale
        return scaled.add_(self.zero_point).round_().sub_(self.zero_point)


class Average(nn.Module):
    """The mean of windows of steps, NCHW: reals are added one by one, row by row, in float32; no fused arithmetic."""

    def __init__(self, x: Quant, out: Quant, window: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.x, self.out, self.window, self.stride = x, out, window, stride

    def forward(self, steps: Tensor, counts: Tensor) -> Tensor:
        """Return whole numbers, float32; padding is zero, and ``counts`` are how many elements count in a window."""
        reals = steps * torch.tensor(self.x.scale)
        rows, columns = counts.shape[-2:]
        total = torch.zeros(())
        for row in range(self.window[0]):
            for column in range(self.window[1]):
                down, right = (
                    slice(first, first + (n - 1) * step + 1, step)
                    for first, n, step in zip((row, column), (rows, columns), self.stride, strict=True)
                )
                total = total + reals[:, :, down, right]
        return (total / counts / torch.tensor(self.out.scale) + self.out.zero_point).round_().sub_(self.out.zero_point)


class LookupTable(nn.Module):
    """A function of one tensor's reals as a lookup table over its 256 integers."""

    def __init__(self, x: Quant, out: Quant, function: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        super().__init__()
        self.lowest = x.lowest - x.zero_point
        steps = np.arange(x.lowest, x.highest + 1, dtype=np.int64) - x.zero_point
        reals = function(np.float32(x.scale) * steps.astype(np.float32))
        self.values: Tensor
        self.register_buffer("values", torch.from_numpy(np.rint(reals / np.float32(out.scale)).astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float32."""
        return pick(self.values, self.lowest, x)


def leaky_relu(alpha: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the leaky ReLU with a slope, in float32."""
    return lambda reals: np.where(reals >= 0, reals, reals * np.float32(alpha)).astype(np.float32)
