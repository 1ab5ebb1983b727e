"""Convert the operators of onnxruntime's integer graphs to layers, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError
from exporters.files.description import Operator
from exporters.files.description import Tensor as FileTensor
from patches.twins import onnx_kernels as kernel
from patches.twins.layers import Concat, Function, IntegerProducts, Multiply, Rounded, Sequential, WithConstant
from patches.twins.network import Quant
from patches.twins.pixels import Quantized
from patches.twins.scaling import Float32


class Layer(NamedTuple):
    """An operator's layer, the tensors that it takes, and the quantization of its output."""

    layer: nn.Module
    inputs: tuple[FileTensor, ...]
    quant: Quant


Converter = Callable[[Operator, dict[str, Quant], Path], Layer]


def _quant(operator: Operator, position: int, path: Path) -> Quant:
    """Return the scale at a position among an operator's inputs, with the zero point after it."""
    scale, zero_point = (_constant(operator, p, path) for p in (position, position + 1))
    if scale.size != 1 or zero_point.size != 1 or zero_point.dtype not in (np.int8, np.uint8):
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected one scale, of 8-bit integers")
    limits = np.iinfo(zero_point.dtype)
    return Quant(float(np.ravel(scale)[0]), int(np.ravel(zero_point)[0]), int(limits.min), int(limits.max))


def _constant(operator: Operator, position: int, path: Path) -> np.ndarray[Any, Any]:
    tensor = operator.inputs[position] if position < len(operator.inputs) else None
    if tensor is None or tensor.values is None:
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected constant parameters")
    return tensor.values


def _optional(operator: Operator, position: int) -> np.ndarray[Any, Any] | None:
    return operator.inputs[position].values if position < len(operator.inputs) else None


