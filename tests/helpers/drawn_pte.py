"""XNNPACK's nodes in ``.pte`` files, drawn at random, on a tensor of drawn shape that holds pixels."""

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from helpers.draws import Draws, ratios, scales
from helpers.pte_graphs import INPUT, OUTPUT, Graph

LEAST, MOST = -128, 127
SIDES = ("top", "right", "bottom", "left")


class Drawn(Draws, Graph):
    """A file in the making: `tensor` returns some of the pixels, `last` lets a tensor leave the file."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        super().__init__()
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.image = (0, 0)

    def activation(self, shape: Sequence[int], scale: float) -> int:
        """An activation of a drawn zero point, often of a round scale, at which results lie between two integers."""
        level = self.one(LEAST, 0, MOST, self.up_to(MOST, LEAST))
        return self.integers((1, *shape), float(np.float32(self.rounded(scale))), level)

    def like(self, x: int, *shape: int) -> int:
        return self.integers((1, *shape), self.tensors[x].scale, self.tensors[x].zero_point)

    def shape_of(self, x: int) -> tuple[int, ...]:
        return self.tensors[x].shape[1:]

    def shape(self, rank: int = 3, most: int = 7) -> tuple[int, ...]:
        return tuple(self.up_to(most if axis else 6) for axis in range(rank))

    def limits(self, out: int) -> tuple[float, float] | None:
        """A fused activation: none, ReLU, ReLU6 or another clip, whose ends may lie between two integers."""
        low, high = sorted(self.up_to(200, -200) / 2 * self.tensors[out].scale for _ in range(2))
        assume(low < high)
        clips = (None, None, (0.0, inf), (0.0, 6.0), (-inf, inf), (low, high), (low, inf))
        return self.one(*clips)

    def tensor(self, *shape: int) -> int:
        """The first channel of the image in a tensor of a shape."""
        self.image = (shape[0], prod(shape[1:]))
        height, width = self.image
        image = self.reals(1, 3, height, width, flags=INPUT)
        x = self.node("Convert", self.activation((3, height, width), self.draw(scales)), image)
        return self.reshaped(self.cut(x, (1, height, width), (0, 0, 0)), shape)

    def reshaped(self, x: int, shape: Sequence[int]) -> int:
        out = self.like(x, *shape)
        return self.node("StaticReshape", out, x, num_dims=1 + len(shape), new_shape=[1, *shape])

    def cut(self, x: int, shape: Sequence[int], begin: Sequence[int]) -> int:
        settings = {"num_dims": 1 + len(shape), "offsets": [0, *begin], "sizes": [1, *shape]}
        return self.node("StaticSlice", self.like(x, *shape), x, **settings)

    def part(self, x: int, shape: Sequence[int]) -> int:
        return self.cut(x, shape, [self.up_to(n - m, 0) for n, m in zip(self.shape_of(x), shape, strict=True)])

    def rescaled(self, x: int, ratio: float) -> int:
        out = self.activation(self.shape_of(x), self.tensors[x].scale * min(max(ratio, 1 / 64), 64))
        return self.node("Convert", out, x)

    def turned(self, x: int, order: Sequence[int]) -> int:
        out = self.like(x, *(self.tensors[x].shape[axis] for axis in order))
        return self.node("StaticTranspose", out, x, num_dims=1 + len(order), perm=[0, *order])

    def products(self, name: str, x: int, shape: tuple[int, ...], axis: int, out: Sequence[int], **given: Any) -> int:
        """A node with weights, whose accumulators fill little, all or a multiple of the output's range."""
        channels, values = shape[axis], self.random.integers(LEAST + 1, MOST + 1, shape).astype(np.int8)
        if self.one(False, False, True):
            values = self.random.choice([LEAST + 1, MOST], shape).astype(np.int8)
        per_channel = self.one(True, True, False)
        by = self.random.uniform(0.002, 0.02, channels if per_channel else 1).astype(np.float32)
        products = np.float32(self.tensors[x].scale) * by
        operands = [self.constant(values, by if per_channel else by[0], axis=axis)]
        if self.one(True, True, False):
            most = self.one(2000, 2**20)
            added = self.random.integers(-most, most, channels).astype(np.int32)
            operands.append(self.constant(added, products if per_channel else products[0]))
        spread = 70 * 70 * np.sqrt(prod(shape) / channels) * float(products.mean()) / 40
        to = self.activation(out, spread * self.draw(ratios))
        return self.node(name, to, x, *operands, limits=self.limits(to), **given)

    def windows(self, sides: Sequence[int], span: str, step: str) -> tuple[list[int], list[int], dict[str, int]]:
        """The window, the size of what comes out, and the settings of a node that slides a window."""
        window, stride, dilation = ([self.up_to(n), self.up_to(n)] for n in (4, 3, self.one(1, 1, 3)))
        pads = {side: self.up_to(2, 0) for side in SIDES}
        whole = [sides[0] + pads["top"] + pads["bottom"], sides[1] + pads["left"] + pads["right"]]
        out = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(whole, window, dilation, stride, strict=True)]
        assume(min(out) >= 1)
        settings = {f"padding_{side}": n for side, n in pads.items()}
        for name, pair in ((span, window), (step, stride), ("dilation", dilation)):
            settings |= {f"{name}_height": pair[0], f"{name}_width": pair[1]}
        return window, out, settings

    def last(self, x: int) -> int:
        """Dequantize a tensor, which leaves the file."""
        return self.node("Convert", self.reals(*self.tensors[x].shape, flags=OUTPUT), x)


