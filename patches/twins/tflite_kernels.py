"""The arithmetic of LiteRT's three sets of kernels on x86-64, operator by operator, found by measurement.

``reference``: TFLite's portable kernels round twice, half up, then half away from zero; a dense layer rounds once, in
float64. ``builtin`` rounds twice half up in its vector code, as far as channels fill a vector,
and as the portable kernels elsewhere. ``xnnpack`` scales in float32 and rounds once, half to even; it adds in 21-bit
fixed point and rounds once, half up. What XNNPACK does not take, such as average pooling, stays ``builtin``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from patches.twins import tosa_kernels
from patches.twins.fixed_point import Factor, factor
from patches.twins.network import Quant
from patches.twins.scaling import FixedPoint, Float32, Float64, Floats, InBlocks, Quotient, half_away

# Channels that a vector kernel of `builtin` takes at a time (1: any number); the portable code takes the rest.
VECTORS = {("CONV_2D", "int8"): 1, ("CONV_2D", "uint8"): 1, ("FULLY_CONNECTED", "int8"): 1}
VECTORS |= {("TRANSPOSE_CONV", "int8"): 8, ("FULLY_CONNECTED", "uint8"): 1, ("DEPTHWISE_CONV_2D", "int8"): 8}
MEAN_VECTOR = 16
QUANTIZE_VECTOR = 8
REQUANTIZE_VECTOR = 16
SUM_VECTORS = {True: 16, False: 8}  # by whether the integers are signed and no number is added to a tensor


def _away(channels: int, vector: int | None) -> Tensor:
    """Return 1 for channels of the portable code, which rounds away from zero, else 0: int64."""
    in_vectors = channels - channels % vector if vector else 0
    return torch.tensor([0] * in_vectors + [1] * (channels - in_vectors))


PORTABLE = torch.ones(1, dtype=torch.int64)


def nearest(real: float, quant: Quant) -> int:
    """Return the step nearest to a number by XNNPACK's rule, which takes the even one of two integers."""
    integer = np.float32(real) / np.float32(quant.scale) + np.float32(quant.zero_point)
    return int(np.rint(np.clip(integer, quant.lowest, quant.highest))) - quant.zero_point


def scale_products(
    kernels: str, operator: str, x: Quant, weights: Sequence[float], out: Quant, shape: tuple[int, ...]
) -> nn.Module:
    """Scale the accumulators of a convolution or a dense layer to steps, of which an image has a `shape`."""
    scales = np.array(weights, np.float32)
    if kernels == "xnnpack":
        return Float32(np.float32(x.scale) * scales / np.float32(out.scale))
    if kernels == "reference" and operator == "FULLY_CONNECTED":
        return Float64(x.scale * scales.astype(np.float64) / out.scale)
    # per tensor and of unsigned integers or a dense layer, TFLite multiplies the two scales in float32
    in_float32 = len(scales) == 1 and (x.lowest == 0 or operator == "FULLY_CONNECTED")
    both = scales * np.float32(x.scale) if in_float32 else scales.astype(np.float64) * x.scale
    by = factor(np.broadcast_to(both.astype(np.float64) / out.scale, shape[-1]))
    dtype = "int8" if x.lowest < 0 else "uint8"
    if kernels == "builtin" and (operator, dtype) == ("TRANSPOSE_CONV", "uint8"):
        return InBlocks(FixedPoint(by, _away(math.prod(shape), REQUANTIZE_VECTOR).reshape(shape)))
    vector = VECTORS.get((operator, dtype)) if kernels == "builtin" else None
    return InBlocks(FixedPoint(by, _away(shape[-1], vector)), 1)


def scale_product(kernels: str, a: Quant, b: Quant, out: Quant) -> nn.Module:
    """Scale the product of two tensors of steps to steps; TFLite computes the factor in float32 too."""
    scale = np.float32(a.scale) * np.float32(b.scale) / np.float32(out.scale)
    return Float32(scale) if kernels == "xnnpack" else InBlocks(FixedPoint(factor([float(scale)]), PORTABLE))


def quantize(kernels: str, out: Quant, span: int) -> nn.Module:
    """Convert reals, float32, to steps; `span` are those of an image."""
    product = Float32(np.float32(1) / np.float32(out.scale))
    if kernels == "xnnpack":
        return product
    if kernels == "builtin":
        return VectorQuantize(product, Quotient(out.scale, torch.float64), span)
    return Quotient(out.scale, torch.float32)


