"""In which use an operator has a twin: how many axes, which of them holds the images, what is constant.

A file's tensors are those of one image, or of any number along a first axis of 1 or -1. A twin's tensors hold images
along their first axis: in place of that axis where a file's tensor has it, in front of the others where it has not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.device.errors import UserError
from backends.device.reading import first_line
from exporters.files.description import Operator
from exporters.files.description import Tensor as FileTensor
from patches.twins.network import Quant

Made = TypeVar("Made")
How = TypeVar("How")


def no_twin(operator: Operator, path: Path, use: str) -> UserError:
    """Return the error for an operator that has a twin, but not in this use."""
    return UserError(f"{path}: {operator.numbered} {use} has no twin yet")


def constant(operator: Operator, position: int, path: Path) -> NDArray[Any]:
    """Return the values of an operator's input; one that is no constant is a `UserError`."""
    values = operator.inputs[position].values if position < len(operator.inputs) else None
    if values is None:
        raise UserError(f"{path}: {operator.numbered}: expected constant parameters")
    return values


def weight_steps(operator: Operator, axis: int, path: Path) -> NDArray[np.int64]:
    """Return an operator's weights minus their zero points; those of several scales have them along `axis`."""
    tensor = operator.inputs[1]
    if tensor.values is None or tensor.dtype not in ("int4", "int8", "uint8"):
        raise UserError(f"{path}: expected constant weights of 8 or 4 bits, but {tensor.name!r} is {tensor.dtype}")
    if tensor.axis not in (None, axis):
        raise no_twin(operator, path, f"with scales along axis {tensor.axis} of its weights")
    zero_points = np.array(tensor.zero_point, np.int64)
    shape = [-1 if axis == tensor.axis else 1 for axis in range(tensor.values.ndim)]
    return tensor.values.astype(np.int64) - zero_points.reshape(shape if zero_points.size > 1 else ())


def bias_of(operator: Operator, path: Path) -> NDArray[Any] | None:
    """Return what an operator adds to its products, if it does."""
    return constant(operator, 2, path) if len(operator.inputs) > 2 else None


def constant_steps(tensor: FileTensor, zero_point: int) -> Tensor:
    """Return a constant minus its zero point, float32."""
    return torch.from_numpy(np.array(tensor.values, np.float32)) - zero_point


def quant_of(tensor: FileTensor, path: Path) -> Quant:
    """Return the quantization of an 8-bit tensor; any other tensor is a `UserError`."""
    if len(tensor.scale) != 1 or tensor.dtype not in ("int8", "uint8"):
        raise UserError(f"{path}: expected 8-bit integers with one scale, but {tensor.name!r} is {tensor.dtype}")
    limits = np.iinfo(tensor.dtype)
    return Quant(float(np.float32(tensor.scale[0])), tensor.zero_point[0], int(limits.min), int(limits.max))


def has_batch(tensor: FileTensor) -> bool:
    """Whether the first axis of a file's tensor holds the images."""
    return bool(tensor.shape) and tensor.shape[0] in (1, -1)  # type: ignore[index]


def of_one(tensor: FileTensor) -> tuple[int, ...]:
    """Return the shape of one image's part of a tensor."""
    shape = tensor.shape or ()
    return shape[1:] if has_batch(tensor) else shape


def image_shape(operator: Operator, path: Path) -> tuple[int, int, int]:
    """Return (height, width, channels) of an operator's first input, which has to be images."""
    shape = of_one(operator.inputs[0])
    if not has_batch(operator.inputs[0]) or len(shape) != 3 or min(shape) < 1:
        raise no_twin(operator, path, f"on a tensor of shape {operator.inputs[0].shape}")
    height, width, channels = shape
    return height, width, channels


def require_batch(operator: Operator, path: Path, axes: tuple[int, ...] = ()) -> None:
    """Refuse an operator on tensors whose first axis does not hold the images, or along that axis."""
    tensors = [tensor for tensor in (*operator.inputs[:1], *operator.outputs) if tensor.values is None]
    if not all(map(has_batch, tensors)) or 0 in axes:
        raise no_twin(operator, path, "along the axis of the images")


def require_same_quant(operator: Operator, path: Path) -> None:
    """Refuse an operator that moves integers to a tensor of another scale; reals have none."""
    x, out = operator.inputs[0], operator.outputs[0]
    if x.is_float and out.is_float:
        return
    if (x.scale, x.zero_point, x.dtype) != (out.scale, out.zero_point, out.dtype):
        raise no_twin(operator, path, "between different scales")


def by_output(operator: Operator) -> list[Operator]:
    """Return an operator of several outputs as one for each: it knows which ``part`` of how many ``parts`` it gives."""
    if len(operator.outputs) == 1:
        return [operator]
    settings = operator.attributes | {"parts": len(operator.outputs)}
    return [
        replace(operator, outputs=(out,), attributes=settings | {"part": part})
        for part, out in enumerate(operator.outputs)
    ]


def require_same_size(operator: Operator, path: Path) -> None:
    """Refuse an operator that turns one image into several."""
    before, after = (of_one(tensor) for tensor in (operator.inputs[0], operator.outputs[0]))
    if min(before + after, default=1) > 0 and prod(before) != prod(after):
        raise no_twin(operator, path, "along the axis of the images")


def converted(make: Callable[[Operator, How, Path], Made], operator: Operator, how: How, path: Path) -> Made:
    """Convert an operator; what its converter did not foresee is a `UserError` that names it."""
    try:
        return make(operator, how, path)
    except (RuntimeError, LookupError, ValueError, TypeError) as error:
        raise no_twin(operator, path, f"in this form ({first_line(error)})") from error
