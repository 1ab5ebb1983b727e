"""Convert TFLite's operators to layers, by name, with the arithmetic of the chosen kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError
from exporters.files.description import Operator
from exporters.files.description import Tensor as FileTensor
from patches.twins import tflite_kernels as kernel
from patches.twins.layers import Concat, Function, IntegerProducts, Multiply, Rounded, Sequential, WithConstant
from patches.twins.network import Quant

SAME, NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 0, 1, 2, 3  # the schema's numbers


def quant_of(tensor: FileTensor, path: Path) -> Quant:
    """Return the quantization of an 8-bit tensor; any other tensor is a `UserError`."""
    if len(tensor.scale) != 1 or tensor.dtype not in ("int8", "uint8"):
        raise UserError(f"{path}: expected 8-bit integers with one scale, but {tensor.name!r} is {tensor.dtype}")
    limits = np.iinfo(tensor.dtype)
    return Quant(float(np.float32(tensor.scale[0])), tensor.zero_point[0], int(limits.min), int(limits.max))


def _bounds(operator: Operator, out: Quant) -> tuple[int, int]:
    """Return the lowest and highest step that the fused activation lets through."""
    low, high = out.bounds
    activation = operator.attributes.get("fusedActivationFunction", NONE)
    if activation not in (NONE, RELU, RELU_N1_TO_1, RELU6):
        raise UserError(f"operator {operator.index}, {operator.name}: fused activation {activation} has no twin yet")
    one, six = (int(np.floor(np.float32(real) / np.float32(out.scale) + np.float32(0.5))) for real in (1, 6))
    if activation != NONE:
        low = max(low, -one if activation == RELU_N1_TO_1 else 0)
    if activation in (RELU6, RELU_N1_TO_1):
        high = min(high, six if activation == RELU6 else one)
    return low, high


def _convolution(operator: Operator, kernels: str, path: Path) -> nn.Module:
    settings, (x, weights, *bias) = operator.attributes, operator.inputs
    quant, out = quant_of(x, path), quant_of(operator.outputs[0], path)
    channels = (x.shape or ())[3]
    values = _weights(weights, path)
    values = values.transpose((3, 0, 1, 2) if operator.name == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2))
    groups = channels // values.shape[1]
    stride = settings["strideH"], settings["strideW"]
    dilation = settings.get("dilationHFactor", 1), settings.get("dilationWFactor", 1)
    pads = _pads(operator, values.shape[2:], stride, dilation)
    added = bias[0].values if bias else None
    sums = IntegerProducts(values, added, _largest(quant), stride, pads, dilation, groups)
    return Sequential(
        Function(Tensor.permute, 0, 3, 1, 2),
        sums,
        Function(Tensor.permute, 0, 2, 3, 1),
        _scaled(operator, kernels, quant, weights, out),
    )


def _fully_connected(operator: Operator, kernels: str, path: Path) -> nn.Module:
    x, weights, *bias = operator.inputs
    quant, out = quant_of(x, path), quant_of(operator.outputs[0], path)
    values = _weights(weights, path)
    sums = IntegerProducts(values, bias[0].values if bias else None, _largest(quant))
    return Sequential(
        Function(Tensor.reshape, -1, values.shape[1]), sums, _scaled(operator, kernels, quant, weights, out)
    )


def _scaled(operator: Operator, kernels: str, x: Quant, weights: FileTensor, out: Quant) -> nn.Module:
    slope = torch.tensor(x.scale * np.array(weights.scale) / out.scale, dtype=torch.float32)
    channels = (operator.outputs[0].shape or ())[-1]
    arithmetic = kernel.scale_products(kernels, operator.name, x, weights.scale, out, channels)
    return Rounded(arithmetic, _bounds(operator, out), (slope,))


def _weights(weights: FileTensor, path: Path) -> np.ndarray:
    if weights.values is None or weights.dtype not in ("int4", "int8", "uint8"):
        raise UserError(f"{path}: expected constant weights of 8 or 4 bits, but {weights.name!r} is {weights.dtype}")
    zero_points = np.array(weights.zero_point, np.int64)
    shape = [-1 if axis == weights.axis else 1 for axis in range(weights.values.ndim)]
    return weights.values.astype(np.int64) - zero_points.reshape(shape if zero_points.size > 1 else ())


def _largest(quant: Quant) -> int:
    return max(map(abs, quant.bounds))


def _pads(
    operator: Operator, window: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> tuple[int, int, int, int]:
    """Return the padding: left, right, top, bottom."""
    if operator.attributes["padding"] != SAME:
        return 0, 0, 0, 0
    sides = []
    for size, span, step, spread in zip((operator.inputs[0].shape or ())[1:3], window, stride, dilation, strict=True):
        needed = max((-(-size // step) - 1) * step + (span - 1) * spread + 1 - size, 0)
        sides.append((needed // 2, needed - needed // 2))
    return (*sides[1], *sides[0])


def _add_or_multiply(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert an addition or multiplication, of which one operand may be a constant."""
    a, b = (quant_of(t, path) for t in operator.inputs)
    out = quant_of(operator.outputs[0], path)
    bounds = _bounds(operator, out)
    if operator.name == "ADD":
        slopes = a.scale / out.scale, b.scale / out.scale
        layer: nn.Module = Rounded(kernel.add(kernels, a, b, out, _contiguous(operator)), bounds, slopes)
    else:
        layer = Multiply(kernel.scale_product(kernels, a, b, out), bounds, a.scale * b.scale / out.scale)
    for position, (tensor, quant) in enumerate(zip(operator.inputs, (a, b), strict=True)):
        if tensor.values is not None:
            fixed = torch.from_numpy(tensor.values.astype(np.float32)) - quant.zero_point
            layer = WithConstant(layer, fixed, position)
    return layer