def requantize(kernels: str, x: Quant, out: Quant, shape: tuple[int, ...]) -> nn.Module:
    """Convert steps to steps of another scale; an image's part of them has a `shape`."""
    if kernels == "xnnpack":
        return ShiftedSum([np.float32(x.scale) / np.float32(out.scale)], 8)
    by = factor([x.scale / out.scale])
    if kernels == "builtin":
        return FixedPoint(by, _away(math.prod(shape), REQUANTIZE_VECTOR).reshape(shape))
    return FixedPoint(by, PORTABLE)


def add(kernels: str, a: Quant, b: Quant, out: Quant, span: int, is_number: bool = False) -> nn.Module:
    """Add two tensors of steps; `span` elements of both are contiguous: an image, or its channels.

    With `is_number`, one number of either is added to as many of the other.
    """
    if kernels == "xnnpack":
        ratios = [np.float32(q.scale) / np.float32(out.scale) for q in (a, b)]
        return ShiftedSum(ratios, 20 - (math.frexp(max(ratios))[1] - 1))
    portable = FixedSum(a, b, out)
    vector = SUM_VECTORS[a.lowest < 0 and not is_number]
    in_vectors = kernels == "builtin" and span >= vector
    return InBlocks(VectorSum(portable, a, b, span, vector) if in_vectors else portable)


class VectorQuantize(nn.Module):
    """The built-in kernels' step from reals: those of an image that do not fill a vector go to the portable code."""

    def __init__(self, product: nn.Module, portable: nn.Module, span: int) -> None:
        super().__init__()
        self.product, self.portable, self.span = product, portable, span
        self.rest = span % QUANTIZE_VECTOR

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float32."""
        flat = x.reshape(-1, self.span)
        whole = self.span - self.rest
        parts = self.product(flat[:, :whole]), self.portable(flat[:, whole:]).to(x.dtype)
        return torch.cat(parts, dim=1).reshape(x.shape)


def subtract(kernels: str, a: Quant, b: Quant, out: Quant) -> nn.Module:
    """Subtract the second of two tensors of steps from the first."""
    if kernels == "xnnpack":
        ratios = [np.float32(q.scale) / np.float32(out.scale) for q in (a, b)]
        return ShiftedSum([ratios[0], -ratios[1]], 20 - (math.frexp(max(ratios))[1] - 1))
    return InBlocks(FixedSum(a, b, out, sign=-1))


class ShiftedSum(nn.Module):
    """XNNPACK's weighted sum of steps: weights with `bits` fractional bits, one shift that rounds half up."""

    def __init__(self, weights: Sequence[Floats | float], bits: int) -> None:
        super().__init__()
        self.weights = [int(np.rint(np.float64(w) * 2.0**bits)) for w in weights]
        self.bits = bits

    def forward(self, *operands: Tensor) -> Tensor:
        """Return whole numbers, int32."""
        parts = [x.to(torch.int32) * weight for x, weight in zip(operands, self.weights, strict=True)]
        return sum(parts[1:], parts[0].add_(1 << (self.bits - 1))).bitwise_right_shift_(self.bits)


class FixedSum(nn.Module):
    """TFLite's addition: scale both operands to the larger scale with 20 spare bits, then the sum to the output's.

    A ``sign`` of -1 subtracts.
    """

    def __init__(self, a: Quant, b: Quant, out: Quant, sign: int = 1) -> None:
        super().__init__()
        self.sign = sign
        twice = 2 * max(a.scale, b.scale)
        self.one, self.other = (FixedPoint(factor([q.scale / twice]), PORTABLE) for q in (a, b))
        self.out = FixedPoint(factor([twice / ((1 << 20) * out.scale)]), PORTABLE)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return whole numbers, int64."""
        one, other = self.one(a.to(torch.int64) << 20), self.other(b.to(torch.int64) << 20)
        total: Tensor = self.out(one + self.sign * other)
        return total


class VectorSum(nn.Module):
    """The built-in kernels' addition: operands are scaled to the larger scale and rounded, or cut in short vectors.

    Elements of an image, or channels, that do not fill a vector go to the portable code.
    """

    def __init__(self, portable: FixedSum, a: Quant, b: Quant, span: int, vector: int) -> None:
        super().__init__()
        self.portable = portable
        self.out = portable.out
        self.span = span
        self.rest = span % vector
        self.rounds = vector == SUM_VECTORS[True]
        by = [factor([q.scale / (2 * max(a.scale, b.scale))]) for q in (a, b)]
        self.cuts = [-int(one.shift) for one in by]
        shifts = [one.shift + 20 if self.rounds else torch.full_like(one.shift, 20) for one in by]
        nowhere = torch.zeros(1, dtype=torch.int64)
        self.one, self.other = (
            FixedPoint(Factor(f.multiplier, shift), nowhere) for f, shift in zip(by, shifts, strict=True)
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return whole numbers, int64."""
        parts = self.one(a), self.other(b)
        if not self.rounds:
            parts = tuple(part >> cut for part, cut in zip(parts, self.cuts, strict=True))  # type: ignore[assignment]
        sums: Tensor = self.out(parts[0] + parts[1])
        if not self.rest:
            return sums
        shape = sums.shape
        flat = sums.reshape(-1, self.span)
        rest = (x.expand(shape).reshape(-1, self.span)[:, -self.rest :] for x in (a, b))
        return torch.cat([flat[:, : -self.rest], self.portable(*rest)], dim=1).reshape(shape)


