"""Convert the operators that onnxruntime computes in float, whose constants may be dequantized on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from exporters.files import onnx_cut
from exporters.files.description import Operator
from patches.twins.asked import Asked, OnnxKernel
from patches.twins.network import REALS, Quant
from patches.twins.onnx_layers import Layer, quant_at
from patches.twins.onnx_reals import FUNCTIONS

IN_INTEGERS = {"QLinearSoftmax"}  # integer kernels that compute in float inside


def kernels(path: Path, operators: tuple[Operator, ...]) -> dict[int, OnnxKernel]:
    """Return the kernels, by their operators' indices, that a twin of these operators has to ask."""
    indices = [o.index for o in operators if o.name in FUNCTIONS and (o.in_float or o.name in IN_INTEGERS)]
    return dict(zip(indices, map(OnnxKernel, onnx_cut.apart(path, indices)), strict=True)) if indices else {}


def asked(operator: Operator, quants: Mapping[str, Quant], kernel: OnnxKernel, path: Path) -> Layer:
    """Convert an operator that onnxruntime itself computes for the twin."""
    function = FUNCTIONS[operator.name]
    axes = function.axes(operator.attributes)
    real = function.of(operator.attributes)
    if operator.name in IN_INTEGERS:
        x, out = quant_at(operator, 1, path), quant_at(operator, 3, path)
        return Layer(Asked(kernel, real, (x, out), axes=axes), operator.inputs[:1], out)
    given = tuple(tensor for tensor in operator.inputs if tensor.name)
    fixed = {position: tensor.values for position, tensor in enumerate(given) if tensor.values is not None}
    taken = tuple(tensor for tensor in given if tensor.values is None)
    if any(quants.get(tensor.name) != REALS for tensor in taken):
        raise UserError(f"{path}: {operator.numbered}: expected floats")
    return Layer(Asked(kernel, real, [REALS] * (len(taken) + 1), fixed, axes), given, REALS)


def fixed(operator: Operator) -> NDArray[Any] | None:
    """Return what the dequantization of a constant gives; None for any other operator."""
    if operator.name != "DequantizeLinear" or any(tensor.values is None for tensor in operator.inputs):
        return None
    values, scale, *zero_points = (np.asarray(tensor.values) for tensor in operator.inputs)
    axis = operator.attributes.get("axis", 1)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)] if scale.size > 1 else []
    zero_point = zero_points[0].astype(np.int32).reshape(shape) if zero_points else 0
    steps = (values.astype(np.int32) - zero_point).astype(np.float32)
    return np.asarray(steps * scale.reshape(shape))


def with_constants(operator: Operator, constants: Mapping[str, NDArray[Any]]) -> Operator:
    """Return an operator whose inputs have the values of dequantized constants."""
    inputs = (replace(t, values=constants[t.name]) if t.name in constants else t for t in operator.inputs)
    return replace(operator, inputs=tuple(inputs))
