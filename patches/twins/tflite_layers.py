"""Convert TFLite's operators to layers, by name, with the arithmetic of the chosen kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from math import ceil, prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError
from exporters.files.description import Operator
from exporters.files.description import Tensor as FileTensor
from patches.twins import tflite_kernels as kernel
from patches.twins.layers import (
    Aligned,
    Function,
    IntegerProducts,
    Multiply,
    Rounded,
    Sequential,
    TransposedProducts,
    WithConstant,
    each_to,
)
from patches.twins.network import Quant
from patches.twins.tables import TFLITE_REALS, table
from patches.twins.tflite_attention import ATTENTION
from patches.twins.tflite_moves import MOVES
from patches.twins.uses import (
    bias_of,
    constant,
    constant_steps,
    has_batch,
    image_shape,
    no_twin,
    of_one,
    quant_of,
    require_same_quant,
    weight_steps,
)

SAME, NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 0, 1, 2, 3  # the schema's numbers


def _bounds(operator: Operator, out: Quant, kernels: str) -> tuple[int, int]:
    """Return the lowest and highest step that the fused activation lets through."""
    low, high = out.bounds
    activation = operator.attributes.get("fusedActivationFunction", NONE)
    if activation not in (NONE, RELU, RELU_N1_TO_1, RELU6):
        raise UserError(f"operator {operator.index}, {operator.name}: fused activation {activation} has no twin yet")
    if activation != NONE:
        low = max(low, _steps(-1, out, kernels) if activation == RELU_N1_TO_1 else 0)
    if activation in (RELU6, RELU_N1_TO_1):
        high = min(high, _steps(6 if activation == RELU6 else 1, out, kernels))
    return low, high


def _steps(real: int, out: Quant, kernels: str) -> int:
    """Return the step nearest to a number; of two LiteRT's own kernels take the farther from zero, TOSA's the lower."""
    if kernels == "xnnpack":
        return kernel.nearest(real, out)
    if kernels == "tosa":
        return ceil(real / out.scale - 0.5)
    steps = np.float32(real) / np.float32(out.scale)
    return int(np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps))


def _convolution(operator: Operator, kernels: str, path: Path) -> nn.Module:
    settings, (x, weights, *_) = operator.attributes, operator.inputs
    quant, out = quant_of(x, path), quant_of(operator.outputs[0], path)
    *_, channels = image_shape(operator, path)
    is_depthwise = operator.name == "DEPTHWISE_CONV_2D"
    values = weight_steps(operator, 3 if is_depthwise else 0, path)
    values = values.transpose((3, 0, 1, 2) if is_depthwise else (0, 3, 1, 2))
    groups, rest = divmod(channels, values.shape[1])
    if rest or len(values) % groups:
        raise no_twin(operator, path, f"of {channels} channels with weights of shape {weights.shape}")
    stride = settings["strideH"], settings["strideW"]
    dilation = settings.get("dilationHFactor", 1), settings.get("dilationWFactor", 1)
    pads = _pads(operator, values.shape[2:], stride, dilation)
    in_float32 = kernels == "xnnpack"
    sums = IntegerProducts(values, bias_of(operator, path), quant.bounds, stride, pads, dilation, groups, in_float32)
    if kernels == "builtin" and groups > 1 and not is_depthwise:
        kernels = "reference"  # the vector code knows no groups
    return Sequential(
        Function(Tensor.permute, 0, 3, 1, 2),
        sums,
        Function(Tensor.permute, 0, 2, 3, 1),
        _scaled(operator, kernels, quant, weights, out),
    )


def _transposed_convolution(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a transposed convolution, whose padding is that of the convolution it is the transpose of."""
    _, weights, x, *bias = operator.inputs
    moved = replace(operator, inputs=(x, weights, *bias))
    quant, out = quant_of(x, path), quant_of(operator.outputs[0], path)
    *_, channels = image_shape(moved, path)
    values = weight_steps(moved, 0, path).transpose(3, 0, 1, 2)
    if len(values) != channels:
        raise no_twin(operator, path, f"of {channels} channels with weights of shape {weights.shape}")
    stride = operator.attributes["strideH"], operator.attributes["strideW"]
    left, _, top, _ = _pads(replace(moved, inputs=operator.outputs), values.shape[2:], stride)
    height, width, _ = of_one(operator.outputs[0])
    sums = TransposedProducts(
        values, bias_of(moved, path), quant.bounds, stride, (top, left), (height, width), kernels == "xnnpack"
    )
    return Sequential(
        Function(Tensor.permute, 0, 3, 1, 2),
        sums,
        Function(Tensor.permute, 0, 2, 3, 1),
        _scaled(operator, kernels, quant, weights, out),
    )


