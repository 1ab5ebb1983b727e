"""What both formats' operators are made of: exact sums of products, pasted, cut and pooled integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from patches.twins.straight_through import Slope, rounded

EXACT_IN_FLOAT32 = 2**24  # every integer up to here is a float32


class Products(nn.Module):
    """Sums of products of steps with integer weights, and a bias: a convolution of NCHW, or a dense layer.

    Exact: in float32 where no partial sum can pass 2**24, else in float64. ``weights`` are ``(out, in, kh, kw)`` or
    ``(out, in)``, less their zero point; ``largest`` is the greatest magnitude of a step of the input.
    """

    def __init__(
        self,
        weights: NDArray[np.integer],
        bias: NDArray[np.integer] | None,
        largest: int,
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),  # left, right, top, bottom
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__()
        whole = weights.astype(np.int64)
        added = np.zeros(len(whole), np.int64) if bias is None else bias.astype(np.int64)
        most = int((np.abs(whole).reshape(len(whole), -1).sum(axis=1) * largest + np.abs(added)).max())
        self.dtype = torch.float32 if most <= EXACT_IN_FLOAT32 else torch.float64
        kernel = torch.from_numpy(whole).to(self.dtype)
        self.weights: Tensor
        self.bias: Tensor
        self.register_buffer(
            "weights", kernel.contiguous(memory_format=torch.channels_last) if whole.ndim == 4 else kernel
        )
        self.register_buffer("bias", torch.from_numpy(added).to(self.dtype))
        left, right, top, bottom = pads
        even = left == right and top == bottom
        self.padding = (top, left) if even else (0, 0)
        self.pads = None if even else pads
        self.stride, self.dilation, self.groups = stride, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        """Whole numbers, in `dtype`."""
        x = x.to(self.dtype)
        if self.weights.ndim == 2:
            return functional.linear(x, self.weights, self.bias)
        if self.pads is not None:
            x = functional.pad(x, self.pads)
        return functional.conv2d(x, self.weights, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Rounded(nn.Module):
    """An elementwise operator: arithmetic on steps that gives whole numbers, clipped; its slopes straight through."""

    def __init__(self, arithmetic: nn.Module, bounds: tuple[float, float], slopes: Sequence[Slope]) -> None:
        super().__init__()
        self.arithmetic, self.bounds = arithmetic, bounds
        self.slopes = tuple(slopes)

    def forward(self, *operands: Tensor) -> Tensor:
        """Steps of the output."""
        slopes = [s.to(operands[0].device) if isinstance(s, Tensor) else s for s in self.slopes]
        return rounded(self.arithmetic, *self.bounds, slopes, *operands)


class Times(nn.Module):
    """The product of two tensors of steps, scaled and rounded; the slope by one is the other."""

    def __init__(self, scaled: nn.Module, bounds: tuple[float, float], slope: float) -> None:
        super().__init__()
        self.scaled, self.bounds, self.slope = scaled, bounds, slope

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Steps of the output."""
        slopes = (b.detach() * self.slope, a.detach() * self.slope)
        return rounded(lambda a, b: self.scaled(a * b), *self.bounds, slopes, a, b)


class Chain(nn.Module):
    """Layers one after the other; the first may take several tensors."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *operands: Tensor) -> Tensor:
        """What the last layer gives."""
        first, *rest = self.layers
        x: Tensor = first(*operands)
        for layer in rest:
            x = layer(x)
        return x


class Constant(nn.Module):
    """A layer with one operand fixed: steps of the file's own."""

    def __init__(self, layer: nn.Module, values: Tensor, position: int) -> None:
        super().__init__()
        self.layer, self.position = layer, position
        self.values: Tensor
        self.register_buffer("values", values)

    def forward(self, *operands: Tensor) -> Tensor:
        """The layer's own."""
        out: Tensor = self.layer(*operands[: self.position], self.values, *operands[self.position :])
        return out


class Mover(nn.Module):
    """A function that copies values and computes none, or takes the greatest of them."""

    def __init__(self, function: object, *arguments: object, **settings: object) -> None:
        super().__init__()
        self.function, self.arguments, self.settings = function, arguments, settings

    def forward(self, x: Tensor) -> Tensor:
        """The values, in their new places."""
        out: Tensor = self.function(x, *self.arguments, **self.settings)  # type: ignore[operator]
        return out


class Joined(nn.Module):
    """Tensors put together along an axis, each by a layer of its own brought to the same scale first."""

    def __init__(self, axis: int, layers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.axis, self.layers = axis, nn.ModuleList(layers)

    def forward(self, *parts: Tensor) -> Tensor:
        """The whole."""
        return torch.cat(
            [layer(x) for layer, x in zip(self.layers, parts, strict=True)] if self.layers else parts, self.axis
        )
