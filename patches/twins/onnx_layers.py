"""Convert the operators of onnxruntime's integer graphs to layers, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from patches.twins.layers import (
    Aligned,
    Concat,
    Function,
    IntegerProducts,
    MatrixProducts,
    Multiply,
    Rounded,
    Sequential,
    Where,
    WithConstant,
)
from patches.twins.network import REALS, Quant
from patches.twins.onnx_moves import MOVES, optional
from patches.twins.pixels import Quantized
from patches.twins.scaling import Float32
from patches.twins.straight_through import rounded
from patches.twins.tables import table
from patches.twins.uses import constant, constant_steps, no_twin


class Layer(NamedTuple):
    """An operator's layer, the tensors that it takes, and the quantization of its output."""

    layer: nn.Module
    inputs: tuple[FileTensor, ...]
    quant: Quant


Converter = Callable[[Operator, dict[str, Quant], Path], Layer]


def quant_at(operator: Operator, position: int, path: Path) -> Quant:
    """Return the scale at a position among an operator's inputs, with the zero point after it, if it has one."""
    scale, zero_point = constant(operator, position, path), optional(operator, position + 1, path)
    if zero_point is None:
        of_integers = operator.inputs[0] if operator.name == "DequantizeLinear" else operator.outputs[0]
        zero_point = np.zeros((), of_integers.dtype)
    if scale.size != 1 or zero_point.size != 1 or zero_point.dtype not in (np.int8, np.uint8):
        raise UserError(f"{path}: {operator.numbered}: expected one scale, of 8-bit integers")
    if not 0 < float(np.ravel(scale)[0]) < math.inf:
        raise UserError(f"{path}: {operator.numbered}: expected a scale above 0, got {np.ravel(scale)[0]}")
    limits = np.iinfo(zero_point.dtype)
    return Quant(float(np.ravel(scale)[0]), int(np.ravel(zero_point)[0]), int(limits.min), int(limits.max))


