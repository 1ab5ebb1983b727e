"""Read an ONNX file as a `Description`: its own nodes, and the graph that onnxruntime runs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.device.errors import UserError
from backends.device.reading import MEBIBYTE, DamagedFile, first_line, regular_file
from exporters.files.description import Description, Operator, Tensor, computes_in_float

MOST_SIDE = 2**16
MOST_VALUES = 2**30
MODEL_BYTES = 2048 * MEBIBYTE  # protobuf has no larger ones
FAULTS = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError, StopIteration)
INTEGER_KERNELS = ("QLinear", "QGemm")  # the dtype of their last zero point is that of their output


def read(path: Path) -> Any:
    """Return the ``onnx.ModelProto`` of a file that onnx's checker accepts; any other is a `DamagedFile`.

    Weights that lie in files beside it are read from there.
    """
    import onnx

    model = _parsed(path)
    for file in _beside(path, model):
        if not file.is_file():
            raise UserError(f"{path}: its weights are in {file.name}, which is not beside it: copy that file there too")
        regular_file(file, MODEL_BYTES)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's have no common base
        raise _damaged(path, error) from error
    return model


def data_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside an ``.onnx`` file that it keeps weights in, as torch's exporter and large models do."""
    return _beside(path, _parsed(path))


def _parsed(path: Path) -> Any:
    """Return the ``onnx.ModelProto`` of a file, without weights that lie beside it."""
    import onnx

    regular_file(path, MODEL_BYTES)
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's and onnx's have no common base
        raise _damaged(path, error) from error


def _beside(path: Path, model: Any) -> tuple[Path, ...]:
    names = {e.value for tensor in model.graph.initializer for e in tensor.external_data if e.key == "location"}
    return tuple(path.parent / name for name in sorted(names) if Path(name).name == name)


def _damaged(path: Path, error: Exception) -> DamagedFile:
    return DamagedFile(f"{path}: not an ONNX file, or a damaged one ({first_line(error)})")


def describe(path: Path) -> Description:
    """Read an ``.onnx`` file; one that is damaged, or that onnxruntime refuses, is a `UserError`."""
    import onnx

    model = read(path)
    executed = optimised(path).graph
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
        _require_sizes(path, graph)
        operators = _operators(graph, _tensors(graph))
        inputs, outputs = (tuple(_ends(graph, which)) for which in ("input", "output"))
        return Description(path, "onnx", operators, executed_of(executed), inputs, outputs)
    except (onnx.shape_inference.InferenceError, *FAULTS) as error:
        raise DamagedFile(f"{path}: a damaged ONNX file ({first_line(error)})") from error


def _require_sizes(path: Path, graph: Any) -> None:
    """Refuse a tensor that no network has, such as one padded by a million: a runtime would make room for it."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if math.prod(side or 1 for side in sides) > MOST_VALUES or (len(sides) == 4 and max(sides) > MOST_SIDE):
            raise DamagedFile(
                f"{path}: {value.name!r} has the shape {tuple(sides)}; no image or feature map is larger than "
                f"{MOST_SIDE} along a side, or {MOST_VALUES:.0e} values: the file is damaged"
            )


def write_whole(path: Path, into: Path) -> None:
    """Write a copy of an ``.onnx`` file that holds its weights itself."""
    import onnx

    onnx.save(read(path), into)


def optimised(path: Path) -> Any:
    """Return the graph that onnxruntime runs (extended optimisations, CPU) as an ``onnx.ModelProto``."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # Off by default on x86, where half of a network with int8 activations would stay in float.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimised.onnx"
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base
            raise UserError(f"{path}: onnxruntime refuses it ({first_line(error)})") from error
        return onnx.load(options.optimized_model_filepath)


def _dtype(elem_type: int) -> str:
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(elem_type)) if elem_type else "?"


def _ends(graph: Any, which: str) -> Iterable[Tensor]:
    """Yield the inputs or outputs of a graph; of integers the scale is 1, since runtimes take and give them as such."""
    tensors = _tensors(graph)
    for value in getattr(graph, which):
        if value.name in tensors:
            tensor = tensors[value.name]
            yield replace(tensor, scale=(1.0,), zero_point=(0,)) if "int" in tensor.dtype else tensor


