"""TFLite files written operator by operator, with random weights and scales, for comparing kernels."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as tfl
from flatbuffers import Builder

CODES = tfl.BuiltinOperator
FLATBUFFER_BYTES = 1 << 16  # of a file with constants behind


class T(NamedTuple):
    """A tensor; one without values is an activation, whose first axis is free."""

    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    values: np.ndarray | None = None
    axis: int = 0


class Op(NamedTuple):
    name: str
    inputs: tuple[str, ...]
    output: str | tuple[str, ...]
    options: str = ""  # of the schema's class, e.g. Conv2D
    settings: Mapping[str, Any] = MappingProxyType({})


def write(path: Path, tensors: dict[str, T], ops: list[Op], entry: str, output: str, any_batch: bool = True) -> Path:
    index = {name: i for i, name in enumerate(tensors)}
    model, graph = tfl.ModelT(), tfl.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [tfl.BufferT()], []
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [index[entry]], [index[output]]
    for name, spec in tensors.items():
        graph.tensors.append(_tensor(name, spec, model.buffers, any_batch))
    for op in ops:
        code, made = tfl.OperatorCodeT(), tfl.OperatorT()
        outputs = (op.output,) if isinstance(op.output, str) else op.output
        code.builtinCode = getattr(CODES, op.name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), VERSIONS.get(op.name, 1)
        if op.name == "QUANTIZE" and "uint8" in (tensors[op.inputs[0]].dtype, tensors[outputs[0]].dtype):
            code.version = 1
        model.operatorCodes.append(code)
        made.opcodeIndex = len(model.operatorCodes) - 1
        made.inputs, made.outputs = [index[name] for name in op.inputs], [index[name] for name in outputs]
        if op.options:
            made.builtinOptionsType = getattr(tfl.BuiltinOptions, f"{op.options}Options")
            made.builtinOptions = getattr(tfl, f"{op.options}OptionsT")()
            for key, value in op.settings.items():
                setattr(made.builtinOptions, key, value)
        graph.operators.append(made)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "MUL": 2, "MEAN": 2, "AVERAGE_POOL_2D": 2,
    "MAX_POOL_2D": 2, "CONCATENATION": 2, "PAD": 2, "STRIDED_SLICE": 2, "SLICE": 2, "TRANSPOSE": 2, "SOFTMAX": 2,
    "QUANTIZE": 2, "SUM": 2, "TRANSPOSE_CONV": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "SPLIT": 2, "SPLIT_V": 2,
    "BROADCAST_TO": 3,
}  # fmt: skip


def _tensor(name: str, spec: T, buffers: list, any_batch: bool) -> Any:
    made = tfl.TensorT()
    made.name, made.shape, made.type = name.encode(), list(spec.shape), getattr(tfl.TensorType, spec.dtype.upper())
    made.buffer = 0
    if spec.values is None:
        made.shapeSignature = [-1 if any_batch else spec.shape[0], *spec.shape[1:]]
    else:
        buffer = tfl.BufferT()
        buffer.data = np.frombuffer(_bytes(spec.values, spec.dtype), np.uint8)
        buffers.append(buffer)
        made.buffer = len(buffers) - 1
    if spec.scale:
        made.quantization = tfl.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = list(spec.scale), list(spec.zero_point)
        made.quantization.quantizedDimension = spec.axis
    return made


def _bytes(values: np.ndarray, dtype: str) -> bytes:
    """Values as a file holds them: of int4 two to a byte, the first in its lower half."""
    if dtype != "int4":
        return np.ascontiguousarray(values).astype(dtype).tobytes()
    halves = [int(v) % 16 for v in values.ravel()] + [0]
    return bytes(low + 16 * high for low, high in zip(halves[0::2], halves[1::2], strict=False))


def with_weights_outside(file: Path, into: Path) -> Path:
    """A copy with all constants behind the flatbuffer, as ai-edge-quantizer writes large networks."""
    model = tfl.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    constants = b""
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.offset, buffer.size = FLATBUFFER_BYTES + len(constants), len(buffer.data)
            constants += bytes(buffer.data) + bytes(-buffer.size % 16)
            buffer.data = None
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    into.write_bytes(bytes(builder.Output()).ljust(FLATBUFFER_BYTES, b"\0") + constants)
    return into