def _quantize(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    quant = _quant(operator, 1, path)
    return Layer(Quantized(quant), operator.inputs[:1], quant)


def _convolution(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    settings = operator.attributes
    x, out = _quant(operator, 1, path), _quant(operator, 6, path)
    weights, scales, zero_points = (_constant(operator, p, path) for p in (3, 4, 5))
    zero_points = zero_points.astype(np.int64)
    centred = weights.astype(np.int64) - zero_points.reshape(-1, *[1] * (weights.ndim - 1))
    if weights.ndim != 4 or settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected two dimensions and explicit pads")
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    stride, dilation = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    sums = IntegerProducts(
        centred,
        _optional(operator, 8),
        max(map(abs, x.bounds)),
        stride,  # type: ignore[arg-type]
        (left, right, top, bottom),
        dilation,  # type: ignore[arg-type]
        settings.get("group", 1),
    )
    return Layer(Sequential(sums, _scaled(x, scales.reshape(-1, 1, 1), out)), operator.inputs[:1], out)


def _fully_connected(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    settings = operator.attributes
    x, out = _quant(operator, 1, path), _quant(operator, 7, path)
    weights, scales, zero_points = (_constant(operator, p, path) for p in (3, 4, 5))
    if settings.get("transA") or settings.get("alpha", 1.0) != 1.0:
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected no transposition and alpha 1")
    centred = weights.astype(np.int64) - zero_points.astype(np.int64).reshape((-1, 1) if settings.get("transB") else -1)
    centred = centred if settings.get("transB") else centred.T
    sums = IntegerProducts(centred, _optional(operator, 6), max(map(abs, x.bounds)))
    return Layer(Sequential(sums, _scaled(x, scales.reshape(-1), out)), operator.inputs[:1], out)


def _scaled(x: Quant, weights: np.ndarray[Any, Any], out: Quant) -> nn.Module:
    scale = np.float32(x.scale) * weights.astype(np.float32) / np.float32(out.scale)
    return Rounded(Float32(scale), out.bounds, (torch.from_numpy(scale),))


def _add_or_multiply(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    a, b, out = (_quant(operator, p, path) for p in (1, 4, 6))
    if operator.name == "QLinearAdd":
        layer: nn.Module = Rounded(kernel.Add(a, b, out), out.bounds, (a.scale / out.scale, b.scale / out.scale))
    else:
        layer = Multiply(kernel.Multiply(a, b, out), out.bounds, a.scale * b.scale / out.scale)
    taken = operator.inputs[0], operator.inputs[3]
    for position, (tensor, quant) in enumerate(zip(taken, (a, b), strict=True)):
        if tensor.values is not None:
            fixed = torch.from_numpy(np.asarray(tensor.values, np.float32) - np.float32(quant.zero_point))
            layer = WithConstant(layer, fixed, position)
    return Layer(layer, taken, out)


def _global_mean(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    if operator.attributes.get("channels_last"):
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected channels first")
    x, out = _quant(operator, 1, path), _quant(operator, 3, path)
    return Layer(GlobalMean(x, out), operator.inputs[:1], out)


class GlobalMean(nn.Module):
    """The mean over height and width, keeping both axes."""

    def __init__(self, x: Quant, out: Quant) -> None:
        super().__init__()
        self.x = x
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """Return steps ``(n, channels, 1, 1)``."""
        n = x.shape[2] * x.shape[3]
        scale = np.float32(self.x.scale) / (np.float32(self.out.scale) * np.float32(n))
        rounded = Rounded(Float32(scale).to(x.device), self.out.bounds, (float(scale),))
        mean: Tensor = rounded(x.sum((2, 3), keepdim=True))
        return mean


def _concat(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    out = _quant(operator, 0, path)
    parts = operator.inputs[2::3]
    tables = []
    for position, tensor in enumerate(parts):
        quant = _quant(operator, 3 + 3 * position, path)
        same = quant[:2] == out[:2]
        table = kernel.LookupTable(quant, out, lambda reals: reals)
        tables.append(nn.Identity() if same else Rounded(table, out.bounds, (quant.scale / out.scale,)))
        if tensor.values is not None:
            raise UserError(f"{path}: {operator.name} (number {operator.index}) with a constant has no twin yet")
    return Layer(Concat(operator.attributes["axis"], tables), parts, out)


def _leaky_relu(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    x, out = _quant(operator, 1, path), _quant(operator, 3, path)
    return Layer(LeakyRelu(x, out, operator.attributes.get("alpha", 0.01)), operator.inputs[:1], out)


class LeakyRelu(nn.Module):
    """A leaky ReLU of steps, whose slope depends on their sign."""

    def __init__(self, x: Quant, out: Quant, alpha: float) -> None:
        super().__init__()
        self.table = kernel.LookupTable(x, out, kernel.leaky_relu(alpha))
        self.bounds = out.bounds
        self.alpha = alpha
        self.ratio = x.scale / out.scale

    def forward(self, x: Tensor) -> Tensor:
        """Return steps of the output."""
        slope = torch.where(x.detach() > 0, self.ratio, self.ratio * self.alpha)
        steps: Tensor = Rounded(self.table, self.bounds, (slope,))(x)
        return steps


def _keeps_quant(function: Callable[[Operator, Quant, Path], nn.Module]) -> Converter:
    """Convert an operator whose output has the quantization of its first input."""

    def make(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
        quant = quants.get(operator.inputs[0].name)
        if quant is None:
            raise UserError(
                f"{path}: {operator.name} (number {operator.index}): expected integers with a scale, "
                f"got {operator.inputs[0].dtype}"
            )
        return Layer(function(operator, quant, path), operator.inputs[:1], quant)

    return make


def _max_pool(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    settings = operator.attributes
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or len(settings["kernel_shape"]) != 2:
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected two dimensions and explicit pads")
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    padded = Function(functional.pad, (left, right, top, bottom), value=-256.0)  # below every step
    stride, dilation = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    ceil = bool(settings.get("ceil_mode", 0))
    return Sequential(
        padded, Function(functional.max_pool2d, tuple(settings["kernel_shape"]), stride, 0, dilation, ceil)
    )


def _pad(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    widths = _constant(operator, 1, path).tolist()
    value = _optional(operator, 2)
    if operator.attributes.get("mode", b"constant") != b"constant" or _optional(operator, 3) is not None:
        raise UserError(f"{path}: Pad (number {operator.index}): expected constant values on all axes")
    rank = len(widths) // 2
    pairs = [n for axis in reversed(range(rank)) for n in (widths[axis], widths[rank + axis])]
    steps = (0 if value is None else int(np.ravel(value)[0])) - quant.zero_point
    return Function(functional.pad, pairs, value=float(steps))


def _slice(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    starts, ends = (_constant(operator, p, path).tolist() for p in (1, 2))
    axes, strides = _optional(operator, 3), _optional(operator, 4)
    at = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if strides is None else strides.tolist()
    if min(by) < 1 or min(at) < 0:
        raise UserError(f"{path}: Slice (number {operator.index}) backwards, or of axes from the end, has no twin yet")
    cuts = [slice(None)] * (max(at) + 1)
    for axis, start, end, step in zip(at, starts, ends, by, strict=True):
        cuts[axis] = slice(start, end, step)
    return Function(Tensor.__getitem__, tuple(cuts))


def _reshape(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    shape = [int(n) for n in _constant(operator, 1, path)]
    return Function(lambda x, *wanted: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]), *shape)


def _flatten(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    return Function(Tensor.flatten, operator.attributes.get("axis", 1))


def _transpose(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    return Function(Tensor.permute, *operator.attributes["perm"])


LAYERS: dict[str, Converter] = {
    "QuantizeLinear": _quantize, "QLinearConv": _convolution, "QGemm": _fully_connected,
    "QLinearAdd": _add_or_multiply, "QLinearMul": _add_or_multiply, "QLinearGlobalAveragePool": _global_mean,
    "QLinearConcat": _concat, "QLinearLeakyRelu": _leaky_relu, "MaxPool": _keeps_quant(_max_pool),
    "Pad": _keeps_quant(_pad), "Slice": _keeps_quant(_slice), "Reshape": _keeps_quant(_reshape),
    "Flatten": _keeps_quant(_flatten), "Transpose": _keeps_quant(_transpose),
}  # fmt: skip