def _quantize(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    quant = quant_at(operator, 1, path)
    return Layer(Quantized(quant), operator.inputs[:1], quant)


def _dequantize(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    """Convert a dequantization to reals, which are only moved until they are quantized again."""
    x = quant_at(operator, 1, path)
    return Layer(Function(torch.mul, x.scale), operator.inputs[:1], REALS)


def _convolution(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    settings = operator.attributes
    x, out = quant_at(operator, 1, path), quant_at(operator, 6, path)
    weights, scales, zero_points = (constant(operator, p, path) for p in (3, 4, 5))
    if weights.ndim != 4 or settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UserError(f"{path}: {operator.numbered}: expected two dimensions and explicit pads")
    centred = weights.astype(np.int64) - zero_points.astype(np.int64).reshape(-1, 1, 1, 1)
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    stride, dilation = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    sums = IntegerProducts(
        centred,
        optional(operator, 8, path),
        x.bounds,
        stride,  # type: ignore[arg-type]
        (left, right, top, bottom),
        dilation,  # type: ignore[arg-type]
        settings.get("group", 1),
        to_float32=True,
    )
    return Layer(Sequential(sums, _scaled(x, scales.reshape(-1, 1, 1), out)), operator.inputs[:1], out)


def _fully_connected(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    settings = operator.attributes
    x, out = quant_at(operator, 1, path), quant_at(operator, 7, path)
    weights, scales, zero_points = (constant(operator, p, path) for p in (3, 4, 5))
    if settings.get("transA") or settings.get("alpha", 1.0) != 1.0:
        raise UserError(f"{path}: {operator.numbered}: expected no transposition and alpha 1")
    centred = weights.astype(np.int64) - zero_points.astype(np.int64).reshape((-1, 1) if settings.get("transB") else -1)
    centred = centred if settings.get("transB") else centred.T
    sums = IntegerProducts(centred, optional(operator, 6, path), x.bounds, to_float32=True)
    return Layer(Sequential(sums, _scaled(x, scales.reshape(-1), out)), operator.inputs[:1], out)


def _matrix_product(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    """Convert a product with a constant matrix, of the last axis of however many; or of two tensors."""
    x, out = quant_at(operator, 1, path), quant_at(operator, 6, path)
    if operator.inputs[3].values is None:
        other = quant_at(operator, 4, path)
        products = MatrixProducts(max(map(abs, x.bounds)) * max(map(abs, other.bounds)))
        scaled = _scaled(x, np.array([other.scale]), out)
        return Layer(Sequential(products, scaled), (operator.inputs[0], operator.inputs[3]), out)
    weights, scales, zero_points = (constant(operator, p, path) for p in (3, 4, 5))
    if weights.ndim != 2:
        raise no_twin(operator, path, f"with weights of shape {weights.shape}")
    centred = weights.astype(np.int64) - zero_points.astype(np.int64).reshape(-1)
    sums = IntegerProducts(centred.T, None, x.bounds)
    return Layer(Sequential(sums, _scaled(x, scales.reshape(-1), out)), operator.inputs[:1], out)


def _scaled(x: Quant, weights: np.ndarray[Any, Any], out: Quant) -> nn.Module:
    scale = np.float32(x.scale) * weights.astype(np.float32) / np.float32(out.scale)
    return Rounded(Float32(scale), out.bounds, (torch.from_numpy(scale),))


def _add_or_multiply(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    a, b, out = (quant_at(operator, p, path) for p in (1, 4, 6))
    if operator.name == "QLinearAdd":
        layer: nn.Module = Rounded(kernel.Add(a, b, out), out.bounds, (a.scale / out.scale, b.scale / out.scale))
    else:
        layer = Multiply(kernel.Multiply(a, b, out), out.bounds, a.scale * b.scale / out.scale)
    taken = operator.inputs[0], operator.inputs[3]
    rank = 0
    for position, (tensor, quant) in enumerate(zip(taken, (a, b), strict=True)):
        if tensor.values is not None:
            fixed = constant_steps(tensor, quant.zero_point)
            rank = max(rank, fixed.ndim)
            layer = WithConstant(layer, fixed, position)
    return Layer(Aligned(layer, rank), taken, out)


def _global_mean(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    if operator.attributes.get("channels_last"):
        raise UserError(f"{path}: {operator.numbered}: expected channels first")
    x, out = quant_at(operator, 1, path), quant_at(operator, 3, path)
    return Layer(GlobalMean(x, out), operator.inputs[:1], out)


class GlobalMean(nn.Module):
    """The mean over all axes but the images' and the channels', keeping them."""

    def __init__(self, x: Quant, out: Quant) -> None:
        super().__init__()
        self.x = x
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """Return steps ``(n, channels, 1, 1)``."""
        axes = tuple(range(2, x.ndim))
        n = math.prod(x.shape[2:])
        scale = np.float32(self.x.scale) / (np.float32(self.out.scale) * np.float32(n))
        rounded = Rounded(Float32(scale).to(x.device), self.out.bounds, (float(scale),))
        mean: Tensor = rounded(x.sum(axes, keepdim=True))
        return mean


def _average_pool(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    settings = operator.attributes
    x, out = quant_at(operator, 1, path), quant_at(operator, 3, path)
    if settings.get("channels_last") or settings.get("ceil_mode") or len(settings["kernel_shape"]) != 2:
        raise no_twin(operator, path, "with channels last, rounded up, or of other than two dimensions,")
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise no_twin(operator, path, "without explicit pads")
    return Layer(AveragePool(x, out, settings), operator.inputs[:1], out)


class AveragePool(nn.Module):
    """Average pooling in NCHW; the gradient is that of the mean of the steps.

    Where a window is the whole image, onnxruntime computes a global mean instead, which rounds other halves.
    """

    def __init__(self, x: Quant, out: Quant, settings: Mapping[str, Any]) -> None:
        super().__init__()
        window, stride = (tuple(settings.get(name, (1, 1))) for name in ("kernel_shape", "strides"))
        top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
        self.pads, self.window = (left, right, top, bottom), window
        self.whole = GlobalMean(x, out)
        self.sums = Function(functional.avg_pool2d, window, stride, divisor_override=1)
        self.mean = kernel.Average(x, out, window, stride)  # type: ignore[arg-type]
        self.counts_padding = bool(settings.get("count_include_pad"))
        self.bounds = out.bounds
        self.ratio = x.scale / out.scale

    def forward(self, x: Tensor) -> Tensor:
        """Return steps of the output."""
        if x.shape[2:] == self.window and not any(self.pads):
            whole: Tensor = self.whole(x)
            return whole
        padded = functional.pad(x, self.pads)
        ones = torch.ones(1, 1, *x.shape[2:], device=x.device)
        counts = self.sums(functional.pad(ones, self.pads, value=float(self.counts_padding)))
        steps = padded.detach()
        return rounded(lambda _: self.mean(steps, counts), *self.bounds, (self.ratio / counts,), self.sums(padded))


def _concat(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    out = quant_at(operator, 0, path)
    parts = operator.inputs[2::3]
    tables: list[nn.Module] = []
    fixed: dict[int, Tensor] = {}
    for position, tensor in enumerate(parts):
        quant = quant_at(operator, 3 + 3 * position, path)
        tables.append(_rescaled(quant, out))
        if tensor.values is not None:
            fixed[position] = constant_steps(tensor, quant.zero_point)
    return Layer(Concat(operator.attributes["axis"], tables, fixed), parts, out)


def _rescaled(x: Quant, out: Quant) -> nn.Module:
    if x[:2] == out[:2]:
        return nn.Identity()
    return Rounded(kernel.LookupTable(x, out, lambda reals: reals), out.bounds, (x.scale / out.scale,))


def _where(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    x, y, out = (quant_at(operator, position, path) for position in (2, 5, 7))
    given = (operator.inputs[0], operator.inputs[1], operator.inputs[4])
    layer: nn.Module = Where(_rescaled(x, out), _rescaled(y, out))
    for position, zero_point in ((2, y.zero_point), (1, x.zero_point)):
        if given[position].values is not None:
            layer = WithConstant(layer, constant_steps(given[position], zero_point), position)
    return Layer(layer, given, out)


def _leaky_relu(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    x, out = quant_at(operator, 1, path), quant_at(operator, 3, path)
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


def _table(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
    x, out = quant_at(operator, 1, path), quant_at(operator, 3, path)
    return Layer(table(operator, x, out, path, "onnxruntime"), operator.inputs[:1], out)


def _keeps_quant(function: Callable[[Operator, Quant, Path], nn.Module]) -> Converter:
    """Convert an operator whose output has the quantization of its first input."""

    def make(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
        quant = quants.get(operator.inputs[0].name)
        if quant is None:
            raise UserError(
                f"{path}: {operator.numbered}: expected integers with a scale, got {operator.inputs[0].dtype}"
            )
        return Layer(function(operator, quant, path), operator.inputs[:1], quant)

    return make


LAYERS: dict[str, Converter] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "QLinearConv": _convolution, "QGemm": _fully_connected, "QLinearMatMul": _matrix_product,
    "QLinearAdd": _add_or_multiply, "QLinearMul": _add_or_multiply, "QLinearGlobalAveragePool": _global_mean,
    "QLinearAveragePool": _average_pool, "QLinearConcat": _concat, "QLinearLeakyRelu": _leaky_relu,
    "QLinearSigmoid": _table, "QLinearWhere": _where,
    **{name: _keeps_quant(function) for name, function in MOVES.items()},
}  # fmt: skip