def _contiguous(operator: Operator) -> int:
    """Return how many elements of an addition are contiguous: an image's, those of its last axis, or one."""
    (a, b), out = (t.shape or () for t in operator.inputs), operator.outputs[0].shape or ()
    if a[1:] == b[1:]:
        return int(np.prod(out[1:]))
    return out[-1] if a[-1:] == b[-1:] else 1


def _requantize(operator: Operator, kernels: str, path: Path) -> nn.Module:
    x, out = quant_of(operator.inputs[0], path), quant_of(operator.outputs[0], path)
    return Rounded(kernel.requantize(kernels, x, out), out.bounds, (x.scale / out.scale,))


def _mean(operator: Operator, kernels: str, path: Path) -> nn.Module:
    tensor = operator.inputs[0]
    keep = bool(operator.attributes["keepDims"])
    x, out, shape = quant_of(tensor, path), quant_of(operator.outputs[0], path), tensor.shape or ()
    axes = sorted({int(a) % len(shape) for a in np.ravel(_constant(operator, 1, path))})
    n = int(np.prod([shape[a] for a in axes]))
    arithmetic = kernel.mean(kernels, x, out, n, shape[3] if keep and len(shape) == 4 and axes == [1, 2] else None)
    return Sequential(Function(Tensor.sum, axes, keep), Rounded(arithmetic, out.bounds, (x.scale / out.scale / n,)))


def _average_pool(operator: Operator, kernels: str, path: Path) -> nn.Module:
    out, shape = quant_of(operator.outputs[0], path), operator.inputs[0].shape or ()
    window, stride, pads = _window(operator)
    pool = Function(functional.avg_pool2d, window, stride, divisor_override=1)
    sums = Sequential(
        Function(Tensor.permute, 0, 3, 1, 2), Function(functional.pad, pads), pool, Function(Tensor.permute, 0, 2, 3, 1)
    )
    counts = sums(torch.ones(1, *shape[1:3], 1))
    return Sequential(sums, Rounded(kernel.Average(out, counts), _bounds(operator, out), (1 / counts,)))


