"""Prove that a ``.pte`` file's integers are those that its `QuantSpec` asked for; tensors have no names in it."""

from __future__ import annotations

import numpy as np

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Affine
from exporters.files.description import WEIGHTS, Description, Tensor
from exporters.pte_observers import Observers


def require_scales(file: Description, observers: Observers, quant: QuantSpec) -> None:
    """Check that the scales and zero points in a file are those of the observers, and its weights' levels.

    A scale that no observer has, and weights that the file lost, are a `UserError`.
    """
    expected = list(observers.activations.values())
    waiting = [weights.scales for weights in observers.weights]
    highest = 2 ** (quant.weight_bits - 1) - 1
    for operator in file.operators:
        for place, tensor in enumerate((*operator.inputs, *operator.outputs)):
            if not tensor.scale or tensor.dtype == "int32":
                continue
            if place == WEIGHTS.get(operator.name) and tensor.values is not None:
                scales = np.array(tensor.scale)
                match = [i for i, one in enumerate(waiting) if _same(one, scales)]
                if not match or np.abs(tensor.values.astype(np.int64)).max() > highest:
                    raise _differs(file, tensor)
                del waiting[match[0]]
            elif not any(_is(tensor, affine) for affine in expected):
                raise _differs(file, tensor)
    if waiting:
        raise UserError(f"{file.path}: {len(waiting)} weight tensors are not in integers: try another format")


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-5, atol=0)


def _is(tensor: Tensor, affine: Affine) -> bool:
    return _same(np.array([affine.scale]), np.array(tensor.scale)) and set(tensor.zero_point) == {affine.zero_point}


def _differs(file: Description, tensor: Tensor) -> UserError:
    return UserError(
        f"{file.path}: {tensor.name!r} has scale {tensor.scale[0]:.6g} and zero point {tensor.zero_point[0]}, which "
        "its QuantSpec does not imply: try another format"
    )
