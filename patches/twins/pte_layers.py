"""Convert the nodes of XNNPACK's graphs to layers, with its arithmetic, by name."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from exporters.files.description import Operator
from patches.twins import tflite_kernels as kernel
from patches.twins.layers import (
    Function,
    IntegerProducts,
    Rounded,
    Sequential,
    TransposedProducts,
    each_to,
)
from patches.twins.network import Quant
from patches.twins.tflite_layers import of_two
from patches.twins.tflite_moves import concatenated, padded, reshaped, sliced, transposed
from patches.twins.uses import (
    bias_of,
    image_shape,
    no_twin,
    of_one,
    quant_of,
    require_same_quant,
    weight_steps,
)

OF_TWO = {"Add": "ADD", "Subtract": "SUB", "Multiply": "MUL"}


def _bounds(operator: Operator, out: Quant) -> tuple[int, int]:
    """Return the lowest and highest step that the fused activation lets through."""
    settings = operator.attributes
    if "output_min" not in settings:
        return out.bounds
    return kernel.nearest(settings["output_min"], out), kernel.nearest(settings["output_max"], out)


def _pads(operator: Operator) -> tuple[int, int, int, int]:
    left, right, top, bottom = (operator.attributes[f"padding_{side}"] for side in ("left", "right", "top", "bottom"))
    return left, right, top, bottom


def _pair(operator: Operator, name: str) -> tuple[int, int]:
    return operator.attributes[f"{name}_height"], operator.attributes[f"{name}_width"]


def _weights(operator: Operator, axis: int, path: Path) -> NDArray[np.int64]:
    if any(operator.inputs[1].zero_point):
        raise no_twin(operator, path, "with zero points of its weights")
    return weight_steps(operator, axis, path)


def _convolution(operator: Operator, kernels: str, path: Path) -> nn.Module:
    is_depthwise = operator.name == "DepthwiseConv2d"
    *_, channels = image_shape(operator, path)
    values = _weights(operator, 3 if is_depthwise else 0, path)
    values = values.transpose((3, 0, 1, 2) if is_depthwise else (0, 3, 1, 2))
    groups = operator.attributes["groups"]
    if values.shape[1] * groups != channels:
        raise no_twin(operator, path, f"of {channels} channels with weights of shape {operator.inputs[1].shape}")
    stride, dilation = _pair(operator, "subsampling"), _pair(operator, "dilation")
    bounds = quant_of(operator.inputs[0], path).bounds
    sums = IntegerProducts(values, bias_of(operator, path), bounds, stride, _pads(operator), dilation, groups, True)
    return _of_channels(sums, operator, path)


def _transposed_convolution(operator: Operator, kernels: str, path: Path) -> nn.Module:
    *sides, channels = image_shape(operator, path)
    values = _weights(operator, 0, path).transpose(3, 0, 1, 2)
    stride, (left, right, top, bottom) = _pair(operator, "subsampling"), _pads(operator)
    spare = _pair(operator, "adjustment")
    height, width = (
        (side - 1) * step + more + span - pads
        for side, step, more, span, pads in zip(
            sides, stride, spare, values.shape[2:], (top + bottom, left + right), strict=True
        )
    )
    if len(values) != channels or operator.attributes["groups"] != 1 or _pair(operator, "dilation") != (1, 1):
        raise no_twin(operator, path, "in groups, or dilated,")
    bounds = quant_of(operator.inputs[0], path).bounds
    sums = TransposedProducts(values, bias_of(operator, path), bounds, stride, (top, left), (height, width), True)
    return _of_channels(sums, operator, path)


def _of_channels(sums: nn.Module, operator: Operator, path: Path) -> nn.Module:
    first, last = Function(Tensor.permute, 0, 3, 1, 2), Function(Tensor.permute, 0, 2, 3, 1)
    return Sequential(first, sums, last, _scaled(operator, path))


def _fully_connected(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a dense layer: each row of as many numbers as there are weights for."""
    x, out = operator.inputs[0], of_one(operator.outputs[0])
    values = _weights(operator, 0, path)
    if of_one(x)[-1:] != values.shape[1:]:
        raise no_twin(operator, path, f"on a tensor of shape {x.shape} with weights of shape {values.shape}")
    sums = IntegerProducts(values, bias_of(operator, path), quant_of(x, path).bounds, to_float32=True)
    return Sequential(each_to(-1, values.shape[1]), sums, _scaled(operator, path), each_to(*out))