def _fully_connected(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a dense layer: each row of as many numbers as there are weights for, however the axes lie."""
    x, weights, *_ = operator.inputs
    quant, out = quant_of(x, path), quant_of(operator.outputs[0], path)
    values = weight_steps(operator, 0, path)
    rows, rest = divmod(prod(of_one(x)), values.shape[1])
    if rest or prod(of_one(operator.outputs[0])) != rows * len(values) or operator.attributes.get("weightsFormat"):
        raise no_twin(operator, path, f"on a tensor of shape {x.shape} with weights of shape {weights.shape}")
    sums = IntegerProducts(values, bias_of(operator, path), quant.bounds, to_float32=kernels == "xnnpack")
    scaled = _scaled(operator, kernels, quant, weights, out)
    return Sequential(each_to(-1, values.shape[1]), sums, scaled, each_to(*of_one(operator.outputs[0])))


def _scaled(operator: Operator, kernels: str, x: Quant, weights: FileTensor, out: Quant) -> nn.Module:
    slope = torch.tensor(x.scale * np.array(weights.scale) / out.scale, dtype=torch.float32)
    shape = of_one(operator.outputs[0])
    arithmetic = kernel.scale_products(kernels, operator.name, x, weights.scale, out, shape)
    return Rounded(arithmetic, _bounds(operator, out, kernels), (slope,))


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


def _of_two(operator: Operator, kernels: str, path: Path) -> nn.Module:
    bounds = _bounds(operator, quant_of(operator.outputs[0], path), kernels)
    return of_two(operator.name, operator, kernels, bounds, _contiguous(operator), path)


def of_two(
    name: str, operator: Operator, kernels: str, bounds: tuple[int, int], contiguous: tuple[int, bool], path: Path
) -> nn.Module:
    """Convert an ``ADD``, ``SUB`` or ``MUL``, of which one operand may be a constant; see `kernel.add` for the span."""
    a, b = (quant_of(t, path) for t in operator.inputs)
    out = quant_of(operator.outputs[0], path)
    slopes = a.scale / out.scale, b.scale / out.scale
    if name == "ADD":
        layer: nn.Module = Rounded(kernel.add(kernels, a, b, out, *contiguous), bounds, slopes)
    elif name == "SUB":
        layer = Rounded(kernel.subtract(kernels, a, b, out), bounds, (slopes[0], -slopes[1]))
    else:
        layer = Multiply(kernel.scale_product(kernels, a, b, out), bounds, a.scale * b.scale / out.scale)
    for position, (tensor, quant) in enumerate(zip(operator.inputs, (a, b), strict=True)):
        if tensor.values is not None:
            layer = WithConstant(layer, constant_steps(tensor, quant.zero_point), position)
    return Aligned(layer, len(of_one(operator.outputs[0])) + 1)


def _contiguous(operator: Operator) -> tuple[int, bool]:
    """Return how many elements of an addition are contiguous, and whether a single number is added to them.

    As LiteRT's ``ProcessBroadcastShapes`` at a batch of 1, which makes five loops; 0 where they are not enough.
    """
    a, b = (of_one(tensor)[::-1] for tensor in operator.inputs)
    axes = list(zip_longest(a, b, fillvalue=1))
    is_first_wider = next((m > n for m, n in axes if m != n), False)
    loops, place = [1] * 5, 0
    for m, n in (axis[::-1] if is_first_wider else axis for axis in axes):
        while not (m == n, m == 1, m == n, n == 1, m == n)[place]:
            place += 1
            if place == len(loops):
                return 0, False
        loops[place] *= max(m, n)
    return (loops[0], False) if loops[0] > 1 else (loops[1], True)


def _quantize(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a rescaling, or the step from a file's float input to integers."""
    out = quant_of(operator.outputs[0], path)
    if operator.inputs[0].dtype == "float32":
        return Rounded(kernel.quantize(kernels, out, prod(of_one(operator.outputs[0]))), out.bounds, (1 / out.scale,))
    x = quant_of(operator.inputs[0], path)
    return Rounded(kernel.requantize(kernels, x, out, of_one(operator.outputs[0])), out.bounds, (x.scale / out.scale,))


def _dequantize(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert the step to reals, where operators compute in float."""
    return Function(torch.mul, quant_of(operator.inputs[0], path).scale)


def _mean(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a mean or a sum over some axes."""
    tensor = operator.inputs[0]
    keep = bool(operator.attributes["keepDims"])
    x, out, shape = quant_of(tensor, path), quant_of(operator.outputs[0], path), tensor.shape or ()
    axes = sorted({int(a) % len(shape) for a in np.ravel(constant(operator, 1, path))})
    if has_batch(tensor) and (axes == [0] or (0 in axes and shape[0] == -1)):
        raise no_twin(operator, path, "along the axis of the images")
    if not axes or min(shape[a] for a in axes) < 1:
        raise no_twin(operator, path, f"over axes {axes} of shape {shape}")
    n = prod(shape[a] for a in axes)
    along = [a for a in axes if a] if has_batch(tensor) else [a + 1 for a in axes]  # a batch of one is no axis of it
    sums, shaped = Function(Tensor.sum, along, keep), each_to(*of_one(operator.outputs[0]))
    if operator.name == "SUM":
        if kernels == "reference":
            raise no_twin(operator, path, "by the reference kernels, which compute it wrong,")
        total = Rounded(kernel.total(kernels, x, out, n), out.bounds, (x.scale / out.scale,))
        return Sequential(sums, total, shaped)
    in_vectors = keep and len(shape) == 4 and axes == [1, 2]
    arithmetic = kernel.mean(kernels, x, out, n, shape[3] if in_vectors else None)
    return Sequential(sums, Rounded(arithmetic, out.bounds, (x.scale / out.scale / n,)), shaped)


def _average_pool(operator: Operator, kernels: str, path: Path) -> nn.Module:
    require_same_quant(operator, path)
    out, (height, width, _) = quant_of(operator.outputs[0], path), image_shape(operator, path)
    window, stride, pads = _window(operator)
    pool = Function(functional.avg_pool2d, window, stride, divisor_override=1)
    sums = Sequential(
        Function(Tensor.permute, 0, 3, 1, 2), Function(functional.pad, pads), pool, Function(Tensor.permute, 0, 2, 3, 1)
    )
    counts = sums(torch.ones(1, height, width, 1))
    return Sequential(
        sums, Rounded(kernel.average(kernels, out, counts), _bounds(operator, out, kernels), (1 / counts,))
    )


def _max_pool(operator: Operator, kernels: str, path: Path) -> nn.Module:
    require_same_quant(operator, path)
    image_shape(operator, path)
    low, high = _bounds(operator, quant_of(operator.outputs[0], path), kernels)
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


def _table(operator: Operator, kernels: str, path: Path) -> nn.Module:
    x, out = quant_of(operator.inputs[0], path), quant_of(operator.outputs[0], path)
    if len(operator.inputs) != 1:
        raise no_twin(operator, path, f"of {len(operator.inputs)} inputs")
    return table(operator, x, out, path, kernels)


LAYERS: dict[str, Callable[[Operator, str, Path], nn.Module]] = {
    "CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _convolution, "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed_convolution,
    "ADD": _of_two, "SUB": _of_two, "MUL": _of_two, "MEAN": _mean, "SUM": _mean,
    "QUANTIZE": _quantize, "DEQUANTIZE": _dequantize,
    "AVERAGE_POOL_2D": _average_pool, "MAX_POOL_2D": _max_pool, **MOVES, **ATTENTION,
    **dict.fromkeys(TFLITE_REALS, _table),
}  # fmt: skip
