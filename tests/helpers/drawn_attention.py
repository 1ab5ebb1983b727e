"""Operators of attention and normalisation, drawn at random: TFLite's and ONNX's."""

from collections.abc import Callable

from hypothesis import assume

from helpers import drawn_onnx, drawn_tflite
from helpers.draws import ratios


def _batch_matmul(net: drawn_tflite.Drawn) -> str:
    """Of a tensor and part of it, either of which may be turned."""
    rows, width, columns = net.up_to(6), net.up_to(20), net.up_to(9)
    turned = net.one(True, False), net.one(True, False)
    a = net.tensor(rows, width)
    whole = net.reshaped(a, (1, rows, width))
    left = _turned(net, whole, (rows, width)) if turned[0] else whole
    b = net.rescaled(whole, net.draw(ratios))
    b = b if turned[1] else _turned(net, b, (rows, width))  # (1, width, rows), or as adjY has it
    assume(columns)
    scale = net.scale_of(a) * net.scale_of(b) * 40 * net.draw(ratios)
    out = net.made((1, 1, rows, rows), scale)
    return net.add("BATCH_MATMUL", (left, b), out, "BatchMatMul", adjX=turned[0], adjY=turned[1])


def _turned(net: drawn_tflite.Drawn, x: str, shape: tuple[int, int]) -> str:
    return net.moved("TRANSPOSE", x, (1, 1, shape[1], shape[0]), (0, 1, 3, 2), options="Transpose")


def _softmax(net: drawn_tflite.Drawn) -> str:
    shape = net.shape(net.up_to(3), 30)
    out = net.activation((1, *shape), 1 / 256, net.lowest)
    return net.add("SOFTMAX", (net.tensor(*shape),), out, "Softmax", beta=net.one(1.0, 0.5))


def _squared_difference(net: drawn_tflite.Drawn) -> str:
    a = net.tensor(*net.shape(net.up_to(3), 9))
    b = net.rescaled(a, net.draw(ratios))
    scale = max(net.scale_of(a), net.scale_of(b))
    out = net.made((1, *net.shape_of(a)), scale * scale * 100 * net.draw(ratios))
    return net.add("SQUARED_DIFFERENCE", (a, b), out, "SquaredDifference")


def _rsqrt(net: drawn_tflite.Drawn) -> str:
    """Of what is not negative: it has no other."""
    x = net.tensor(*net.shape(net.up_to(3), 9))
    positive = net.activation((1, *net.shape_of(x)), net.scale_of(x), net.lowest)
    x = net.add("QUANTIZE", (x,), positive, "Quantize")
    return net.add("RSQRT", (x,), net.made((1, *net.shape_of(x)), 0.01 * net.draw(ratios)))


def _matmul(net: drawn_onnx.Drawn) -> str:
    shape = net.up_to(3), net.up_to(6), net.up_to(20)
    a = net.tensor(*shape)
    b = net.rescaled(net.node("Transpose", a, perm=[0, 1, 3, 2]), shape, net.scales[a] * net.draw(ratios))
    scale = net.scales[a] * net.scales[b] * 40 * net.draw(ratios)
    return net.made(net.node("MatMul", *net.one((a, b), (b, a))), shape, scale)


def _onnx_softmax(net: drawn_onnx.Drawn) -> str:
    shape = net.shape(net.up_to(3), 30)
    x = net.tensor(*shape)
    axis = net.one(-1, len(shape))
    return net.made(net.node("Softmax", x, axis=axis), shape, net.draw(ratios) / 256)


TFLITE: dict[str, Callable[[drawn_tflite.Drawn], str]] = {
    "BATCH_MATMUL": _batch_matmul, "SOFTMAX": _softmax, "SQUARED_DIFFERENCE": _squared_difference, "RSQRT": _rsqrt,
}  # fmt: skip
INT8 = ("BATCH_MATMUL", "SQUARED_DIFFERENCE", "RSQRT")  # which TFLite computes in no other 8-bit integers
ONNX: dict[str, Callable[[drawn_onnx.Drawn], str]] = {"MatMul (of two)": _matmul, "Softmax": _onnx_softmax}
