"""Cut a TFLite file: make an inner tensor its output."""

from __future__ import annotations

from pathlib import Path

from backends.device.errors import UserError
from exporters.files.tflite import describe, names, read
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
