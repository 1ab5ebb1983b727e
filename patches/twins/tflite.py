"""Twins of TFLite files."""

from __future__ import annotations

from pathlib import Path

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from exporters.files import require_integer
from exporters.files.description import Description, Operator
from exporters.files.description import Tensor as FileTensor
from exporters.files.tflite import delegated
from patches.twins.layers import Chain
from patches.twins.network import Step, Twin, single
from patches.twins.pixels import Levels, Quantized, guessed
from patches.twins.tflite_layers import LAYERS, quant_of

AFTER = {"SOFTMAX", "QUANTIZE", "DEQUANTIZE", "RESHAPE"}  # may lie between the last integers and the output


def read(path: Path, kernels: str, preproc: Preproc | None, class_offset: int) -> Twin:
    """The twin of a ``.tflite`` file; ends before a final softmax or dequantization."""
    description = require_integer(path)
    operators, output = _before_softmax(description)
    entry = description.inputs[0]
    if len(description.inputs) != 1 or len(description.outputs) != 1 or len(entry.shape or ()) != 4:
        raise UserError(f"{path}: expected one image in and one vector out")
    start = quant_of(entry, path)
    preproc = preproc or guessed(start, "nhwc")
    prepared = Chain(Levels(preproc), Quantized(start))
    steps = [Step(("pixels",), entry.name, prepared)]
    taken = delegated(path) if kernels == "xnnpack" else frozenset()
    for operator in operators:
        make = LAYERS.get(operator.name)
        if make is None:
            raise UserError(f"{path}: no twin of the operator {operator.name} (number {operator.index}) is known yet")
        inputs = tuple(t.name for t in operator.inputs if t.values is None)
        own = "builtin" if kernels == "xnnpack" and operator.index not in taken else kernels
        steps.append(Step(inputs, operator.outputs[0].name, make(operator, own, path)))
    single(steps, path)
    return Twin(path, kernels, preproc, steps, output.name, quant_of(output, path), class_offset)


def _before_softmax(description: Description) -> tuple[tuple[Operator, ...], FileTensor]:
    """The operators before a final softmax or dequantization, and the tensor that they end with; else all."""
    kept, output = description.operators, description.outputs[0]
    last = output
    for count, operator in reversed(list(enumerate(description.operators))):
        if operator.name not in AFTER or operator.outputs[0].name != last.name:
            break
        last = operator.inputs[0]
        if operator.name in ("SOFTMAX", "DEQUANTIZE"):
            kept, output = description.operators[:count], last
    return kept, output
