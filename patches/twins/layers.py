"""Layers that both formats' operators are built from: exact sums of products, rounding, data movement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from patches.twins.straight_through import Slope, rounded

EXACT_IN_FLOAT32 = 2**24  # every integer up to here is a float32


class IntegerProducts(nn.Module):
    """Steps times integer weights, plus a bias: a convolution in NCHW, or a fully-connected layer.

    Exact: in float32 where no partial sum, in whatever order, can pass 2**24, else in float64. A bias that alone takes
    it there, that of a channel which is almost constant, is added afterwards: in float64, or ``to_float32`` for a
    kernel that rounds its sums to float32 itself. ``weights`` are ``(out, in, kh, kw)`` or ``(out, in)``, minus their
    zero point; ``bounds`` are the least and largest input step.
    """

    def __init__(
        self,
        weights: NDArray[np.integer],
        bias: NDArray[np.integer] | None,
        bounds: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),  # left, right, top, bottom
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        to_float32: bool = False,
    ) -> None:
        super().__init__()
        whole = weights.astype(np.int64)
        added = np.zeros(len(whole), np.int64) if bias is None else bias.astype(np.int64)
        rest = added - added.astype(np.float32).astype(np.int64) if to_float32 else np.zeros_like(added)
        later = None
        if _furthest(whole, added, bounds) > EXACT_IN_FLOAT32 >= _furthest(whole, rest, bounds):
            later = torch.from_numpy(added - rest).to(torch.float32 if to_float32 else torch.float64)
            added = rest
        fits = _furthest(whole, added, bounds) <= EXACT_IN_FLOAT32
        self.dtype = torch.float32 if fits else torch.float64
        kernel = torch.from_numpy(whole).to(self.dtype)
        # torch's oneDNN gives some convolutions of one channel numbers from nowhere: a second is added, of zeros
        self.is_of_one = kernel.ndim == 4 and kernel.shape[1] == groups == 1
        if self.is_of_one:
            kernel = functional.pad(kernel, (0, 0, 0, 0, 0, 1))
        self.weights: Tensor
        self.bias: Tensor
        self.later: Tensor | None
        self.register_buffer(
            "weights", kernel.contiguous(memory_format=torch.channels_last) if whole.ndim == 4 else kernel
        )
        self.register_buffer("bias", torch.from_numpy(added).to(self.dtype))
        self.register_buffer("later", later)
        left, right, top, bottom = pads
        even = left == right and top == bottom
        self.padding = (top, left) if even else (0, 0)
        self.pads = None if even else pads
        self.stride, self.dilation, self.groups = stride, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        """Return whole numbers, in float32 or float64."""
        x = x.to(self.dtype)
        sums = self.sums(functional.pad(x, (0, 0, 0, 0, 0, 1)) if self.is_of_one else x)
        if self.later is None:
            return sums
        return sums.to(self.later.dtype).add_(self.later.reshape(-1, *[1] * (sums.ndim - 2)))

    def sums(self, x: Tensor) -> Tensor:
        """Return the products' sums without what is added later."""
        if self.weights.ndim == 2:
            return functional.linear(x, self.weights, self.bias)
        if self.pads is not None:
            x = functional.pad(x, self.pads)
        return functional.conv2d(x, self.weights, self.bias, self.stride, self.padding, self.dilation, self.groups)


class MatrixProducts(nn.Module):
    """The matrix products of two tensors of steps, exact; either may be transposed.

    ``largest`` is the largest magnitude of the product of two steps.
    """

    def __init__(self, largest: int, turned: tuple[bool, bool] = (False, False)) -> None:
        super().__init__()
        self.turned, self.largest = turned, largest

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return whole numbers: in float32 where no partial sum can pass 2**24, else in float64."""
        a, b = (x.transpose(-1, -2) if turn else x for x, turn in zip((a, b), self.turned, strict=True))
        fits = a.shape[-1] * self.largest <= EXACT_IN_FLOAT32
        dtype = torch.float32 if fits else torch.float64
        return torch.matmul(a.to(dtype), b.to(dtype))


def _furthest(weights: NDArray[np.int64], bias: NDArray[np.int64], bounds: tuple[int, int]) -> int:
    """Return the largest magnitude of any sum of some of the products and the bias."""
    low, high = (weights.reshape(len(weights), -1) * end for end in bounds)
    most = np.maximum(low, high).sum(axis=1) + np.maximum(bias, 0)
    least = np.minimum(low, high).sum(axis=1) + np.minimum(bias, 0)
    return int(np.maximum(most, -least).max())


class TransposedProducts(IntegerProducts):
    """A transposed convolution in NCHW, of which ``sizes`` rows and columns are kept after ``before``.

    ``weights`` are ``(in, out, kh, kw)``.
    """

    def __init__(
        self,
        weights: NDArray[np.integer],
        bias: NDArray[np.integer] | None,
        bounds: tuple[int, int],
        stride: tuple[int, int],
        before: tuple[int, int],
        sizes: tuple[int, int],
        to_float32: bool = False,
    ) -> None:
        super().__init__(weights.swapaxes(0, 1), bias, bounds, stride, to_float32=to_float32)
        self.before, self.sizes = before, sizes

    def sums(self, x: Tensor) -> Tensor:
        """Return the products' sums without what is added later."""
        (top, left), (height, width) = self.before, self.sizes
        whole = functional.conv_transpose2d(x, self.weights.transpose(0, 1), None, self.stride)
        below, right = max(top + height - whole.shape[2], 0), max(left + width - whole.shape[3], 0)
        reached = functional.pad(whole, (0, right, 0, below))
        return reached[..., top : top + height, left : left + width] + self.bias[:, None, None]


