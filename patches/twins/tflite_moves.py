"""Convert TFLite's operators that move integers without computing, which are the same for all kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.files.description import Operator
from patches.twins.layers import Concat, Function, Part, Sequential, WithConstant, each_to
from patches.twins.uses import (
    constant,
    constant_steps,
    has_batch,
    image_shape,
    no_twin,
    of_one,
    require_batch,
    require_same_quant,
    require_same_size,
)


def _pad(operator: Operator, kernels: str, path: Path) -> nn.Module:
    zero_point = operator.outputs[0].zero_point[0]
    value = float(np.ravel(constant(operator, 2, path))[0]) - zero_point if len(operator.inputs) > 2 else 0.0
    return padded(operator, constant(operator, 1, path).tolist(), value, path)


def padded(operator: Operator, pairs: Sequence[Sequence[int]], value: float, path: Path) -> nn.Module:
    """Return padding by a step, of so many before and after along each axis."""
    require_same_quant(operator, path)
    require_batch(operator, path, tuple(axis for axis, pair in enumerate(pairs) if any(pair)))
    return Function(functional.pad, [int(n) for pair in reversed(pairs) for n in pair], value=value)


def _slice(operator: Operator, kernels: str, path: Path) -> nn.Module:
    return sliced(operator, _cuts(operator, path), path)


def sliced(operator: Operator, cuts: list[slice], path: Path) -> nn.Module:
    """Return a slice, whose axes may run backwards: such an axis is turned around first."""
    require_same_quant(operator, path)
    shape = operator.inputs[0].shape or ()
    if has_batch(operator.inputs[0]):
        some = max(shape[0], 1) if shape[0] > 0 else 2  # images
        require_batch(operator, path, () if cuts[0].indices(some) == (0, some, 1) else (0,))
    else:  # one image's part has all its axes
        shape = (1, *shape)
        cuts.insert(0, slice(None))
    turned = [axis for axis, cut in enumerate(cuts) if (cut.step or 1) < 0]
    for axis in turned:
        if shape[axis] < 1:
            raise no_twin(operator, path, "backwards along an axis of any length")
        backwards = range(*cuts[axis].indices(shape[axis]))
        first = shape[axis] - 1 - backwards.start
        cuts[axis] = slice(first, first - len(backwards) * backwards.step, -backwards.step)
    cut = Sequential(Function(Tensor.__getitem__, (slice(None), *cuts[1:])), each_to(*of_one(operator.outputs[0])))
    return Sequential(Function(torch.flip, turned), cut) if turned else cut


def _cuts(operator: Operator, path: Path) -> list[slice]:
    settings = operator.attributes
    first, second = (np.ravel(constant(operator, i, path)).tolist() for i in (1, 2))
    if operator.name == "SLICE":
        return [slice(a, None if n < 0 else a + n) for a, n in zip(first, second, strict=True)]
    if any(settings.get(mask) for mask in ("ellipsisMask", "newAxisMask", "shrinkAxisMask", "offset")):
        raise no_twin(operator, path, "that changes the rank")
    strides = np.ravel(constant(operator, 3, path)).tolist()
    begin, end = settings.get("beginMask", 0), settings.get("endMask", 0)
    return [
        slice(None if begin >> i & 1 else first[i], None if end >> i & 1 else second[i], strides[i])
        for i in range(len(strides))
    ]


def _transpose(operator: Operator, kernels: str, path: Path) -> nn.Module:
    return transposed(operator, np.ravel(constant(operator, 1, path)).tolist(), path)


def transposed(operator: Operator, order: Sequence[int], path: Path) -> nn.Module:
    """Return a tensor's axes in another order."""
    require_same_quant(operator, path)
    x, out = operator.inputs[0], operator.outputs[0]
    if has_batch(x) and order[0] == 0:
        return Function(Tensor.permute, *order)
    require_same_size(operator, path)
    whole = (1, *of_one(x)) if has_batch(x) else of_one(x)  # the file's axes, behind that of the images
    return Sequential(each_to(*whole), Function(Tensor.permute, 0, *(n + 1 for n in order)), each_to(*of_one(out)))


