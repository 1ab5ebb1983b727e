"""ONNX operators between QuantizeLinear and DequantizeLinear, drawn at random, on a tensor that holds pixels."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from helpers.draws import Draws, ratios
from helpers.onnx_networks import Network

TYPES = (("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8"))  # of activations and weights


class Drawn(Draws, Network):
    """A network in the making; what `tensor` returns is some of the pixels' channel 0."""

    def __init__(self, draw: Callable[[Any], Any], activations: str, weights: str) -> None:
        self.draw = draw
        super().__init__(activations, weights, draw(st.integers(0, 2**32 - 1)), 1)
        self.nodes, self.constants = [], []  # without the entry of a fixed size
        self.batch: int | str = "n"
        self.shapes: dict[str, tuple[int, ...]] = {}

    def shape(self, rank: int = 3, most: int = 7) -> tuple[int, ...]:
        return tuple(self.up_to(most) for _ in range(rank))

    def level(self) -> int:
        return int(np.iinfo(self.activations).min) + self.one(0, 128, 255, self.up_to(255, 0))

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def made(self, real: str, shape: Sequence[int], scale: float) -> str:
        """A real tensor, through integers of a drawn zero point."""
        return self._through(real, shape, scale, self.level())

    def rescaled(self, real: str, shape: Sequence[int], scale: float) -> str:
        """The same where `real` is dequantized: of two ranges that share 0 alone onnxruntime makes a scale of 0."""
        return self._through(real, shape, scale, int(np.iinfo(self.activations).min) + self.up_to(254))

    def _through(self, real: str, shape: Sequence[int], scale: float, zero_point: int) -> str:
        out = self.quantized(real, float(np.float32(self.rounded(scale))), zero_point)
        self.shapes[out] = tuple(shape)
        return out

    def like(self, real: str, x: str, shape: Sequence[int]) -> str:
        """A real tensor, through integers of the scale of another."""
        out = self.quantized(real, self.scales[x], self.zero_points[x])
        self.shapes[out] = tuple(shape)
        return out

    def tensor(self, *shape: int) -> str:
        self.image = shape[0], prod(shape[1:])
        entry = self.made("pixels", (3, *self.image), self.draw(ratios) / 255)
        part = self.like(self.node("Slice", entry, *map(self.ints, ([0], [1], [1]))), entry, (1, *self.image))
        return self.like(self.node("Reshape", part, self.ints([0, *shape])), entry, shape)

    def products(self, kind: str, x: str, shape: tuple[int, ...], axis: int, out: Sequence[int], **given: Any) -> str:
        """An operator with weights, whose accumulators fill little, all or a multiple of the output's range."""
        weights, scales = self.fixed(shape, self.one(True, True, False), 0.02, axis)
        inputs = [x, weights]
        if kind != "MatMul" and self.one(True, True, False):
            inputs.append(self.bias(x, scales, shape[axis]))
        spread = self.scales[x] * float(scales.mean()) * 70 * 70 * np.sqrt(prod(shape) / shape[axis]) / 40
        real = self.node(kind, *inputs, **given)
        made = spread * self.draw(ratios)
        if kind == "MatMul" or self.one(True, False):
            return self.made(real, out, made)
        return self.quantized(self.node("Relu", real), float(np.float32(made)), int(np.iinfo(self.activations).min))

    def windows(self, size: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
        """The size of what comes out of a window that slides, and its attributes."""
        window, strides = [self.up_to(4), self.up_to(4)], [self.up_to(3), self.up_to(3)]
        dilations = [self.up_to(2), self.up_to(2)]
        pads = [self.up_to(k - 1, 0) for k in (*window, *window)]
        spans = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
        out = [(n + pads[i] + pads[i + 2] - spans[i]) // strides[i] + 1 for i, n in enumerate(size)]
        assume(min(out) >= 1)
        return out, {"kernel_shape": window, "strides": strides, "dilations": dilations, "pads": pads}


def _conv(net: Drawn) -> str:
    group = net.one(1, 1, 2, 3)
    size, channels = net.shape(2), group * net.up_to(5)
    out, given = net.windows(size)
    filters = group * net.up_to(19 // group)
    shape = filters, channels // group, *given["kernel_shape"]
    return net.products("Conv", net.tensor(channels, *size), shape, 0, (filters, *out), group=group, **given)


def _depthwise(net: Drawn) -> str:
    size, channels, multiplier = net.shape(2), net.up_to(19), net.up_to(2)
    out, given = net.windows(size)
    filters = channels * multiplier
    shape = filters, 1, *given["kernel_shape"]
    return net.products("Conv", net.tensor(channels, *size), shape, 0, (filters, *out), group=channels, **given)


def _gemm(net: Drawn) -> str:
    width, filters, turned = net.up_to(40), net.up_to(19), net.one(0, 1)
    shape = (filters, width) if turned else (width, filters)
    return net.products("Gemm", net.tensor(width), shape, 1 - turned, (filters,), transB=turned)


def _matmul(net: Drawn) -> str:
    shape, filters = net.shape(net.up_to(3)), net.up_to(19)
    return net.products("MatMul", net.tensor(*shape), (shape[-1], filters), 1, (*shape[:-1], filters))


def _of_two(kind: str) -> Callable[[Drawn], str]:
    def make(net: Drawn) -> str:
        shape = net.shape(net.up_to(3), 9)
        a = net.tensor(*shape)
        b, scale = _operand(net, a)
        spread = net.scales[a] * scale * 128 if kind == "Mul" else net.scales[a] + scale
        return net.made(net.node(kind, *net.one((a, b), (b, a))), shape, spread * net.draw(ratios))

    return make


def _operand(net: Drawn, a: str) -> tuple[str, float]:
    """The second operand and its scale: of the same shape or broadcast, of the images or constant."""
    shape = tuple(n if net.one(True, True, False) else 1 for n in net.shapes[a])
    if net.one(True, False):
        return net.like_activations((1, *shape)[net.up_to(len(shape) + 1, 0) :]), 0.01
    real = net.rescaled(_part(net, a, shape), shape, net.scales[a] * net.draw(ratios))
    return real, net.scales[real]


def _where(net: Drawn) -> str:
    shape = net.shape(net.up_to(3), 9)
    x = net.tensor(*shape)
    condition = net.node("Greater", x, net.constant(np.float32(net.scales[x] * net.up_to(9, -9))))
    y, scale = _operand(net, x)
    spread = max(net.scales[x], scale) * net.draw(ratios)
    return net.made(net.node("Where", condition, *net.one((x, y), (y, x))), shape, spread)


def _part(net: Drawn, x: str, shape: Sequence[int]) -> str:
    begin = [net.up_to(n - m, 0) for n, m in zip(net.shapes[x], shape, strict=True)]
    ends = [first + n for first, n in zip(begin, shape, strict=True)]
    axes = list(range(1, len(begin) + 1))
    return net.like(net.node("Slice", x, *map(net.ints, (begin, ends, axes))), x, shape)


def _max_pool(net: Drawn) -> str:
    size, channels = net.shape(2), net.up_to(19)
    out, given = net.windows(size)
    x = net.tensor(channels, *size)
    return net.like(net.node("MaxPool", x, **given), x, (channels, *out))


def _global_average(net: Drawn) -> str:
    shape = (net.up_to(19), *net.shape(2, 9))
    x = net.tensor(*shape)
    return net.made(net.node("GlobalAveragePool", x), (shape[0], 1, 1), net.scales[x] * net.draw(ratios))


def _concat(net: Drawn) -> str:
    shape = list(net.shape(net.up_to(3)))
    x, axis = net.tensor(*shape), net.up_to(len(shape))
    parts, total = [], 0
    for _ in range(net.up_to(4)):
        part = [*shape[: axis - 1], net.up_to(shape[axis - 1]), *shape[axis:]]
        total += part[axis - 1]
        real = _part(net, x, part)
        parts.append(net.rescaled(real, part, net.scales[x] * net.draw(ratios)) if net.one(True, False) else real)
    if net.one(True, False):
        parts.insert(net.up_to(len(parts), 0), net.like_activations((1, *part)))
        net.batch = 1  # a constant is of one image
        total += part[axis - 1]
    shape[axis - 1] = total
    assume(len(parts) > 1)
    given = axis - (len(shape) + 1) * net.one(True, False)
    return net.made(net.node("Concat", *parts, axis=given), shape, net.scales[x] * net.draw(ratios))


def _pad(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    before, after = ([0, *(net.up_to(3, 0) for _ in shape)] for _ in range(2))
    sizes = [n + a + b for n, a, b in zip(shape, before[1:], after[1:], strict=True)]
    return net.like(net.node("Pad", x, net.ints([*before, *after])), x, sizes)


def _transpose(net: Drawn) -> str:
    shape = net.shape(net.up_to(3, 2))
    order = net.draw(st.permutations(range(1, len(shape) + 1)))
    x = net.tensor(*shape)
    return net.like(net.node("Transpose", x, perm=[0, *order]), x, [shape[axis - 1] for axis in order])


def _slice(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    starts, ends = ([net.up_to(n, -n) for n in shape] for _ in range(2))
    axes, steps = [*range(1, len(shape) + 1)], [net.one(1, 1, 2, 3) for _ in shape]
    cuts = [slice(*three) for three in zip(starts, ends, steps, strict=True)]
    out = np.empty(shape)[tuple(cuts)].shape
    assume(min(out) >= 1)
    return net.like(net.node("Slice", x, *map(net.ints, (starts, ends, axes, steps))), x, out)


def _reshape(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    out = net.other_shape(shape)
    x = net.tensor(*shape)
    return net.like(net.node("Reshape", x, net.ints([net.one(0, -1), *out])), x, out)


def _flatten(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    return net.like(net.node("Flatten", x), x, (prod(shape),))


def _of_one(kind: str) -> Callable[[Drawn], str]:
    def make(net: Drawn) -> str:
        x = net.tensor(*net.shape(net.up_to(3), 9))
        given = {"alpha": net.draw(st.floats(1 / 64, 0.875, width=32))} if kind == "LeakyRelu" else {}
        spread = 1 / 256 if kind == "Sigmoid" else net.scales[x]
        return net.made(net.node(kind, x, **given), net.shapes[x], spread * net.draw(ratios))

    return make


OPERATORS: dict[str, Callable[[Drawn], str]] = {
    "Conv": _conv, "Conv (depthwise)": _depthwise, "Gemm": _gemm, "MatMul": _matmul,
    **{kind: _of_two(kind) for kind in ("Add", "Mul")},
    "MaxPool": _max_pool, "GlobalAveragePool": _global_average,
    "Concat": _concat, "Where": _where, "Pad": _pad, "Transpose": _transpose, "Slice": _slice,
    "Reshape": _reshape, "Flatten": _flatten,
    **{kind: _of_one(kind) for kind in ("Sigmoid", "LeakyRelu")},
}  # fmt: skip