def _tensors(graph: Any) -> dict[str, Tensor]:
    """Return every tensor of known type, with the scales of its QuantizeLinear or DequantizeLinear."""
    from onnx import numpy_helper

    tensors: dict[str, Tensor] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        tensors[value.name] = Tensor(value.name, _dtype(kind.elem_type), shape if kind.HasField("shape") else None)
    for constant in graph.initializer:
        values = numpy_helper.to_array(constant)
        tensors[constant.name] = Tensor(constant.name, _dtype(constant.data_type), values.shape, values=values)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) == 3:
            scale, zero_point = (tensors[name].values for name in node.input[1:3])
            if scale is None or zero_point is None:
                continue
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1) if scale.size > 1 else None
            for name in (node.input[0], node.output[0]):
                if name in tensors:
                    tensors[name] = replace(
                        tensors[name],
                        scale=tuple(scale.ravel().tolist()),
                        zero_point=tuple(zero_point.ravel().tolist()),
                        axis=axis,
                        integers=str(zero_point.dtype),
                    )
    return tensors


def _operators(graph: Any, tensors: dict[str, Tensor]) -> tuple[Operator, ...]:
    """Return the file's own nodes; one with an input or output without a scale computes in float."""
    from onnx import helper

    ends = {value.name for value in graph.output}
    operators = []
    for index, node in enumerate(graph.node):
        inputs = tuple(tensors.get(n, Tensor(n, "?")) for n in node.input if n)
        outputs = tuple(tensors.get(n, Tensor(n, "?")) for n in node.output if n)
        bare = tuple(t for t in (*inputs, *outputs) if not t.scale)
        in_float = computes_in_float(node.op_type, bare, (), final=set(node.output) <= ends)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        operators.append(Operator(index, node.op_type, inputs, outputs, in_float, attributes))
    return tuple(operators)


def executed_of(graph: Any) -> tuple[Operator, ...]:
    """Return the nodes of an optimised graph; its dtypes, which the graph lacks, follow from the operators.

    An omitted input keeps its place, as a tensor without a name.
    """
    from onnx import helper, numpy_helper

    dtypes = {v.name: _dtype(v.type.tensor_type.elem_type) for v in (*graph.input, *graph.output)}
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    dtypes |= {name: str(values.dtype) for name, values in constants.items()}
    ends = {value.name for value in graph.output}
    operators = []
    for index, node in enumerate(graph.node):
        given = _given_dtype(node, dtypes)
        dtypes |= dict.fromkeys(node.output, given)
        # A scale is a float parameter, not data: for an integer kernel, and for a resize, only the output counts.
        data = node.output if node.op_type.startswith((*INTEGER_KERNELS, "Resize")) else [*node.input, *node.output]
        tensors = tuple(Tensor(n, dtypes[n]) for n in data if n)
        outputs = tuple(Tensor(n, given) for n in node.output if n)
        inputs = tuple(Tensor(n, dtypes.get(n, ""), values=constants.get(n)) for n in node.input)
        in_float = computes_in_float(node.op_type, tensors, (), final=set(node.output) <= ends)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        operators.append(Operator(index, node.op_type, inputs, outputs, in_float, attributes))
    return tuple(operators)


def _given_dtype(node: Any, dtypes: dict[str, str]) -> str:
    """Return the dtype of a node's output."""
    match node.op_type:
        case "QuantizeLinear":
            return dtypes[node.input[2]] if len(node.input) > 2 else "uint8"
        case "DequantizeLinear":
            return dtypes[node.input[1]]
        case "Shape":
            return "int64"
        case "Cast":
            return _dtype(next(a.i for a in node.attribute if a.name == "to"))
        case "QLinearConcat" | "QLinearWhere":
            return dtypes[node.input[1]]
        case "QLinearConv" | "QLinearMatMul":
            return dtypes[node.input[7]]
        case "QGemm":
            return dtypes[node.input[8]] if len(node.input) > 8 else "float32"
        case "MatMulInteger" | "ConvInteger":
            return "int32"
        case "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal" | "And" | "Or" | "Not":
            return "bool"
        case "Where":
            return dtypes.get(node.input[1], "float32")
        case _:
            return dtypes.get(node.input[0], "float32") if node.input else "float32"
