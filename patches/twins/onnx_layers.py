"""The operators of onnxruntime's integer graphs as layers, by name: what each takes of its file."""

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
from patches.twins.layers import Chain, Constant, Joined, Mover, Products, Rounded, Times
from patches.twins.network import Quant
from patches.twins.pixels import Quantized
from patches.twins.scaling import Float32


class Made(NamedTuple):
    """What an operator becomes: a layer, the tensors that it takes, and what its output's integers mean."""

    layer: nn.Module
    inputs: tuple[FileTensor, ...]
    quant: Quant


def _quant(operator: Operator, position: int, path: Path) -> Quant:
    """The scale at a position among an operator's inputs, and the zero point after it."""
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


def _start(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    quant = _quant(operator, 1, path)
    return Made(Quantized(quant), operator.inputs[:1], quant)


def _convolution(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    settings, x, out = operator.attributes, _quant(operator, 1, path), _quant(operator, 6, path)
    weights, scales, zero_points = (_constant(operator, p, path) for p in (3, 4, 5))
    zero_points = zero_points.astype(np.int64)
    centred = weights.astype(np.int64) - zero_points.reshape(-1, *[1] * (weights.ndim - 1))
    if weights.ndim != 4 or settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected two dimensions and explicit pads")
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    stride, dilation = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    sums = Products(
        centred, _optional(operator, 8), max(map(abs, x.bounds)), stride, (left, right, top, bottom),  # type: ignore[arg-type]
        dilation, settings.get("group", 1),  # type: ignore[arg-type]
    )  # fmt: skip
    return Made(Chain(sums, _scaled(x, scales.reshape(-1, 1, 1), out)), operator.inputs[:1], out)


def _dense(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    settings, x, out = operator.attributes, _quant(operator, 1, path), _quant(operator, 7, path)
    weights, scales, zero_points = (_constant(operator, p, path) for p in (3, 4, 5))
    if settings.get("transA") or settings.get("alpha", 1.0) != 1.0:
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected no transposition and alpha 1")
    centred = weights.astype(np.int64) - zero_points.astype(np.int64).reshape((-1, 1) if settings.get("transB") else -1)
    centred = centred if settings.get("transB") else centred.T
    sums = Products(centred, _optional(operator, 6), max(map(abs, x.bounds)))
    return Made(Chain(sums, _scaled(x, scales.reshape(-1), out)), operator.inputs[:1], out)


def _scaled(x: Quant, weights: np.ndarray[Any, Any], out: Quant) -> nn.Module:
    scale = np.float32(x.scale) * weights.astype(np.float32) / np.float32(out.scale)
    return Rounded(Float32(scale), out.bounds, (torch.from_numpy(scale),))


def _two(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    a, b, out = (_quant(operator, p, path) for p in (1, 4, 6))
    if operator.name == "QLinearAdd":
        layer: nn.Module = Rounded(kernel.Total(a, b, out), out.bounds, (a.scale / out.scale, b.scale / out.scale))
    else:
        layer = Times(kernel.Product(a, b, out), out.bounds, a.scale * b.scale / out.scale)
    taken = operator.inputs[0], operator.inputs[3]
    for position, (tensor, quant) in enumerate(zip(taken, (a, b), strict=True)):
        if tensor.values is not None:
            fixed = torch.from_numpy(np.asarray(tensor.values, np.float32) - np.float32(quant.zero_point))
            layer = Constant(layer, fixed, position)
    return Made(layer, taken, out)


def _mean(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    if operator.attributes.get("channels_last"):
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected channels first")
    x, out = _quant(operator, 1, path), _quant(operator, 3, path)
    return Made(GlobalMean(x, out), operator.inputs[:1], out)


class GlobalMean(nn.Module):
    """The mean over height and width, both axes kept."""

    def __init__(self, x: Quant, out: Quant) -> None:
        super().__init__()
        self.x, self.out = x, out

    def forward(self, x: Tensor) -> Tensor:
        """Steps ``(n, channels, 1, 1)``."""
        n = x.shape[2] * x.shape[3]
        scale = np.float32(self.x.scale) / (np.float32(self.out.scale) * np.float32(n))
        rounded = Rounded(Float32(scale).to(x.device), self.out.bounds, (float(scale),))
        mean: Tensor = rounded(x.sum((2, 3), keepdim=True))
        return mean


def _joined(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    out = _quant(operator, 0, path)
    parts = operator.inputs[2::3]
    tables = []
    for position, tensor in enumerate(parts):
        quant = _quant(operator, 3 + 3 * position, path)
        same = quant[:2] == out[:2]
        table = kernel.Table(quant, out, lambda reals: reals)
        tables.append(nn.Identity() if same else Rounded(table, out.bounds, (quant.scale / out.scale,)))
        if tensor.values is not None:
            raise UserError(f"{path}: {operator.name} (number {operator.index}) with a constant is not known")
    return Made(Joined(operator.attributes["axis"], tables), parts, out)


def _leaky(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
    x, out, alpha = _quant(operator, 1, path), _quant(operator, 3, path), operator.attributes.get("alpha", 0.01)
    return Made(Leaky(x, out, alpha), operator.inputs[:1], out)


class Leaky(nn.Module):
    """A leaky ReLU of steps; its slope depends on their sign."""

    def __init__(self, x: Quant, out: Quant, alpha: float) -> None:
        super().__init__()
        self.table, self.bounds, self.alpha, self.ratio = (
            kernel.Table(x, out, kernel.leaky(alpha)),
            out.bounds,
            alpha,
            x.scale / out.scale,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Steps of the output."""
        slope = torch.where(x.detach() > 0, self.ratio, self.ratio * self.alpha)
        steps: Tensor = Rounded(self.table, self.bounds, (slope,))(x)
        return steps


def _kept(function: Callable[[Operator, Quant, Path], nn.Module]) -> Callable[[Operator, dict[str, Quant], Path], Made]:
    """An operator that keeps the meaning of its first input's integers."""

    def make(operator: Operator, quants: dict[str, Quant], path: Path) -> Made:
        quant = quants.get(operator.inputs[0].name)
        if quant is None:
            raise UserError(
                f"{path}: {operator.name} (number {operator.index}): expected integers with a scale, "
                f"got {operator.inputs[0].dtype}"
            )
        return Made(function(operator, quant, path), operator.inputs[:1], quant)

    return make


def _greatest(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    settings = operator.attributes
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or len(settings["kernel_shape"]) != 2:
        raise UserError(f"{path}: {operator.name} (number {operator.index}): expected two dimensions and explicit pads")
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    padded = Mover(functional.pad, (left, right, top, bottom), value=-256.0)  # below every step
    stride, dilation = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    ceil = bool(settings.get("ceil_mode", 0))
    return Chain(padded, Mover(functional.max_pool2d, tuple(settings["kernel_shape"]), stride, 0, dilation, ceil))


def _pad(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    widths, value = _constant(operator, 1, path).tolist(), _optional(operator, 2)
    if operator.attributes.get("mode", b"constant") != b"constant" or _optional(operator, 3) is not None:
        raise UserError(f"{path}: Pad (number {operator.index}): expected constant values on all axes")
    rank = len(widths) // 2
    pairs = [n for axis in reversed(range(rank)) for n in (widths[axis], widths[rank + axis])]
    steps = (0 if value is None else int(np.ravel(value)[0])) - quant.zero_point
    return Mover(functional.pad, pairs, value=float(steps))


def _slice(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    starts, ends = (_constant(operator, p, path).tolist() for p in (1, 2))
    axes, strides = _optional(operator, 3), _optional(operator, 4)
    at = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if strides is None else strides.tolist()
    if min(by) < 1 or min(at) < 0:
        raise UserError(f"{path}: Slice (number {operator.index}) backwards, or of axes from the end, is not known")
    cuts = [slice(None)] * (max(at) + 1)
    for axis, start, end, step in zip(at, starts, ends, by, strict=True):
        cuts[axis] = slice(start, end, step)
    return Mover(Tensor.__getitem__, tuple(cuts))


def _reshape(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    shape = [int(n) for n in _constant(operator, 1, path)]
    return Mover(lambda x, *wanted: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]), *shape)


def _flatten(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    return Mover(Tensor.flatten, operator.attributes.get("axis", 1))


def _transpose(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    return Mover(Tensor.permute, *operator.attributes["perm"])


LAYERS: dict[str, Callable[[Operator, dict[str, Quant], Path], Made]] = {
    "QuantizeLinear": _start, "QLinearConv": _convolution, "QGemm": _dense, "QLinearAdd": _two, "QLinearMul": _two,
    "QLinearGlobalAveragePool": _mean, "QLinearConcat": _joined, "QLinearLeakyRelu": _leaky,
    "MaxPool": _kept(_greatest), "Pad": _kept(_pad), "Slice": _kept(_slice), "Reshape": _kept(_reshape),
    "Flatten": _kept(_flatten), "Transpose": _kept(_transpose),
}  # fmt: skip
