"""The straight-through estimator: integers in the forward pass, real slopes in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Slope = float | Tensor  # output steps per operand step; broadcasts against both


def rounded(
    arithmetic: Callable[..., Tensor], low: float, high: float, slopes: Sequence[Slope], *operands: Tensor
) -> Tensor:
    """Return ``arithmetic(*operands)``, whole numbers, clipped to ``[low, high]`` as float32.

    In the backward pass rounding is the identity (Bengio et al. 2013, section 4): each operand gets the gradient times
    its slope, and zero where the forward pass clipped.
    """
    out: Tensor = _Rounded.apply(arithmetic, low, high, slopes, *operands)  # type: ignore[no-untyped-call]
    return out


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        arithmetic: Callable[..., Tensor],
        low: float,
        high: float,
        slopes: Sequence[Slope],
        *operands: Tensor,
    ) -> Tensor:
        steps = arithmetic(*operands).to(torch.float32)
        if not any(ctx.needs_input_grad):
            return steps.clamp_(low, high)
        ctx.save_for_backward(steps)
        ctx.bounds = (low - 0.5, high + 0.5)
        ctx.slopes = slopes
        ctx.shapes = [x.shape for x in operands]
        return steps.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (steps,) = ctx.saved_tensors
        # zero unless strictly between the bounds; one vectorised pass, ten times as fast as a mask
        passed = torch.ops.aten.hardtanh_backward(gradients[0], steps, *ctx.bounds)
        parts = [
            (passed * slope).sum_to_size(shape) if needed else None
            for slope, shape, needed in zip(ctx.slopes, ctx.shapes, ctx.needs_input_grad[4:], strict=True)
        ]
        return (None, None, None, None, *parts)
