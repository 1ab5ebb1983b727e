"""Prove that what tpu-mlir compiled has the scales that its table asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from exporters.calibration import short
from exporters.files.description import Description, Operator, Tensor

Thresholds = Mapping[str, tuple[float, float]]  # of a layer: the largest absolute value, and the least
SMALLEST_SCALE = 1e-5  # of weights on BM1684X
MOVERS = {"Concat", "MaxPool2D", "Pad", "Permute", "Reshape", "Slice"}  # what they take and give may share a scale


def require_scales(file: Description, layers: Sequence[Operator], thresholds: Thresholds) -> None:
    """Check each scale of activations and weights in a file; ``layers`` are those of the float network.

    A scale is the threshold over 127, or over 255 where integers are unsigned, which only what is never negative may
    be; weights have their largest over 127, of each output channel or, in dense layers, of all. Tensors that share a
    scale, as parts and what joins them, have that of one of them.
    """
    floats = {layer.outputs[0].name: layer for layer in layers}
    sharing = _sharing(file.operators)
    for operator in file.operators:
        (output,) = operator.outputs
        if output.scale:
            name = operator.inputs[0].name if operator.name in ("Cast", "quant") else output.name
            rows = [
                thresholds[one]
                for one in (name, *sorted(sharing.get(output.name, set()) - {name}))
                if one in thresholds
            ]
            if not any(_implied(output, most, least) for most, least in rows):
                raise _differs(file, output, np.array([most / 127 for most, _ in rows]))
        layer = floats.get(output.name)
        if layer and layer.name in ("Conv", "MatMul"):
            _require_weights(file, operator, layer)


def _sharing(operators: Sequence[Operator]) -> dict[str, set[str]]:
    """Return, by name, the tensors of one scale that are linked by operators that move values."""
    groups: dict[str, set[str]] = {}
    for operator in operators:
        if operator.name in MOVERS:
            (output,) = operator.outputs
            linked = {output.name, *(one.name for one in operator.inputs if one.scale == output.scale)}
            linked = set().union(*(groups.get(name, {name}) for name in linked))
            groups |= dict.fromkeys(linked, linked)
    return groups


def _implied(tensor: Tensor, most: float, least: float) -> bool:
    unsigned = tensor.dtype == "uint8"
    scale = most / (255 if unsigned else 127)
    fits = tensor.zero_point == (0,) and not (unsigned and least < 0)
    return fits and bool(np.allclose(tensor.scale, scale, rtol=1e-4))


def _require_weights(file: Description, operator: Operator, layer: Operator) -> None:
    weights, real = operator.inputs[1], layer.inputs[1].values
    if real is None or weights.values is None or not weights.scale:
        raise UserError(f"{file.path}: the weights of {short(operator.outputs[0].name)!r} are not in integers")
    rows: NDArray[np.float32] = real.reshape(len(real), -1) if layer.name == "Conv" else real.reshape(1, -1)
    scales = np.abs(rows).max(1) / 127
    found = np.array(weights.scale)
    floored = np.maximum(scales, SMALLEST_SCALE)
    if found.shape != scales.shape or not np.all(
        np.isclose(found, scales, rtol=1e-3) | np.isclose(found, floored, rtol=1e-3)
    ):
        raise _differs(file, weights, scales)


def _differs(file: Description, tensor: Tensor, wanted: NDArray[np.float64]) -> UserError:
    return UserError(
        f"{file.path}: the scale of {short(tensor.name)!r} is not what its QuantSpec implies: expected "
        f"{np.array2string(wanted, threshold=4)}, the file has {np.array2string(np.array(tensor.scale), threshold=4)}"
    )
