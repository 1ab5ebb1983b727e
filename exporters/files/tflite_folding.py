"""Fold what a TFLite file computes from constants alone, such as the masks of shifted windows, into constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exporters.files.tflite import FAULTS, damaged, is_outside, read
from exporters.files.tflite_buffers import packed
from exporters.quiet import quiet


def folded(path: Path) -> bytes:
    """Return the content of a file without the operators on constants, whose results LiteRT computes here."""
    from ai_edge_litert.schema_py_generated import BufferT

    model, blob = read(path)
    try:
        graph = model.subgraphs[0]
        known = {i for i, tensor in enumerate(graph.tensors) if _holds(model.buffers[tensor.buffer])}
        kept = []
        found: list[int] = []
        for operator in graph.operators:
            if len(operator.inputs) and {i for i in operator.inputs if i >= 0} <= known:
                known.update(operator.outputs)
                found += list(operator.outputs)
            else:
                kept.append(operator)
        if not found or set(found) & set(graph.outputs):
            return path.read_bytes()
        values = _computed(path, found)
        for index in found:
            buffer = BufferT()
            buffer.data = np.frombuffer(values[index].tobytes(), np.uint8)
            graph.tensors[index].buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.operators = kept
        return packed(path, model, blob)
    except FAULTS as error:
        raise damaged(path, error) from error


def _holds(buffer: Any) -> bool:
    return is_outside(buffer) or (buffer.data is not None and len(buffer.data) > 0)


def _computed(path: Path, indices: list[int]) -> dict[int, np.ndarray[Any, Any]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter: Any = Interpreter(
            str(path),
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        interpreter.invoke()
    return {index: np.array(interpreter.get_tensor(index)) for index in indices}
