"""The straight-through estimator: integers in the forward pass, real slopes in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Output steps per operand step, which broadcasts against both; or what gives it, called in the backward pass with the
# operands, so that it takes no memory until then.
Slope = float | Tensor | Callable[..., Tensor]


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
        ctx.save_for_backward(steps, *(operands if any(map(callable, slopes)) else ()))
        ctx.bounds = (low - 0.5, high + 0.5)
        ctx.slopes = slopes
        ctx.shapes = [x.shape for x in operands]
        return steps.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        steps, *operands = ctx.saved_tensors
        slopes = [slope(*operands) if callable(slope) else slope for slope in ctx.slopes]
        # zero unless strictly between the bounds; one vectorised pass, ten times as fast as a mask
        passed = torch.ops.aten.hardtanh_backward(gradients[0], steps, *ctx.bounds)
        parts = [
            (passed * slope).sum_to_size(shape) if needed else None
            for slope, shape, needed in zip(slopes, ctx.shapes, ctx.needs_input_grad[4:], strict=True)
        ]
        return (None, None, None, None, *parts)


def looked_up(values: Tensor, slopes: Tensor, lowest: int, x: Tensor) -> Tensor:
    """Return the value of each step: tables of values and slopes over the steps from `lowest` on."""
    out: Tensor = _LookedUp.apply(values, slopes, lowest, x)  # type: ignore[no-untyped-call]
    return out


class _LookedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, slopes: Tensor, lowest: int, x: Tensor) -> Tensor:
        ctx.save_for_backward(slopes, x)
        ctx.lowest = lowest
        return pick(values, lowest, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        slopes, x = ctx.saved_tensors
        return None, None, None, gradients[0] * pick(slopes, ctx.lowest, x)


def pick(values: Tensor, lowest: int, x: Tensor) -> Tensor:
    """Return the value of each step, in the memory format of the steps; ten times as fast as indexing by int64."""
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    places = ((x.permute(0, 2, 3, 1) if is_last else x) - lowest).to(torch.int32)
    found = values.index_select(0, places.flatten()).reshape(places.shape)
    return found.permute(0, 3, 1, 2) if is_last else found
