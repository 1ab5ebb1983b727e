"""Twins of ONNX files, built from the graph that onnxruntime optimises them to."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from backends.device.artifact import Layout, Preproc
from backends.device.errors import UserError
from exporters.files import describe, prove
from exporters.files.description import Operator
from exporters.files.image_input import image_layout, require_free_batch
from patches.twins import onnx_asked, onnx_lifted
from patches.twins.asked import OnnxKernel
from patches.twins.network import REALS, Node, Twin, require_unique_outputs
from patches.twins.onnx_layers import LAYERS, Converter
from patches.twins.pixels import Preprocess
from patches.twins.uses import by_output, converted, no_twin

AFTER = {"DequantizeLinear", "Softmax", "Reshape", "Flatten", "Identity", "Squeeze"}  # may follow the last integers


def read(path: Path, preproc: Preproc | None, class_offset: int, layout: Layout | None) -> Twin:
    """Build the twin of an ``.onnx`` file; it ends at the last dequantization, before any final softmax."""
    description = describe(path)
    prove(description, {operator.name for operator in description.in_float})
    if len(description.inputs) != 1 or len(description.outputs) != 1 or description.inputs[0].dtype != "float32":
        raise UserError(f"{path}: expected one float32 image in and one vector out")
    require_free_batch(description)
    preproc = preproc or Preproc(image_layout(description, layout))
    nodes = [Node(("pixels",), description.inputs[0].name, Preprocess(preproc))]
    quants = {description.inputs[0].name: REALS}
    constants: dict[str, NDArray[Any]] = {}
    executed = list(description.executed)
    while executed and executed[-1].name in AFTER and executed[-1].outputs[0].dtype == "float32":
        executed.pop()
    if not executed or len(executed) == len(description.executed):
        last = executed[-1].numbered if executed else "none"
        raise UserError(f"{path}: expected integers, dequantized at the end; the last operator is {last}")
    kernels = onnx_asked.kernels(path, tuple(executed))
    shapes = onnx_lifted.shapes(description)
    for given in chain.from_iterable(map(by_output, executed)):
        operator = onnx_asked.with_constants(given, constants)
        if (values := onnx_asked.fixed(operator)) is not None:
            constants[operator.outputs[0].name] = values
            continue
        make = onnx_lifted.lifted(_converter(operator, kernels), operator, shapes)
        if make is None:
            raise UserError(f"{path}: operator {operator.numbered} has no twin yet")
        layer, inputs, quant = converted(make, operator, quants, path)
        output = operator.outputs[0].name
        taken = tuple(t.name for t in inputs if t.values is None)
        nodes.append(Node(taken, output, layer, operator.numbered, quant=None if quant == REALS else quant))
        quants[output] = quant
    if output in shapes and shapes[output].lifted:
        raise no_twin(operator, path, "along the axis of the images")
    if quants[output] == REALS:
        raise UserError(f"{path}: a twin ends in integers, and the last operator computes in float: {operator.name}")
    require_unique_outputs(nodes, path)
    return Twin(path, "onnxruntime", preproc, nodes, output, quants[output], class_offset)


def _converter(operator: Operator, kernels: Mapping[int, OnnxKernel]) -> Converter | None:
    if operator.index in kernels:
        kernel = kernels[operator.index]
        return lambda operator, quants, path: onnx_asked.asked(operator, quants, kernel, path)
    return LAYERS.get(operator.name)
