"""Fold what a TFLite file computes from constants alone, such as the masks of shifted windows, into constants.

A bias becomes a vector: litert-torch may give one the shape ``(1, 1, 1, channels)``, and ai-edge-quantizer 0.10 lays
the scales of such a one along its first axis.
"""

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
        biases = _biases_of_many_axes(model)
        if set(found) & set(graph.outputs) or not (found or biases):
            return path.read_bytes()
        for bias in biases:
            bias.shape = [max(bias.shape)]
        values = _computed(path, found) if found else {}
        for index in found:
            buffer = BufferT()
            buffer.data = np.frombuffer(values[index].tobytes(), np.uint8)
            graph.tensors[index].buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.operators = kept
        return packed(path, model, blob)
    except FAULTS as error:
        raise damaged(path, error) from error


def _biases_of_many_axes(model: Any) -> list[Any]:
    """Return the tensors that are biases of dense layers and have several axes, of which one is longer than 1."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code == BuiltinOperator.FULLY_CONNECTED and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = graph.tensors[operator.inputs[2]]
            if len(bias.shape) > 1 and np.prod(bias.shape) == max(bias.shape):
                found.append(bias)
    return found


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
