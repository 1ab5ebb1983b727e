"""Operators that resize, split, shuffle and average images, drawn at random; the others are those of their format."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume

from helpers import drawn_onnx, drawn_tflite
from helpers.drawn_tflite import SAME, VALID
from helpers.draws import ratios


def _transposed(net: drawn_tflite.Drawn) -> str:
    (height, width), channels, filters = net.shape(2), net.up_to(8), net.up_to(19)
    window, stride, padding = (net.up_to(4), net.up_to(4)), (net.up_to(3), net.up_to(3)), net.one(SAME, VALID)
    sides = [
        n * s if padding == SAME else (n - 1) * s + k + net.up_to(s - 1, 0)
        for n, s, k in zip((height, width), stride, window, strict=True)
    ]
    assume(all(k >= s for k, s in zip(window, stride, strict=True)))
    given = {"padding": padding, "strideH": stride[0], "strideW": stride[1]}
    out = net.products(
        "TRANSPOSE_CONV", net.tensor(height, width, channels), (filters, *window, channels), 0, (*sides, filters),
        "TransposeConv", **given,
    )  # fmt: skip
    op = net.ops.pop()
    x, *parameters = op.inputs
    shape = net.constant(np.array([1, *sides, filters]), "int32")
    net.ops.append(op._replace(inputs=(shape, parameters[0], x, *parameters[1:])))
    return out


def _nearest(net: drawn_tflite.Drawn) -> str:
    *size, channels = (*net.shape(2), net.up_to(9))
    sides = [net.up_to(14), net.up_to(14)]
    mode = net.one({}, {"halfPixelCenters": True}, {"alignCorners": True})
    return net.moved(
        "RESIZE_NEAREST_NEIGHBOR", net.tensor(*size, channels), (1, *sides, channels), sides,
        options="ResizeNearestNeighbor", **mode,
    )  # fmt: skip


def _split(net: drawn_tflite.Drawn) -> str:
    """The parts change places."""
    parts, shape = net.up_to(3), list(net.shape(net.up_to(3), 4))
    axis = net.up_to(len(shape))
    sizes = [net.up_to(3)] * parts
    even = net.one(True, False)
    if not even:
        sizes = [net.up_to(3) for _ in sizes]
    shape[axis - 1] = sum(sizes)
    x = net.tensor(*shape)
    made = tuple(net.like(x, 1, *shape[: axis - 1], n, *shape[axis:]) for n in sizes)
    along = net.constant(np.array(axis - (len(shape) + 1) * net.one(True, False)), "int32")
    if even:
        net.add("SPLIT", (along, x), made, "Split", numSplits=parts)
    else:
        net.add("SPLIT_V", (x, net.constant(np.array(sizes), "int32"), along), made, "SplitV", numSplits=parts)
    return net.add("CONCATENATION", made[::-1], net.like(x, 1, *shape), "Concatenation", axis=axis)


def _depth_to_space(net: drawn_tflite.Drawn) -> str:
    (height, width), channels, block = net.shape(2, 4), net.up_to(3), net.up_to(3)
    x = net.tensor(height, width, channels * block**2)
    shape = (1, height * block, width * block, channels)
    return net.moved("DEPTH_TO_SPACE", x, shape, options="DepthToSpace", blockSize=block)


def _average(net: drawn_onnx.Drawn) -> str:
    size, channels = net.shape(2), net.up_to(19)
    out, given = net.windows(size)
    assume(given.pop("dilations") == [1, 1])
    x = net.tensor(channels, *size)
    real = net.node("AveragePool", x, count_include_pad=net.one(0, 1), **given)
    return net.made(real, (channels, *out), net.scales[x] * net.draw(ratios))


def _resize(net: drawn_onnx.Drawn) -> str:
    shape = (net.up_to(9), *net.shape(2))
    x, times = net.tensor(*shape), [net.up_to(3), net.up_to(3)]
    empty, scales = net.constant(np.zeros(0, np.float32)), net.constant(np.float32([1, 1, *times]))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return net.like(net.node("Resize", x, empty, scales, **how), x, (shape[0], *np.multiply(shape[1:], times)))


def _depth_to_space_onnx(net: drawn_onnx.Drawn) -> str:
    block, channels, size = net.up_to(3), net.up_to(3), net.shape(2, 4)
    x = net.tensor(channels * block**2, *size)
    real = net.node("DepthToSpace", x, blocksize=block, mode=net.one("CRD", "DCR"))
    return net.like(real, x, (channels, *(n * block for n in size)))


Operators = dict[str, Callable[[Any], str]]
TFLITE: Operators = drawn_tflite.OPERATORS | {
    "TRANSPOSE_CONV": _transposed, "RESIZE_NEAREST_NEIGHBOR": _nearest, "SPLIT": _split,
    "DEPTH_TO_SPACE": _depth_to_space,
}  # fmt: skip
ONNX: Operators = drawn_onnx.OPERATORS | {
    "AveragePool": _average, "Resize": _resize, "DepthToSpace": _depth_to_space_onnx,
}  # fmt: skip
