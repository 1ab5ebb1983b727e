"""Twins of TFLite files."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from torch import nn

from backends.device.artifact import Layout, Preproc
from backends.device.errors import UserError
from exporters.files import describe, prove
from exporters.files.description import Description, Operator
from exporters.files.description import Tensor as FileTensor
from exporters.files.image_input import guess_preproc, image_layout, require_free_batch
from exporters.files.tflite import delegated
from patches.twins.layers import Sequential
from patches.twins.network import Node, Twin, require_unique_outputs
from patches.twins.pixels import Preprocess, Quantized
from patches.twins.tflite_floats import FLOATS, asked
from patches.twins.tflite_layers import LAYERS
from patches.twins.uses import by_output, converted, of_one, quant_of

AFTER = {"SOFTMAX", "QUANTIZE", "DEQUANTIZE", "RESHAPE"}  # may lie between the last integers and the output


def read(path: Path, kernels: str, preproc: Preproc | None, class_offset: int, layout: Layout | None) -> Twin:
    """Build the twin of a ``.tflite`` file; it ends before a final softmax or dequantization."""
    description = describe(path)
    prove(description, {operator.name for operator in description.in_float})
    if [len(tensor.shape or ()) for tensor in description.inputs] != [4] or len(description.outputs) != 1:
        raise UserError(f"{path}: expected one image in and one vector out")
    require_free_batch(description)
    _require_scales(description)
    operators, output = _before_softmax(description)
    entry = description.inputs[0]
    preproc = preproc or guess_preproc(description, image_layout(description, layout))
    prepared: nn.Module = Preprocess(preproc)
    if entry.dtype != "float32":
        prepared = Sequential(prepared, Quantized(quant_of(entry, path)))
    nodes = [Node(("pixels",), entry.name, prepared)]
    taken = delegated(path) if kernels == "xnnpack" else frozenset()
    for operator in chain.from_iterable(map(by_output, operators)):
        make = asked if operator.in_float and operator.name in FLOATS else LAYERS.get(operator.name)
        if make is None:
            raise UserError(f"{path}: operator {operator.numbered} has no twin yet")
        inputs = tuple(t.name for t in operator.inputs if t.values is None)
        own = "builtin" if kernels == "xnnpack" and operator.index not in taken else kernels
        layer, out = converted(make, operator, own, path), operator.outputs[0]
        quant = quant_of(out, path) if out.dtype in ("int8", "uint8") else None
        nodes.append(Node(inputs, out.name, layer, operator.numbered, of_one(out), quant))
    require_unique_outputs(nodes, path)
    return Twin(path, kernels, preproc, nodes, output.name, quant_of(output, path), class_offset)


def _require_scales(description: Description) -> None:
    """Raise a `UserError` for 8-bit integers without a scale: XNNPACK would end this process."""
    for operator in description.operators:
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor.dtype in ("int8", "uint8") and not tensor.scale:
                raise UserError(
                    f"{description.path}: {operator.numbered}: {tensor.name!r} is {tensor.dtype} without a scale"
                )


def _before_softmax(description: Description) -> tuple[tuple[Operator, ...], FileTensor]:
    """Return the operators before a final softmax or dequantization, if any, and the tensor they end with."""
    kept = description.operators
    output = last = description.outputs[0]
    for count, operator in reversed(list(enumerate(description.operators))):
        if operator.name not in AFTER or not operator.inputs or [out.name for out in operator.outputs] != [last.name]:
            break
        last = operator.inputs[0]
        if operator.name in ("SOFTMAX", "DEQUANTIZE"):
            kept = description.operators[:count]
            output = last
    return kept, output
