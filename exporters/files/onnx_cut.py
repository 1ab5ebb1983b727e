"""Cut an ONNX file: make an inner tensor its output, or keep one operator alone."""

from __future__ import annotations

from pathlib import Path

from backends.device.errors import UserError
from exporters.files.onnx import describe, optimised, read


def cut(path: Path, tensor: str, into: Path) -> None:
    """Write a copy of an ``.onnx`` file with this tensor as its only output, and only the nodes that lead to it.

    A tensor after a QuantizeLinear holds integers, and ONNX declares no scale for an output.
    """
    import onnx.shape_inference
    from onnx.utils import Extractor

    describe(path)  # reports a damaged file
    model = read(path)
    if not any(tensor in node.output for node in model.graph.node):
        raise UserError(f"{path}: has no tensor named {tensor!r}")
    entries = [value.name for value in model.graph.input]
    onnx.save(Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(entries, [tensor]), into)


def alone(path: Path, index: int, numbers: int, into: Path) -> None:
    """Write an ``.onnx`` file of one operator that onnxruntime runs for another file, on a vector of `numbers`."""
    import onnx

    model = optimised(path)
    graph = model.graph
    node = graph.node[index]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kind = constants[node.input[2]].data_type
    ends = [onnx.helper.make_tensor_value_info(name, kind, [1, numbers]) for name in (node.input[0], node.output[0])]
    kept = [constants[name] for name in node.input[1:] if name in constants]
    graph = onnx.helper.make_graph([node], "alone", ends[:1], ends[1:], kept)
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(made, into)
