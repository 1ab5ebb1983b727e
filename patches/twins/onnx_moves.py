"""Convert ONNX operators that give integers of the same scale as they take: those move them, or choose the largest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError
from exporters.files.description import Operator
from patches.twins.layers import Function, Part, Sequential
from patches.twins.network import Quant
from patches.twins.uses import constant, no_twin


def optional(operator: Operator, position: int, path: Path) -> np.ndarray[Any, Any] | None:
    """Return the values of an input that may be left out."""
    is_given = position < len(operator.inputs) and bool(operator.inputs[position].name)
    return constant(operator, position, path) if is_given else None


def _max_pool(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    settings = operator.attributes
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or len(settings["kernel_shape"]) != 2:
        raise UserError(f"{path}: {operator.numbered}: expected two dimensions and explicit pads")
    top, left, bottom, right = settings.get("pads", (0, 0, 0, 0))
    padded = Function(functional.pad, (left, right, top, bottom), value=float(quant.bounds[0]))
    stride, dilation = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    ceil = bool(settings.get("ceil_mode", 0))
    return Sequential(
        padded, Function(functional.max_pool2d, tuple(settings["kernel_shape"]), stride, 0, dilation, ceil)
    )


def _pad(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    widths = constant(operator, 1, path).tolist()
    value = optional(operator, 2, path)
    if operator.attributes.get("mode", b"constant") != b"constant" or optional(operator, 3, path) is not None:
        raise UserError(f"{path}: {operator.numbered}: expected constant values on all axes")
    rank = len(widths) // 2
    pairs = [n for axis in reversed(range(rank)) for n in (widths[axis], widths[rank + axis])]
    if any(pairs[2 * rank - 2 :]):
        raise no_twin(operator, path, "along the axis of the images")
    fill = 0.0 if value is None else float(np.ravel(value)[0])
    return Function(functional.pad, pairs, value=fill - quant.zero_point)


def _slice(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    starts, ends = (constant(operator, p, path).tolist() for p in (1, 2))
    axes, strides = optional(operator, 3, path), optional(operator, 4, path)
    at = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if strides is None else strides.tolist()
    if min(by) < 1 or 0 in at:
        raise no_twin(operator, path, "backwards, or along the axis of the images,")
    return Sliced([(axis, slice(*cut)) for axis, *cut in zip(at, starts, ends, by, strict=True)])


class Sliced(nn.Module):
    """Part of each image, cut along some axes, of which negative ones count from the end."""

    def __init__(self, cuts: Sequence[tuple[int, slice]]) -> None:
        super().__init__()
        self.cuts = cuts

    def forward(self, x: Tensor) -> Tensor:
        """Return the part; along the axis of the images it is a `ValueError`."""
        whole = [slice(None)] * x.ndim
        for axis, cut in self.cuts:
            if axis % x.ndim == 0:
                raise ValueError("cuts along the axis of the images")
            whole[axis] = cut
        return x[tuple(whole)]


def _reshape(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    wanted = [int(n) for n in constant(operator, 1, path)]
    if operator.attributes.get("allowzero") and 0 in wanted:
        raise no_twin(operator, path, "with allowzero")
    return Reshape(lambda shape: [shape[i] if n == 0 else n for i, n in enumerate(wanted)])


def _flatten(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    axis = operator.attributes.get("axis", 1)
    return Reshape(lambda shape: [math.prod(shape[:axis]), -1])


class Reshape(nn.Module):
    """Give each image another shape: that which `wanted` says for a batch of one, given the shape of one."""

    def __init__(self, wanted: Callable[[tuple[int, ...]], list[int]]) -> None:
        super().__init__()
        self.wanted = wanted

    def forward(self, x: Tensor) -> Tensor:
        """Return the same values; where one image becomes several rows it is a `ValueError`."""
        images, *shape = x[:1].reshape(self.wanted((1, *x.shape[1:]))).shape
        if images != 1:
            raise ValueError(f"makes {images} rows of an image of shape {tuple(x.shape[1:])}")
        return x.reshape(len(x), *shape)


def _gather(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    """Convert what takes parts by constant indices; one index alone takes its axis away."""
    axis, indices = operator.attributes.get("axis", 0), constant(operator, 1, path)
    if axis == 0 or indices.ndim > 1:
        raise no_twin(operator, path, "along the axis of the images, or by many axes of indices,")
    if indices.ndim == 0:
        return Function(Tensor.select, axis, int(indices))
    chosen = torch.from_numpy(indices.astype(np.int64))
    return Function(lambda x: x.index_select(axis, chosen % x.shape[axis]))


def _depth_to_space(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    block = operator.attributes["blocksize"]
    shuffle = Function(functional.pixel_shuffle, block)
    if operator.attributes.get("mode", b"DCR") == b"CRD":
        return shuffle
    return Sequential(Function(lambda x: x.unflatten(1, (block**2, -1)).transpose(1, 2).flatten(1, 2)), shuffle)


def _resize(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    """Convert a resize that repeats each pixel a whole number of times."""
    settings, scales = operator.attributes, optional(operator, 2, path)
    how = [settings.get("mode"), settings.get("coordinate_transformation_mode"), settings.get("nearest_mode")]
    if how != [b"nearest", b"asymmetric", b"floor"] or scales is None or scales.size != 4:
        raise no_twin(operator, path, "other than nearest, asymmetric, floor, and by scales,")
    times = scales.astype(np.int64)
    if any(times != scales) or any(times[:2] != 1) or "axes" in settings:
        raise no_twin(operator, path, f"by scales of {scales.tolist()}")
    high, wide = times[2:].tolist()
    return Function(lambda x: x.repeat_interleave(high, 2).repeat_interleave(wide, 3))


def _split(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    settings, sizes = operator.attributes, optional(operator, 1, path)
    parts = settings.get("parts", 1) if sizes is None else sizes.tolist()
    return Part(settings.get("axis", 0), parts, settings.get("part", 0))


def _transpose(operator: Operator, quant: Quant, path: Path) -> nn.Module:
    order = operator.attributes.get("perm", [1])
    if order[0] != 0:
        raise no_twin(operator, path, "of the axis of the images")
    return Function(Tensor.permute, *order)


MOVES: dict[str, Callable[[Operator, Quant, Path], nn.Module]] = {
    "MaxPool": _max_pool, "Pad": _pad, "Slice": _slice, "Reshape": _reshape, "Flatten": _flatten, "Gather": _gather,
    "DepthToSpace": _depth_to_space, "Resize": _resize, "Split": _split, "Transpose": _transpose,
}  # fmt: skip