def reshaped(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Return a tensor in the shape of an operator's output."""
    require_same_quant(operator, path)
    require_same_size(operator, path)
    return each_to(*of_one(operator.outputs[0]))


def _concat(operator: Operator, kernels: str, path: Path) -> nn.Module:
    if operator.attributes.get("fusedActivationFunction"):
        raise no_twin(operator, path, "with an activation")
    return concatenated(operator, path)


def concatenated(operator: Operator, path: Path) -> nn.Module:
    """Return a concatenation along ``axis``, of which some parts may be constants."""
    out = operator.outputs[0]
    scales = {(t.scale, t.zero_point) for t in (*operator.inputs, out)}
    if len(scales) > 1 and not out.is_float:
        raise no_twin(operator, path, "of different scales")
    axis = operator.attributes["axis"] % len(out.shape or ())
    require_batch(operator, path, (axis,))
    zero_point = 0 if out.is_float else out.zero_point[0]
    fixed = {
        position: constant_steps(tensor, zero_point)
        for position, tensor in enumerate(operator.inputs)
        if tensor.values is not None
    }
    return Concat(axis, fixed=fixed)


def _split(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert one output of a split into equal parts or parts of given sizes."""
    if operator.name == "SPLIT":
        axis, x = operator.inputs
        sizes: list[int] | int = operator.attributes.get("parts", 1)
    else:
        x, _, axis = operator.inputs
        sizes = np.ravel(constant(operator, 1, path)).tolist()
    moved = replace(operator, inputs=(x, axis))
    require_same_quant(moved, path)
    along = int(np.ravel(constant(moved, 1, path))[0]) % len(x.shape or ())
    require_batch(moved, path, (along,))
    return Part(along, sizes, operator.attributes.get("part", 0))


def _broadcast(operator: Operator, kernels: str, path: Path) -> nn.Module:
    require_same_quant(operator, path)
    require_batch(operator, path)
    if len(operator.inputs[0].shape or ()) != len(operator.outputs[0].shape or ()):
        raise no_twin(operator, path, "to another number of axes")
    return Function(Tensor.expand, -1, *of_one(operator.outputs[0]))


def _depth_to_space(operator: Operator, kernels: str, path: Path) -> nn.Module:
    require_same_quant(operator, path)
    block, (height, width, _) = operator.attributes["blockSize"], image_shape(operator, path)
    apart = each_to(height, width, block, block, -1)
    return Sequential(apart, Function(Tensor.permute, 0, 1, 3, 2, 4, 5), each_to(*of_one(operator.outputs[0])))


def _nearest(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a resize that takes the nearest pixel, whose place the kernels compute in float32."""
    require_same_quant(operator, path)
    sides = list(zip(image_shape(operator, path), of_one(operator.outputs[0])[:2], strict=False))
    if kernels == "tosa" and any(after % before for before, after in sides):
        raise no_twin(operator, path, "by tosa, to no multiple of its size,")
    rows, columns = (_places(before, after, operator.attributes) for before, after in sides)
    return Function(lambda x: x[:, rows[:, None], columns])


def _places(before: int, after: int, settings: Mapping[str, Any]) -> Tensor:
    """Return the pixel of a side that each of the resized side takes."""
    corners = bool(settings.get("alignCorners")) and after > 1
    scale = np.float32(before - corners) / np.float32(after - corners)
    middle = np.float32(0.5 if settings.get("halfPixelCenters") else 0)
    real = (np.arange(after, dtype=np.float32) + middle) * scale
    whole = np.floor(real + np.float32(0.5)) if corners else np.floor(real)
    return torch.from_numpy(np.minimum(whole.astype(np.int64), before - 1))


class Select(nn.Module):
    """Steps of one tensor where a condition holds, of another elsewhere."""

    def forward(self, condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """Return the steps."""
        return torch.where(condition, one, other)


def _select(operator: Operator, kernels: str, path: Path) -> nn.Module:
    condition, *chosen = operator.inputs
    out = operator.outputs[0]
    if {(t.scale, t.zero_point) for t in chosen} != {(out.scale, out.zero_point)} or condition.values is not None:
        raise no_twin(operator, path, "between different scales, or by a constant,")
    if len({of_one(tensor) for tensor in (condition, out)}) > 1:
        raise no_twin(operator, path, "by a condition of another shape")
    layer: nn.Module = Select()
    for position, tensor in enumerate(chosen, 1):
        if tensor.values is not None:
            layer = WithConstant(layer, constant_steps(tensor, out.zero_point[0]), position)
    return layer


MOVES: dict[str, Callable[[Operator, str, Path], nn.Module]] = {
    "CONCATENATION": _concat, "PAD": _pad, "PADV2": _pad, "SLICE": _slice, "STRIDED_SLICE": _slice,
    "SELECT": _select, "SELECT_V2": _select,
    "TRANSPOSE": _transpose, "RESHAPE": reshaped, "SQUEEZE": reshaped, "EXPAND_DIMS": reshaped,
    "SPLIT": _split, "SPLIT_V": _split, "BROADCAST_TO": _broadcast, "DEPTH_TO_SPACE": _depth_to_space,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
}  # fmt: skip
