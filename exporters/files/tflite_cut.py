"""Cut a TFLite file: make an inner tensor its output, or keep one operator alone."""

from __future__ import annotations

from pathlib import Path

from backends.device.errors import UserError
from exporters.files.tflite import describe, is_outside, names, read
from exporters.files.tflite_buffers import packed


def cut(path: Path, tensor: str, into: Path) -> None:
    """Write a copy of a ``.tflite`` file with this tensor as its only output, without the operators after it."""
    describe(path)  # reports a damaged file
    model, blob = read(path)
    graph = model.subgraphs[0]
    found = [i for i, name in enumerate(names(graph)) if name == tensor]
    if not found:
        raise UserError(f"{path}: has no tensor named {tensor!r}")
    last = max((i for i, op in enumerate(graph.operators) if set(found) & set(op.outputs)), default=-1)
    graph.operators = graph.operators[: last + 1]
    graph.outputs = found[:1]
    model.signatureDefs = None  # they name the old output
    into.write_bytes(packed(path, model, blob))


def alone(path: Path, index: int, numbers: int, into: Path) -> None:
    """Write a ``.tflite`` file of one operator of another, which has no constants, on a vector of `numbers`."""
    into.write_bytes(rows(path, index, numbers))


def rows(path: Path, index: int, numbers: int | None = None) -> bytes:
    """Return a ``.tflite`` file of one operator on rows: of `numbers`, else of its last axis; constants keep theirs."""
    from ai_edge_litert.schema_py_generated import BufferT

    model, blob = read(path)
    graph = model.subgraphs[0]
    operator = graph.operators[index]
    graph.tensors = [graph.tensors[i] for i in (*operator.inputs, operator.outputs[0])]
    buffers, entries = [BufferT()], []
    for place, tensor in enumerate(graph.tensors):
        held = model.buffers[tensor.buffer]
        if is_outside(held) or (held.data is not None and len(held.data)):
            tensor.buffer = len(buffers)
            buffers.append(held)
            continue
        entries.append(place)
        shape = [1, numbers or int(tensor.shape[-1])]
        tensor.shape, tensor.shapeSignature, tensor.buffer = shape, None, 0
    *operator.inputs, last = range(len(graph.tensors))
    operator.outputs = [last]
    graph.operators, graph.inputs, graph.outputs = [operator], entries[:-1], [last]
    model.subgraphs, model.buffers = [graph], buffers
    model.metadata = model.metadataBuffer = model.signatureDefs = None
    return packed(path, model, blob)
