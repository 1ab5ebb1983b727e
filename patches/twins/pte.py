"""Twins of ``.pte`` files, built from the nodes of XNNPACK's graph in ExecuTorch's delegate."""

from __future__ import annotations

from pathlib import Path

from backends.device.artifact import Layout, Preproc
from backends.device.errors import UserError
from exporters.files import describe, prove
from exporters.files.description import Description, Operator
from exporters.files.description import Tensor as FileTensor
from exporters.files.image_input import guess_preproc, image_layout, require_free_batch
from patches.twins.network import Node, Twin, require_unique_outputs
from patches.twins.pixels import Preprocess
from patches.twins.pte_layers import LAYERS
from patches.twins.uses import converted, no_twin, of_one, quant_of

AFTER = {"Copy", "StaticReshape"}  # may lie between the last integers and the output, beside their dequantization
DTYPES = ("float32", "int8", "int32")
KEEPS_AXES = 0x40  # XNNPACK's flag of poolings and means


def read(path: Path, preproc: Preproc | None, class_offset: int, layout: Layout | None) -> Twin:
    """Build the twin of a ``.pte`` file; it ends before the last dequantization."""
    description = describe(path)
    prove(description, {operator.name for operator in description.in_float})
    if [len(tensor.shape or ()) for tensor in description.inputs] != [4] or len(description.outputs) != 1:
        raise UserError(f"{path}: expected one image in and one vector out")
    require_free_batch(description)
    entry = description.inputs[0]
    preproc = preproc or guess_preproc(description, image_layout(description, layout))
    nodes = [Node(("pixels",), entry.name, Preprocess(preproc))]
    shapes = {entry.name: entry.shape}
    operators, output = _before_dequantization(description)
    for operator in operators:
        _require_known(operator, shapes, path)
        layer, out = converted(LAYERS[operator.name], operator, "xnnpack", path), operator.outputs[0]
        inputs = tuple(tensor.name for tensor in operator.inputs if tensor.values is None)
        quant = None if out.is_float else quant_of(out, path)
        nodes.append(Node(inputs, out.name, layer, operator.numbered, of_one(out), quant))
        shapes[out.name] = out.shape
    require_unique_outputs(nodes, path)
    return Twin(path, "executorch", preproc, nodes, output.name, quant_of(output, path), class_offset)


def _require_known(operator: Operator, shapes: dict[str, tuple[int, ...] | None], path: Path) -> None:
    """Refuse an operator that no twin knows, of a tensor that nothing gives, or in another layout than it is given."""
    if operator.in_float:
        raise UserError(f"{path}: operator {operator.numbered} computes in float, and has no twin yet")
    if operator.name not in LAYERS:
        raise UserError(f"{path}: operator {operator.numbered} has no twin yet")
    if flags := operator.attributes.get("flags", 0) & ~KEEPS_AXES:
        raise no_twin(operator, path, f"with XNNPACK's flags {flags:#x}")
    for tensor in (*operator.inputs, *operator.outputs):
        if tensor.dtype not in DTYPES:
            raise no_twin(operator, path, f"on {tensor.dtype}")
    for tensor in operator.inputs:
        if tensor.values is None and shapes.get(tensor.name) != tensor.shape:
            raise no_twin(operator, path, f"of {tensor.name!r}, which nothing gives in its shape,")


def _before_dequantization(description: Description) -> tuple[tuple[Operator, ...], FileTensor]:
    """Return the operators before the last dequantization, and the tensor they end with."""
    last = description.outputs[0]
    for count, operator in reversed(list(enumerate(description.operators))):
        if not operator.inputs or [out.name for out in operator.outputs] != [last.name] or not last.is_float:
            break
        last = operator.inputs[0]
        if operator.name == "Convert":
            return description.operators[:count], last
        if operator.name not in AFTER:
            break
    ends = description.operators[-1].numbered
    raise UserError(f"{description.path}: expected integers, dequantized at the end; the last operator is {ends}")