def _max_pool(operator: Operator, kernels: str, path: Path) -> nn.Module:
    low, high = _bounds(operator, quant_of(operator.outputs[0], path))
    window, stride, pads = _window(operator)
    pool = Function(functional.max_pool2d, window, stride)
    padded = Function(functional.pad, pads, value=-256.0)  # below every step
    clipped = Function(Tensor.clamp, low, high)
    return Sequential(Function(Tensor.permute, 0, 3, 1, 2), padded, pool, Function(Tensor.permute, 0, 2, 3, 1), clipped)


def _window(operator: Operator) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    settings = operator.attributes
    window = settings["filterHeight"], settings["filterWidth"]
    stride = settings["strideH"], settings["strideW"]
    return window, stride, _pads(operator, window, stride)


def _pad(operator: Operator, kernels: str, path: Path) -> nn.Module:
    quant = quant_of(operator.outputs[0], path)
    widths = [int(n) for row in reversed(_constant(operator, 1, path)) for n in row]
    value = float(np.ravel(_constant(operator, 2, path))[0]) - quant.zero_point if len(operator.inputs) > 2 else 0.0
    return Function(functional.pad, widths, value=value)


def _slice(operator: Operator, kernels: str, path: Path) -> nn.Module:
    shape, settings = operator.inputs[0].shape or (), operator.attributes
    first, second = (np.ravel(_constant(operator, i, path)).tolist() for i in (1, 2))
    if operator.name == "SLICE":
        cuts = [slice(a, None if n < 0 else a + n) for a, n in zip(first, second, strict=True)]
    else:
        if any(settings.get(mask) for mask in ("ellipsisMask", "newAxisMask", "shrinkAxisMask", "offset")):
            raise UserError(f"{path}: STRIDED_SLICE (number {operator.index}) that changes the rank has no twin yet")
        strides = np.ravel(_constant(operator, 3, path)).tolist()
        begin, end = settings.get("beginMask", 0), settings.get("endMask", 0)
        cuts = [
            slice(None if begin >> i & 1 else first[i], None if end >> i & 1 else second[i], strides[i])
            for i in range(len(shape))
        ]
    return Function(Tensor.__getitem__, (slice(None), *cuts[1:]))


def _transpose(operator: Operator, kernels: str, path: Path) -> nn.Module:
    return Function(Tensor.permute, *np.ravel(_constant(operator, 1, path)).tolist())


def _reshape(operator: Operator, kernels: str, path: Path) -> nn.Module:
    return Function(lambda x, *shape: x.reshape(len(x), *shape), *(operator.outputs[0].shape or ())[1:])


def _concat(operator: Operator, kernels: str, path: Path) -> nn.Module:
    scales = {(t.scale, t.zero_point) for t in (*operator.inputs, *operator.outputs)}
    if len(scales) > 1:
        raise UserError(f"{path}: {operator.name} (number {operator.index}) of different scales has no twin yet")
    return Concat(operator.attributes["axis"])


def _constant(operator: Operator, position: int, path: Path) -> np.ndarray:
    values = operator.inputs[position].values if position < len(operator.inputs) else None
    if values is None:
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected constant parameters")
    return values


LAYERS: dict[str, Callable[[Operator, str, Path], nn.Module]] = {
    "CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _convolution, "FULLY_CONNECTED": _fully_connected,
    "ADD": _add_or_multiply, "MUL": _add_or_multiply, "QUANTIZE": _requantize, "MEAN": _mean,
    "AVERAGE_POOL_2D": _average_pool, "MAX_POOL_2D": _max_pool, "CONCATENATION": _concat, "PAD": _pad, "PADV2": _pad,
    "SLICE": _slice, "STRIDED_SLICE": _slice, "TRANSPOSE": _transpose, "RESHAPE": _reshape, "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
}  # fmt: skip
