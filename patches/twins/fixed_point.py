"""Fixed-point multiplication as in TFLite's kernels: a real factor is a 31-bit integer and a power of two.

``factor = multiplier * 2**(shift - 31)`` with ``multiplier`` in [2**30, 2**31). The arithmetic is gemmlowp's (Jacob et
al. 2018, section 2.2). Tensors are int64 and hold the values of the kernels' int32, or small ones are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

SMALL = 2**22  # a product of less with a multiplier, and a half, is a float64


class Factor(NamedTuple):
    """Multipliers and shifts, int64 tensors of the same shape: one, or one per channel."""

    multiplier: Tensor
    shift: Tensor


def factor(reals: Iterable[float]) -> Factor:
    """Return real numbers as factors, as TFLite's QuantizeMultiplier: the multiplier is rounded half away from zero."""
    pairs = [_pair(float(real)) for real in reals]
    return Factor(*(torch.tensor(column, dtype=torch.int64) for column in zip(*pairs, strict=True)))


def _pair(real: float) -> tuple[int, int]:
    if real == 0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier = 2**30
        shift += 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def multiply(x: Tensor, by: Factor, away: Tensor | None = None) -> Tensor:
    """Multiply ``x`` by the factor and round twice, half up; the second time half away from zero where `away` is 1.

    First the doubled high half of the product (SaturatingRoundingDoublingHighMul, NEON's vqrdmulh, whose nudge and
    truncating division together round half up), then a division by the power of two (RoundingDivideByPOT rounds half
    away from zero, NEON's vrshl half up). ``away`` is int64 of zeros and ones.
    """
    product = (x << by.shift.clamp(min=0)).mul_(by.multiplier)
    high = product.add_(1 << 30).bitwise_right_shift_(31)
    right = (-by.shift).clamp(min=0)
    half = (1 << right) >> 1
    if away is None:
        return high.add_(half).bitwise_right_shift_(right)
    lower = (high >> 63).mul_(right.clamp(max=1) * away)  # -1 for negative numbers; a division by one rounds nothing
    return high.add_(lower).add_(half).bitwise_right_shift_(right)


def multiply_small(x: Tensor, by: Factor, away: Tensor | None = None) -> Tensor:
    """Do the same in float64, many times as fast: exact for numbers below `SMALL` and shifts of at most 0.

    What is divided is a multiple of ``2**-right`` below `SMALL`: a 2**30th of it more, or a quarter of ``2**-right``,
    takes halves off the middle and no other number past it. All is done in place, for memory costs most.
    """
    unit = 1 / (1 << by.shift.neg()).to(torch.float64)
    high = x.to(torch.float64, copy=True).mul_(by.multiplier.to(torch.float64) * 2.0**-31).add_(0.5).floor_()
    if away is None:
        return high.mul_(unit).add_(0.5).floor_()
    away = away.to(torch.float64)
    high.mul_(unit * (1 + away * 2.0**-30))
    return (high if bool(away.all()) else high.add_((1 - away) * unit / 4)).round_()