def _conv(net: Drawn) -> int:
    groups = net.one(1, 1, 2, 3)
    height, width, channels = *net.shape(2), groups * net.up_to(5)
    window, out, settings = net.windows((height, width), "kernel", "subsampling")
    filters = net.up_to(19 // groups)
    shape = groups * filters, *window, channels // groups
    settings |= {"groups": groups, "group_input_channels": channels // groups, "group_output_channels": filters}
    return net.products("Conv2d", net.tensor(height, width, channels), shape, 0, (*out, shape[0]), **settings)


def _depthwise(net: Drawn) -> int:
    height, width, channels, filters = *net.shape(2), net.up_to(19), net.up_to(3)
    window, out, settings = net.windows((height, width), "kernel", "subsampling")
    shape = 1, *window, channels * filters
    settings |= {"groups": channels, "group_input_channels": 1, "group_output_channels": filters}
    return net.products("DepthwiseConv2d", net.tensor(height, width, channels), shape, 3, (*out, shape[3]), **settings)


def _transposed_conv(net: Drawn) -> int:
    height, width, channels, filters = *net.shape(2), net.up_to(8), net.up_to(19)
    window, stride = [net.up_to(4), net.up_to(4)], [net.up_to(3), net.up_to(3)]
    pads = {side: net.up_to(1, 0) for side in SIDES}
    spare = [net.up_to(n - 1, 0) for n in stride]
    removed = pads["top"] + pads["bottom"], pads["left"] + pads["right"]
    out = [
        (n - 1) * s + more + k - cut
        for n, s, more, k, cut in zip((height, width), stride, spare, window, removed, strict=True)
    ]
    assume(min(out) >= 1)
    settings = {f"padding_{side}": n for side, n in pads.items()} | {"groups": 1, "group_input_channels": channels}
    for name, pair in (("kernel", window), ("subsampling", stride), ("dilation", (1, 1)), ("adjustment", spare)):
        settings |= {f"{name}_height": pair[0], f"{name}_width": pair[1]}
    x, shape = net.tensor(height, width, channels), (filters, *window, channels)
    return net.products("ConvTranspose2d", x, shape, 0, (*out, filters), group_output_channels=filters, **settings)


def _dense(net: Drawn) -> int:
    shape, filters = net.shape(net.up_to(3)), net.up_to(19)
    return net.products("FullyConnected", net.tensor(*shape), (filters, shape[-1]), 0, (*shape[:-1], filters))


def _of_two(name: str) -> Callable[[Drawn], int]:
    def make(net: Drawn) -> int:
        shape = net.shape(net.up_to(3), 9)
        a = net.tensor(*shape)
        b = _operand(net, a)
        sizes = net.tensors[a].scale, net.tensors[b].scale
        out = net.activation(shape, (prod(sizes) * 128 if name == "Multiply" else sum(sizes)) * net.draw(ratios))
        return net.node(name, out, *net.one((a, b), (b, a)), limits=net.limits(out))

    return make


def _operand(net: Drawn, a: int) -> int:
    """The second operand: of the same shape or broadcast, of the images or constant."""
    shape = [n if net.one(True, True, False) else 1 for n in net.shape_of(a)]
    if net.one(True, False):
        values = net.random.integers(LEAST, MOST + 1, (1, *shape)).astype(np.int8)
        return net.constant(values, net.draw(scales), net.up_to(MOST, LEAST))
    return net.rescaled(net.part(a, shape), net.draw(ratios))


def _global_average(net: Drawn) -> int:
    height, width, channels = *net.shape(2, 9), net.up_to(35)
    x = net.tensor(height, width, channels)
    same = net.like(x, 1, 1, channels)
    out = same if net.one(True, False) else net.activation((1, 1, channels), net.tensors[x].scale * net.draw(ratios))
    return net.node("GlobalAvgPooling2d", out, x, flags=0x40)


def _max_pool(net: Drawn) -> int:
    height, width, channels = *net.shape(2), net.up_to(19)
    window, out, settings = net.windows((height, width), "pooling", "stride")
    pads = [settings[f"padding_{side}"] for side in SIDES]
    assume(window != [1, 1] and max(pads[0], pads[2]) < window[0] and max(pads[1], pads[3]) < window[1])
    x = net.tensor(height, width, channels)
    to = net.like(x, *out, channels)
    return net.node("MaxPooling2d", to, x, limits=net.limits(to), flags=0x40, **settings)


def _clamp(net: Drawn) -> int:
    x = net.tensor(*net.shape(net.up_to(3), 9))
    out = net.like(x, *net.shape_of(x))
    return net.node("Clamp", out, x, limits=net.limits(out) or (0.0, inf))


def _concat(count: int) -> Callable[[Drawn], int]:
    def make(net: Drawn) -> int:
        shape = list(net.shape(net.up_to(3)))
        x, axis = net.tensor(*shape), net.up_to(len(shape))
        sizes = [net.up_to(shape[axis - 1]) for _ in range(count)]
        parts = [net.part(x, [*shape[: axis - 1], size, *shape[axis:]]) for size in sizes]
        shape[axis - 1] = sum(sizes)
        return net.node(f"Concatenate{count}", net.like(x, *shape), *parts, axis=axis)

    return make


def _pad(net: Drawn) -> int:
    """Padding by zero or another real number, of integers or of reals."""
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    before, after = ([0, *(net.up_to(3, 0) for _ in shape)] for _ in range(2))
    whole = [n + a + b for n, a, b in zip(net.tensors[x].shape, before, after, strict=True)]
    value = net.one(0.0, 0.0, float(np.float32(net.draw(st.floats(-300, 300)) * net.tensors[x].scale)))
    settings = {"pre_paddings": before, "post_paddings": after, "padding_value": value}
    if net.one(True, False):
        return net.node("StaticConstantPad", net.like(x, *whole[1:]), x, **settings)
    reals = net.node(
        "StaticConstantPad", net.reals(*whole), net.node("Convert", net.reals(*net.tensors[x].shape), x), **settings
    )
    return net.node("Convert", net.activation(whole[1:], net.tensors[x].scale * net.draw(ratios)), reals)


def _convert(net: Drawn) -> int:
    """A rescaling of integers, or by way of reals."""
    x = net.tensor(*net.shape(net.up_to(3), 9))
    out = net.activation(net.shape_of(x), net.tensors[x].scale * net.draw(ratios))
    by_reals = net.one(True, False)
    return net.node("Convert", out, net.node("Convert", net.reals(*net.tensors[x].shape), x) if by_reals else x)


def _transpose(net: Drawn) -> int:
    shape = net.shape(net.up_to(3, 2))
    return net.turned(net.tensor(*shape), net.draw(st.permutations(range(1, len(shape) + 1))))


def _slice(net: Drawn) -> int:
    shape = net.shape(net.up_to(3))
    return net.part(net.tensor(*shape), [net.up_to(n) for n in shape])


def _reshape(net: Drawn) -> int:
    shape = net.shape(net.up_to(3))
    wanted = net.other_shape(shape)
    return net.reshaped(net.tensor(*shape), wanted)


def _copy(net: Drawn) -> int:
    x = net.tensor(*net.shape(net.up_to(3)))
    return net.node("Copy", net.like(x, *net.shape_of(x)), x)


OPERATORS: dict[str, Callable[[Drawn], int]] = {
    "Conv2d": _conv, "DepthwiseConv2d": _depthwise, "ConvTranspose2d": _transposed_conv, "FullyConnected": _dense,
    **{name: _of_two(name) for name in ("Add", "Subtract", "Multiply")}, "GlobalAvgPooling2d": _global_average,
    "MaxPooling2d": _max_pool, "Clamp": _clamp, **{f"Concatenate{n}": _concat(n) for n in (2, 3, 4, 5)},
    "StaticConstantPad": _pad, "Convert": _convert, "StaticTranspose": _transpose, "StaticSlice": _slice,
    "StaticReshape": _reshape, "Copy": _copy,
}  # fmt: skip