class Rounded(nn.Module):
    """An elementwise operator: arithmetic on steps, clipped, with straight-through slopes."""

    def __init__(self, arithmetic: nn.Module, bounds: tuple[float, float], slopes: Sequence[Slope]) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.bounds = bounds
        self.slopes = tuple(slopes)

    def forward(self, *operands: Tensor) -> Tensor:
        """Return steps of the output."""
        slopes = [s.to(operands[0].device) if isinstance(s, Tensor) else s for s in self.slopes]
        return rounded(self.arithmetic, *self.bounds, slopes, *operands)


class Multiply(nn.Module):
    """The product of two tensors of steps, scaled and rounded; the slope of one is the other."""

    def __init__(self, scaled: nn.Module, bounds: tuple[float, float], slope: float) -> None:
        super().__init__()
        self.scaled = scaled
        self.bounds = bounds
        self.slope = slope

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return steps of the output."""
        slopes = (lambda a, b: b * self.slope, lambda a, b: a * self.slope)
        return rounded(lambda a, b: self.scaled(a * b), *self.bounds, slopes, a, b)


class Sequential(nn.Module):
    """Layers in sequence; the first may take several tensors."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *operands: Tensor) -> Tensor:
        """Return the last layer's output."""
        first, *rest = self.layers
        x: Tensor = first(*operands)
        for layer in rest:
            x = layer(x)
        return x


class WithConstant(nn.Module):
    """A layer with one constant operand: steps from the file."""

    def __init__(self, layer: nn.Module, values: Tensor, position: int) -> None:
        super().__init__()
        self.layer = layer
        self.position = position
        self.values: Tensor
        self.register_buffer("values", values)

    def forward(self, *operands: Tensor) -> Tensor:
        """Return the layer's output."""
        out: Tensor = self.layer(*operands[: self.position], self.values, *operands[self.position :])
        return out


class Function(nn.Module):
    """A function that moves values, sums them or takes their maximum, with fixed arguments."""

    def __init__(self, function: object, *arguments: object, **settings: object) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments
        self.settings = settings

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's output."""
        out: Tensor = self.function(x, *self.arguments, **self.settings)  # type: ignore[operator]
        return out


def each_to(*shape: int) -> Function:
    """Return the layer that gives each image's part of a tensor another shape."""
    return Function(lambda x: x.reshape(len(x), *shape))


class Aligned(nn.Module):
    """A layer whose operands have `rank` axes, or the most that one has: fewer are those behind the images' axis."""

    def __init__(self, layer: nn.Module, rank: int = 0) -> None:
        super().__init__()
        self.layer = layer
        self.rank = rank

    def forward(self, *operands: Tensor) -> Tensor:
        """Return the layer's output."""
        rank = max(self.rank, *(x.ndim for x in operands))
        out: Tensor = self.layer(*(x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:]) for x in operands))
        return out


class Part(nn.Module):
    """One of the parts, of given sizes or of that many, that a tensor is split into along an axis."""

    def __init__(self, axis: int, sizes: list[int] | int, part: int) -> None:
        super().__init__()
        self.axis, self.sizes, self.part = axis, sizes, part

    def forward(self, x: Tensor) -> Tensor:
        """Return the part; where parts cannot be equal the last is smaller. Along the images it is a `ValueError`."""
        if self.axis % x.ndim == 0:
            raise ValueError("splits along the axis of the images")
        size = -(-x.shape[self.axis] // self.sizes) if isinstance(self.sizes, int) else self.sizes
        return torch.split(x, size, self.axis)[self.part]  # type: ignore[no-untyped-call]


class Concat(nn.Module):
    """Tensors concatenated along an axis, each rescaled by its own layer first; `fixed` are constants by position."""

    def __init__(self, axis: int, layers: Sequence[nn.Module] = (), fixed: Mapping[int, Tensor] | None = None) -> None:
        super().__init__()
        self.axis, self.layers = axis, nn.ModuleList(layers)
        self.positions = sorted(fixed or {})
        for position in self.positions:
            self.register_buffer(f"fixed{position}", (fixed or {})[position])

    def forward(self, *given: Tensor) -> Tensor:
        """Return the concatenated steps; along the axis of the images it is a `ValueError`."""
        images, rank = len(given[0]), given[0].ndim
        if self.axis % rank == 0:
            raise ValueError("joins images")
        parts = list(given)
        for position in self.positions:
            values = self.get_buffer(f"fixed{position}")
            parts.insert(position, values.expand(images, *values.shape[1:]))
        if self.layers:
            parts = [layer(x) for layer, x in zip(self.layers, parts, strict=True)]
        return torch.cat(parts, self.axis)


class Where(nn.Module):
    """One of two tensors, value by value, each rescaled by its own layer first."""

    def __init__(self, x: nn.Module, y: nn.Module) -> None:
        super().__init__()
        self.x, self.y = x, y

    def forward(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the steps of ``x`` where the condition holds, elsewhere those of ``y``."""
        return torch.where(condition, self.x(x), self.y(y))