def mean(kernels: str, x: Quant, out: Quant, n: int, channels: int | None) -> nn.Module:
    """Scale a sum of ``n`` steps to steps of their mean; `channels` if it is over height and width and keeps both."""
    if kernels == "xnnpack":
        return SumOfIntegers(np.float32(x.scale) / np.float32(out.scale) * (np.float32(1) / np.float32(n)), x, out, n)
    if kernels == "builtin" and channels:
        return VectorMean(x, out, n, channels)
    whole = factor([x.scale / out.scale])
    shift = min(n.bit_length() - 1, 32, 31 + int(whole.shift))
    return FixedPoint(Factor((whole.multiplier << shift) // n, whole.shift - shift), PORTABLE)


def total(kernels: str, x: Quant, out: Quant, n: int) -> nn.Module:
    """Scale a sum of ``n`` steps to steps."""
    scale = np.float32(x.scale) / np.float32(out.scale)
    return SumOfIntegers(scale, x, out, n) if kernels == "xnnpack" else Total(scale, n * x.zero_point)


class SumOfIntegers(nn.Module):
    """XNNPACK's scale of a sum: in float32, where both zero points become one bias, rounded half to even."""

    def __init__(self, scale: np.float32, x: Quant, out: Quant, n: int) -> None:
        super().__init__()
        self.scale, self.offset, self.zero_point = float(scale), n * x.zero_point, out.zero_point
        self.bias = float(np.float32(out.zero_point) - np.float32(self.offset) * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float32."""
        return (x + self.offset).mul_(self.scale).add_(self.bias).round_().sub_(self.zero_point)


class Total(nn.Module):
    """The built-in kernels' sum in float32: zero points become a bias, rounded half away from zero."""

    def __init__(self, scale: np.float32, offset: int) -> None:
        super().__init__()
        self.scale, self.offset = float(scale), offset
        self.bias = float(np.float32(-offset) * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, float32."""
        return half_away((x + self.offset) * self.scale + self.bias)


class VectorMean(nn.Module):
    """The built-in kernels' mean over height and width: zero points become a bias, rounded separately."""

    def __init__(self, x: Quant, out: Quant, n: int, channels: int) -> None:
        super().__init__()
        real = np.float32(x.zero_point) * np.float32(x.scale) / np.float32(out.scale)
        self.bias = -int(real + np.copysign(np.float32(0.5), real))
        self.offset = n * x.zero_point
        by = factor([float(np.float32(x.scale) / (np.float32(n) * np.float32(out.scale)))])
        self.scaled = FixedPoint(by, _away(channels, MEAN_VECTOR))

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, int64."""
        integers: Tensor = self.scaled(x + self.offset)
        return integers.add_(self.bias)


def average(kernels: str, quant: Quant, counts: Tensor) -> nn.Module:
    """Divide sums of a window's steps by their ``counts``."""
    return tosa_kernels.Average(quant, counts) if kernels == "tosa" else Average(quant, counts)


class Average(nn.Module):
    """Average pooling of every set of kernels: the mean of a window's integers, rounded half away from zero."""

    def __init__(self, quant: Quant, counts: Tensor) -> None:
        super().__init__()
        self.zero_point = quant.zero_point
        self.counts: Tensor
        self.register_buffer("counts", counts)

    def forward(self, x: Tensor) -> Tensor:
        """Return steps; ``x`` is the sum of the steps of each window, ``counts`` their number."""
        integers = x + self.counts * self.zero_point
        half = torch.div(self.counts, 2, rounding_mode="floor")
        away = integers + torch.where(integers > 0, half, -half)
        return torch.div(away, self.counts, rounding_mode="trunc") - self.zero_point
