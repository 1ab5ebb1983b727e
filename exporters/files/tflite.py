"""Read a TFLite flatbuffer as a `Description`."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device.delegates import inside
from backends.device.errors import UserError
from backends.device.reading import MEBIBYTE, DamagedFile, first_line, regular_file
from exporters.files.description import Description, Operator, Tensor, computes_in_float

MODEL_BYTES = 8192 * MEBIBYTE
FAULTS = (struct.error, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "BOOL": "bool", "INT4": "int4",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip


def describe(path: Path) -> Description:
    """Read a ``.tflite`` file of any origin; a damaged one, or another format, is a `DamagedFile`."""
    model, blob = read(path)
    try:
        return _describe(path, model, blob)
    except FAULTS as error:
        raise damaged(path, error) from error


def read(path: Path) -> tuple[Any, bytes]:
    """Return a file's ``ModelT`` and all its bytes, where weights may follow the model; see `describe`."""
    from ai_edge_litert import schema_py_generated as schema

    regular_file(path, MODEL_BYTES)
    blob = path.read_bytes()
    if blob[4:8] != b"TFL3":
        raise DamagedFile(f"{path}: expected a TFLite file (its bytes 4 to 7 are TFL3), got {blob[4:8]!r}")
    try:
        if _least_bytes(blob) > len(blob):
            raise DamagedFile(f"{path}: a damaged TFLite file: lists more parts than it holds")
        return schema.ModelT.InitFromPackedBuf(blob, 0), blob
    except FAULTS as error:
        raise damaged(path, error) from error


def _least_bytes(blob: bytes) -> int:
    """Return how long a file is at least that lists no part twice: millions of one tensor take four bytes each."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(blob, 0)
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    least: int = 8 * (model.BuffersLength() + model.OperatorCodesLength() + model.MetadataLength() + len(graphs))
    for graph in graphs:
        least += 64 * graph.TensorsLength() + 32 * graph.OperatorsLength()
        if least > len(blob):
            break
        for tensor in (graph.Tensors(i) for i in range(graph.TensorsLength())):
            scales = tensor.Quantization()
            least += 4 * tensor.ShapeLength() + (4 * scales.ScaleLength() if scales else 0)
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            least += 4 * (operator.InputsLength() + operator.OutputsLength())
    return least


def is_outside(buffer: Any) -> bool:
    """Whether a buffer lies behind the flatbuffer, at an offset into the file."""
    return bool(buffer.offset > 1)


def damaged(path: Path, error: Exception) -> DamagedFile:
    """Return the error for a file that cannot be taken apart."""
    return DamagedFile(f"{path}: a damaged TFLite file, perhaps truncated ({first_line(error)})")


def _describe(path: Path, model: Any, blob: bytes) -> Description:
    from ai_edge_litert import schema_py_generated as schema

    codes, dtypes = _names(schema.BuiltinOperator), _names(schema.TensorType)
    operators: list[Operator] = []
    ends: list[tuple[Tensor, ...]] = []
    for graph in model.subgraphs:  # the first is the network; others belong to control flow
        tensors = [
            _tensor(t, name, dtypes, model.buffers, blob) for t, name in zip(graph.tensors, names(graph), strict=True)
        ]
        ends += [tuple(tensors[i] for i in graph.inputs), tuple(tensors[i] for i in graph.outputs)]
        for op in graph.operators:
            code = model.operatorCodes[op.opcodeIndex]
            name = codes[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name == "CUSTOM":
                name = code.customCode.decode()
            inputs = tuple(tensors[i] for i in op.inputs if i >= 0)
            outputs = tuple(tensors[i] for i in op.outputs)
            in_float = computes_in_float(name, inputs, outputs, final=set(op.outputs) <= set(graph.outputs))
            attributes = vars(op.builtinOptions) if op.builtinOptions is not None else {}
            operators.append(Operator(len(operators), name, inputs, outputs, in_float, attributes))
    outside = sum(map(is_outside, model.buffers))
    return Description(path, "tflite", tuple(operators), tuple(operators), ends[0], ends[1], outside)


def delegated(path: Path) -> frozenset[int]:
    """Return the indices of the operators that LiteRT gives to XNNPACK; a file it refuses is a `UserError`."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter: Any = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path}: LiteRT cannot load it: {error}") from error
    return inside(interpreter)


def names(graph: Any) -> list[str]:
    """Return the names of a subgraph's tensors; one without, or with that of an earlier tensor, gets its index."""
    found: dict[str, None] = {}
    for i, tensor in enumerate(graph.tensors):
        name = tensor.name.decode() if tensor.name else f"tensor_{i}"
        while name in found:
            name = f"{name}_{i}"
        found[name] = None
    return list(found)


def _names(enum: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


def _tensor(tensor: Any, name: str, dtypes: dict[int, str], buffers: list[Any], blob: bytes) -> Tensor:
    type_name = dtypes[tensor.type]
    dtype = DTYPES.get(type_name, type_name.lower())
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    quantization = tensor.quantization
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    if quantization is not None and quantization.scale is not None:
        scale = tuple(float(s) for s in quantization.scale)
        zero_point = tuple(int(z) for z in quantization.zeroPoint)
    shape = () if signature is None else tuple(int(n) for n in signature)
    axis = int(quantization.quantizedDimension) if len(scale) > 1 else None
    values = _values(tensor, dtype, buffers, blob)
    return Tensor(name, dtype, shape, scale, zero_point, axis, values=values)


def _values(tensor: Any, dtype: str, buffers: list[Any], blob: bytes) -> NDArray[Any] | None:
    """Return a constant's values."""
    buffer = buffers[tensor.buffer]
    if is_outside(buffer):
        raw = blob[buffer.offset : buffer.offset + buffer.size]
        if len(raw) < buffer.size:
            raise ValueError("constants beyond its end")
    elif buffer.data is not None and len(buffer.data):
        raw = np.asarray(buffer.data, np.uint8).tobytes()
    else:
        return None
    shape = () if tensor.shape is None else tuple(tensor.shape)
    if dtype == "int4":  # two to a byte, the lower half first
        pairs = np.frombuffer(raw, np.int8)
        return np.stack([pairs << 4 >> 4, pairs >> 4], axis=1).ravel()[: math.prod(shape)].reshape(shape)
    if dtype not in DTYPES.values():
        return np.frombuffer(raw, np.uint8)
    return np.frombuffer(raw, dtype).reshape(shape)
