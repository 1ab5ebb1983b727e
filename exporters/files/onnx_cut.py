"""Cut an ONNX file: make an inner tensor its output, or keep one operator alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.device.errors import UserError
from backends.device.reading import first_line
from exporters.files.description import Operator, Tensor
from exporters.files.onnx import describe, executed_of, optimised, read

ONNXRUNTIME = "com.microsoft"  # the domain of its own operators


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


def apart(path: Path, indices: Collection[int]) -> list[bytes]:
    """Return a model of each of some operators that onnxruntime runs, with its constants, on tensors of any shape."""
    import onnx

    whole = optimised(path)
    constants = {tensor.name: tensor for tensor in whole.graph.initializer}
    makers = {name: node for node in whole.graph.node for name in node.output}
    executed = executed_of(whole.graph)
    models = []
    for index in indices:
        operator = executed[index]
        nodes = [whole.graph.node[index]]
        entries = []
        for tensor in operator.inputs:
            maker = makers.get(tensor.name)
            if maker is not None and set(maker.input) <= constants.keys():  # a dequantized constant
                nodes.insert(0, maker)
            elif tensor.name and tensor.name not in constants:
                entries.append(_any_shape(tensor))
        needed = {name for node in nodes for name in node.input}
        kept = [tensor for name, tensor in constants.items() if name in needed]
        graph = onnx.helper.make_graph(nodes, "apart", entries, [_any_shape(t) for t in operator.outputs[:1]], kept)
        model = onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
        models.append(model.SerializeToString())
    return models


def shapes(path: Path, inputs: Sequence[tuple[int, ...]]) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes of all tensors that onnxruntime computes, for zeros of each of these shapes.

    A file that it cannot run on them is a `UserError`.
    """
    import onnx
    import onnxruntime

    whole = optimised(path)
    names = [name for node in whole.graph.node for name in node.output if name]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0].name
        found = [session.run(names, {entry: np.zeros(shape, np.float32)}) for shape in inputs]
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: onnxruntime cannot run it ({first_line(error)})") from error
    return [{name: x.shape for name, x in zip(names, values, strict=True)} for values in found]


def _any_shape(tensor: Tensor) -> Any:
    import onnx

    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return onnx.helper.make_tensor_value_info(tensor.name, dtype, None)


def alone(operator: Operator, numbers: int, into: Path) -> None:
    """Write an ``.onnx`` file of one of onnxruntime's own operators, with its constants, on a vector of `numbers`."""
    import onnx

    entry, *rest = operator.inputs
    constants = [onnx.numpy_helper.from_array(t.values, t.name) for t in rest if t.values is not None]
    names = entry.name, operator.outputs[0].name
    ends = [onnx.helper.make_tensor_value_info(name, constants[1].data_type, [1, numbers]) for name in names]
    node = onnx.helper.make_node(
        operator.name, [t.name for t in operator.inputs], names[1:], domain=ONNXRUNTIME, **operator.attributes
    )
    graph = onnx.helper.make_graph([node], "alone", ends[:1], ends[1:], constants)
    versions = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(ONNXRUNTIME, 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=versions, ir_version=9), into)
