"""TFLite operators drawn at random, on a tensor of drawn shape that holds pixels."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from helpers.draws import Draws, ratios, scales
from helpers.tflite_networks import T
from helpers.twin_networks import Network

FIXED = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # scale and zero point of int8 that TFLite prescribes
OPTIONS = {"LEAKY_RELU": "LeakyRelu", "GELU": "Gelu"}
ACTIVATIONS = st.sampled_from([0, 0, 1, 2, 3])  # none twice
SAME, VALID = 0, 1


class Drawn(Draws, Network):
    """A network in the making: ``x`` is an image of pixels, and what `tensor` returns is some of its channel 0."""

    def __init__(self, draw: Callable[[Any], Any], dtype: str) -> None:
        super().__init__(dtype, draw(st.integers(0, 2**32 - 1)))
        self.draw = draw

    def level(self) -> int:
        return self.lowest + self.one(0, 128, 255, self.up_to(255, 0))

    def made(self, shape: tuple[int, ...], scale: float) -> str:
        """An activation of a drawn zero point, often of a round scale, at which results lie between two integers."""
        return self.activation(shape, float(np.float32(self.rounded(scale))), self.level())

    def shape_of(self, x: str) -> tuple[int, ...]:
        return self.tensors[x].shape[1:]

    def scale_of(self, x: str) -> float:
        return self.tensors[x].scale[0]

    def shape(self, rank: int = 3, most: int = 7) -> tuple[int, ...]:
        return tuple(self.up_to(most if axis else 6) for axis in range(rank))

    def tensor(self, *shape: int) -> str:
        """Pixels in a tensor of a shape, rescaled twice, so that XNNPACK takes something in every file."""
        height, width = shape[0], prod(shape[1:])
        self.tensors["x"] = T((1, height, width, 3), self.dtype, (self.draw(scales),), (self.level(),))
        x = self.moved("SLICE", "x", (1, height, width, 1), (0, 0, 0, 0), (-1, height, width, 1), options="Slice")
        return self.rescaled(self.rescaled(self.reshaped(x, shape), 1.25), self.draw(ratios))

    def reshaped(self, x: str, shape: Sequence[int]) -> str:
        return self.moved("RESHAPE", x, (1, *shape), (-1, *shape), options="Reshape")

    def rescaled(self, x: str, ratio: float) -> str:
        out = self.made(self.tensors[x].shape, self.scale_of(x) * min(max(ratio, 1 / 64), 64))
        return self.add("QUANTIZE", (x,), out, "Quantize")

    def products(self, name: str, x: str, shape: tuple[int, ...], axis: int, out: tuple[int, ...], options: str,
                 **settings: Any) -> str:  # fmt: skip
        """An operator with weights, whose accumulators fill little, all or a multiple of the output's range."""
        channels, limits = shape[axis], np.iinfo(self.dtype)
        count = channels if self.dtype == "int8" and self.one(True, True, False) else 1
        by = self.random.uniform(0.002, 0.02, count).astype(np.float32)
        values = self.random.integers(limits.min + (self.dtype == "int8"), limits.max + 1, shape)
        if self.one(False, False, True):
            values = self.random.choice([limits.min + (self.dtype == "int8"), limits.max], shape)
        zeros = [0] * count if self.dtype == "int8" else [self.up_to(255, 0)]
        inputs = [x, self.constant(values, self.dtype, map(float, by), zeros, axis if count > 1 else 0)]
        products = [float(np.float32(self.scale_of(x)) * s) for s in by]
        if name == "DEPTHWISE_CONV_2D" or self.one(True, True, False):  # LiteRT's built-in kernel crashes without
            most = self.one(2000, 2**20)
            inputs.append(self.constant(self.random.integers(-most, most, channels), "int32", products, [0] * count))
        spread = 70 * 70 * np.sqrt(prod(shape) / channels) * float(np.mean(products)) / 40
        made = self.made((1, *out), spread * self.draw(ratios))
        return self.add(name, tuple(inputs), made, options, fusedActivationFunction=self.draw(ACTIVATIONS), **settings)

    def windows(
        self, height: int, width: int, most: int = 4
    ) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
        """The window, the size of what comes out, and the settings of an operator that slides a window."""
        window, stride = (self.up_to(4), self.up_to(4)), (self.up_to(3), self.up_to(3))
        dilation = (1, 1)
        if self.one(False, False, True):
            stride, dilation = (1, 1), (self.up_to(3), self.up_to(3))
        padding = self.one(SAME, VALID)
        spans = [(k - 1) * d + 1 if padding == VALID else 1 for k, d in zip(window, dilation, strict=True)]
        out = [-(-(n - span + 1) // s) for n, span, s in zip((height, width), spans, stride, strict=True)]
        assume(min(out) >= 1)
        settings = {"padding": padding, "strideH": stride[0], "strideW": stride[1]}
        settings |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
        return window, (out[0], out[1]), settings


def _conv(net: Drawn) -> str:
    groups = net.one(1, 1, 2, 3)
    height, width, channels = *net.shape(2), groups * net.up_to(5)
    window, out, settings = net.windows(height, width)
    filters = groups * net.up_to(19 // groups)
    shape = filters, *window, channels // groups
    return net.products("CONV_2D", net.tensor(height, width, channels), shape, 0, (*out, filters), "Conv2D", **settings)


def _depthwise(net: Drawn) -> str:
    height, width, channels, multiplier = *net.shape(2), net.up_to(19), net.up_to(3)
    window, out, settings = net.windows(height, width)
    filters = channels * multiplier
    x = net.tensor(height, width, channels)
    return net.products(
        "DEPTHWISE_CONV_2D", x, (1, *window, filters), 3, (*out, filters), "DepthwiseConv2D",
        depthMultiplier=multiplier, **settings,
    )  # fmt: skip


def _dense(net: Drawn) -> str:
    shape, filters = net.shape(net.up_to(3)), net.up_to(19)
    x = net.tensor(*shape)
    keeps = net.one(True, False)
    width = shape[-1] if keeps else prod(shape)
    out = (*shape[:-1], filters) if keeps else (filters,)
    return net.products("FULLY_CONNECTED", x, (filters, width), 0, out, "FullyConnected", keepNumDims=keeps)


def _of_two(name: str) -> Callable[[Drawn], str]:
    def make(net: Drawn) -> str:
        shape = net.shape(net.up_to(3), 9)
        a = net.tensor(*shape)
        b = _operand(net, a)
        pair = net.one((a, b), (b, a))
        sizes = net.scale_of(a), net.scale_of(b)
        spread = prod(sizes) * 128 if name == "MUL" else sum(sizes)
        out = net.made((1, *shape), spread * net.draw(ratios))
        return net.add(name, pair, out, name.title(), fusedActivationFunction=net.draw(ACTIVATIONS))

    return make


def _operand(net: Drawn, a: str) -> str:
    """The second operand: of the same shape or broadcast, of the images or constant, which may lack first axes."""
    shape = tuple(n if net.one(True, True, False) else 1 for n in net.shape_of(a))
    if net.one(True, False):
        whole = (1, *shape)[net.up_to(len(shape) + 1, 0) :]
        limits = np.iinfo(net.dtype)
        values = net.random.integers(limits.min, limits.max + 1, whole)
        return net.constant(values, net.dtype, [float(net.draw(scales))], [net.level()])
    part = a if shape == net.shape_of(a) else _part(net, a, shape)
    return net.rescaled(part, net.draw(ratios))


def _part(net: Drawn, x: str, shape: tuple[int, ...]) -> str:
    begin = [0, *(net.up_to(n - m, 0) for n, m in zip(net.shape_of(x), shape, strict=True))]
    return net.moved("SLICE", x, (1, *shape), begin, (-1, *shape), options="Slice")


def _pool(name: str) -> Callable[[Drawn], str]:
    def make(net: Drawn) -> str:
        height, width, channels = *net.shape(2), net.up_to(19)
        (tall, wide), out, settings = net.windows(height, width)
        assume(settings.pop("dilationHFactor") == settings.pop("dilationWFactor") == 1)
        x = net.tensor(height, width, channels)
        given = {"filterHeight": tall, "filterWidth": wide, "fusedActivationFunction": net.draw(ACTIVATIONS)}
        return net.add(name, (x,), net.like(x, 1, *out, channels), "Pool2D", **settings, **given)

    return make


def _mean(net: Drawn) -> str:
    shape = (*net.shape(net.up_to(2)), net.up_to(35))
    x, axes = net.tensor(*shape), net.draw(st.sets(st.integers(1, len(shape)), min_size=1))
    keeps = net.one(True, False)
    left = [1 if axis in axes else n for axis, n in enumerate(shape, 1) if keeps or axis not in axes]
    scale = net.scale_of(x) * net.draw(ratios)
    signed = [axis - (len(shape) + 1) * net.one(True, False) for axis in sorted(axes)]
    fixed = net.constant(np.array(signed), "int32")
    return net.add("MEAN", (x, fixed), net.made((1, *left), scale), "Reducer", keepDims=keeps)


def _concat(net: Drawn) -> str:
    shape = list(net.shape(net.up_to(3)))
    x, axis = net.tensor(*shape), net.up_to(len(shape))
    parts, total = [], 0
    for _ in range(net.up_to(4)):
        part = [*shape[: axis - 1], net.up_to(shape[axis - 1]), *shape[axis:]]
        total += part[axis - 1]
        if net.one(True, True, False):
            parts.append(_part(net, x, tuple(part)))
        else:
            values = net.random.integers(net.lowest, net.lowest + 256, (1, *part))
            parts.append(net.constant(values, net.dtype, net.tensors[x].scale, net.tensors[x].zero_point))
    assume(any(part.startswith("t") for part in parts))
    shape[axis - 1] = total
    given = axis - (len(shape) + 1) * net.one(True, False)
    return net.add("CONCATENATION", tuple(parts), net.like(x, 1, *shape), "Concatenation", axis=given)


def _pad(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    pairs = [(0, 0), *((net.up_to(3, 0), net.up_to(3, 0)) for _ in shape)]
    fixed = [net.constant(np.array(pairs), "int32")]
    valued = net.one(True, False)
    if valued:
        value = net.random.integers(net.lowest, net.lowest + 256, (1,))
        fixed.append(net.constant(value, net.dtype, net.tensors[x].scale, net.tensors[x].zero_point))
    out = net.like(x, 1, *(n + sum(pair) for n, pair in zip(shape, pairs[1:], strict=True)))
    return net.add("PADV2" if valued else "PAD", (x, *fixed), out, "PadV2" if valued else "Pad")


def _transpose(net: Drawn) -> str:
    shape = net.shape(net.up_to(3, 2))
    order = net.draw(st.permutations(range(1, len(shape) + 1)))
    return net.moved(
        "TRANSPOSE", net.tensor(*shape), (1, *(shape[axis - 1] for axis in order)), (0, *order), options="Transpose"
    )


def _slice(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    return _part(net, x, tuple(net.up_to(n) for n in shape))


def _strided_slice(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    x = net.tensor(*shape)
    limits = [(0, 0), *((net.up_to(n - 1, -n), net.up_to(n, -n)) for n in shape)]
    steps = [1, *(net.one(1, 2, 3, -1, -2) for _ in shape)]
    masks = [net.up_to(2 ** len(steps) - 1, 0) | 1 for _ in range(2)]
    cuts = [
        slice(None if masks[0] >> i & 1 else first, None if masks[1] >> i & 1 else last, step)
        for i, ((first, last), step) in enumerate(zip(limits, steps, strict=True))
    ]
    out = np.empty((1, *shape))[tuple(cuts)].shape
    assume(min(out) >= 1)
    first, last = zip(*limits, strict=True)
    masked = {"beginMask": masks[0], "endMask": masks[1]}
    return net.moved("STRIDED_SLICE", x, out, first, last, steps, options="StridedSlice", **masked)


def _reshape(net: Drawn) -> str:
    shape = net.shape(net.up_to(3))
    wanted = net.other_shape(shape)
    return net.reshaped(net.tensor(*shape), wanted)


def _quantize(net: Drawn) -> str:
    x = net.tensor(*net.shape(net.up_to(3), 9))
    out = net.made((1, *net.shape_of(x)), net.scale_of(x) * net.draw(ratios))
    if net.one(True, False):  # to the other type
        other = "uint8" if net.dtype == "int8" else "int8"
        change = -net.lowest - 128 if net.dtype == "uint8" else 128
        spec = net.tensors[out]
        net.tensors[out] = spec._replace(dtype=other, zero_point=(spec.zero_point[0] + change,))
    return net.add("QUANTIZE", (x,), out, "Quantize")


def _of_one(name: str) -> Callable[[Drawn], str]:
    def make(net: Drawn) -> str:
        x = net.tensor(*net.shape(net.up_to(3), 9))
        out = net.made((1, *net.shape_of(x)), net.scale_of(x) * net.draw(ratios))
        if name in FIXED:
            scale, zero_point = FIXED[name]
            out = net.activation((1, *net.shape_of(x)), scale, net.lowest + 128 + zero_point)
        given = {"alpha": net.draw(st.floats(1 / 64, 0.875, width=32))} if name == "LEAKY_RELU" else {}
        return net.add(name, (x,), out, OPTIONS.get(name, ""), **given)

    return make


OF_ONE = ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "LEAKY_RELU", "GELU")
OPERATORS: dict[str, Callable[[Drawn], str]] = {
    "CONV_2D": _conv, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _dense,
    **{name: _of_two(name) for name in ("ADD", "SUB", "MUL")},
    **{name: _pool(name) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    "MEAN": _mean, "CONCATENATION": _concat, "PAD": _pad, "TRANSPOSE": _transpose, "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice, "RESHAPE": _reshape, "QUANTIZE": _quantize,
    **{name: _of_one(name) for name in OF_ONE},
}  # fmt: skip
