"""Cut a TFLite file: make an inner tensor its output, or keep one operator alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backends.device.errors import UserError
from exporters.files.tflite import describe, names, read


def cut(path: Path, tensor: str, into: Path) -> None:
    """Write a copy of a ``.tflite`` file with this tensor as its only output, without the operators after it."""
    describe(path)  # reports a damaged file
    model, blob = read(path)
    graph = model.subgraphs[0]
    found = [i for i, name in enumerate(names(graph)) if name == tensor]
    if not found:
        raise UserError(f"{path}: has no tensor named {tensor!r}")
    for buffer in model.buffers:  # constants behind the flatbuffer would move in the copy
        if buffer.offset > 1:
            buffer.data = np.frombuffer(blob, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    last = max((i for i, op in enumerate(graph.operators) if set(found) & set(op.outputs)), default=-1)
    graph.operators = graph.operators[: last + 1]
    graph.outputs = found[:1]
    _write(model, into)


def alone(path: Path, index: int, numbers: int, into: Path) -> None:
    """Write a ``.tflite`` file of one operator of another, which has no constants, on a vector of `numbers`."""
    from ai_edge_litert.schema_py_generated import BufferT

    model, _ = read(path)
    graph = model.subgraphs[0]
    operator = graph.operators[index]
    graph.tensors = [graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0])]
    for tensor in graph.tensors:
        tensor.shape, tensor.shapeSignature, tensor.buffer = [1, numbers], None, 0
    operator.inputs, operator.outputs = [0], [1]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [1]
    model.subgraphs, model.buffers = [graph], [BufferT()]
    model.metadata = model.metadataBuffer = None
    _write(model, into)


def _write(model: Any, into: Path) -> None:
    from flatbuffers import Builder

    model.signatureDefs = None  # they name other outputs
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    into.write_bytes(bytes(builder.Output()))