def _scaled(operator: Operator, path: Path) -> nn.Module:
    x, out, scales = quant_of(operator.inputs[0], path), quant_of(operator.outputs[0], path), operator.inputs[1].scale
    slope = torch.tensor(x.scale * np.array(scales) / out.scale, dtype=torch.float32)
    arithmetic = kernel.scale_products("xnnpack", operator.name, x, scales, out, of_one(operator.outputs[0]))
    return Rounded(arithmetic, _bounds(operator, out), (slope,))


def _of_two(operator: Operator, kernels: str, path: Path) -> nn.Module:
    bounds = _bounds(operator, quant_of(operator.outputs[0], path))
    whole = prod(of_one(operator.outputs[0]))
    return of_two(OF_TWO[operator.name], operator, kernels, bounds, (whole, False), path)


def _global_average(operator: Operator, kernels: str, path: Path) -> nn.Module:
    height, width, _ = image_shape(operator, path)
    x, out = quant_of(operator.inputs[0], path), quant_of(operator.outputs[0], path)
    n = height * width
    arithmetic = kernel.mean(kernels, x, out, n, None)
    scaled = Rounded(arithmetic, _bounds(operator, out), (x.scale / out.scale / n,))
    return Sequential(Function(Tensor.sum, (1, 2), True), scaled)


def _max_pool(operator: Operator, kernels: str, path: Path) -> nn.Module:
    require_same_quant(operator, path)
    image_shape(operator, path)
    low, high = _bounds(operator, quant_of(operator.outputs[0], path))
    settings = _pair(operator, "pooling"), _pair(operator, "stride"), 0, _pair(operator, "dilation")
    return Sequential(
        Function(Tensor.permute, 0, 3, 1, 2),
        Function(functional.pad, _pads(operator), value=-256.0),  # below every step
        Function(functional.max_pool2d, *settings),
        Function(Tensor.permute, 0, 2, 3, 1),
        Function(Tensor.clamp, low, high),
    )


def _clamp(operator: Operator, kernels: str, path: Path) -> nn.Module:
    require_same_quant(operator, path)
    return Function(Tensor.clamp, *_bounds(operator, quant_of(operator.outputs[0], path)))


def _convert(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a step from reals to integers, back, or a rescaling."""
    x, out = operator.inputs[0], operator.outputs[0]
    if out.is_float:
        return Function(torch.mul, quant_of(x, path).scale)
    to = quant_of(out, path)
    if x.is_float:
        return Rounded(kernel.quantize(kernels, to, prod(of_one(out))), to.bounds, (1 / to.scale,))
    quant = quant_of(x, path)
    return Rounded(kernel.requantize(kernels, quant, to, of_one(out)), to.bounds, (quant.scale / to.scale,))


def _pad(operator: Operator, kernels: str, path: Path) -> nn.Module:
    value, out = operator.attributes["padding_value"], operator.outputs[0]
    pairs = list(zip(operator.attributes["pre_paddings"], operator.attributes["post_paddings"], strict=True))
    return padded(operator, pairs, value if out.is_float else kernel.nearest(value, quant_of(out, path)), path)


def _slice(operator: Operator, kernels: str, path: Path) -> nn.Module:
    offsets, sizes = operator.attributes["offsets"], operator.attributes["sizes"]
    return sliced(operator, [slice(first, first + n) for first, n in zip(offsets, sizes, strict=True)], path)


LAYERS: dict[str, Callable[[Operator, str, Path], nn.Module]] = {
    "Conv2d": _convolution, "DepthwiseConv2d": _convolution, "ConvTranspose2d": _transposed_convolution,
    "FullyConnected": _fully_connected, **dict.fromkeys(OF_TWO, _of_two),
    "GlobalAvgPooling2d": _global_average, "MaxPooling2d": _max_pool, "Clamp": _clamp, "Convert": _convert,
    "Copy": reshaped, "StaticReshape": reshaped, "StaticSlice": _slice, "StaticConstantPad": _pad,
    "StaticTranspose": lambda operator, _, path: transposed(operator, operator.attributes["perm"], path),
    **dict.fromkeys(
        [f"Concatenate{n}" for n in (2, 3, 4, 5)],
        lambda operator, _, path: concatenated(operator, path),
    ),
}  # fmt: skip
