"""Leaky ReLUs, which ai-edge-quantizer leaves in float, though LiteRT has integer kernels for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.files.tflite import FAULTS, damaged, read
from exporters.files.tflite_buffers import packed


def leaky_in_integers(path: Path) -> bytes:
    """Return a file's content, its buffers inside; see `tflite_buffers`.

    A leaky ReLU between a DEQUANTIZE and a QUANTIZE takes and gives their integers itself.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    model, blob = read(path)
    try:
        graph = model.subgraphs[0]
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        made_by = {index: operator for operator in graph.operators for index in operator.outputs}
        for operator in list(graph.operators):
            if codes[operator.opcodeIndex] != BuiltinOperator.LEAKY_RELU:
                continue
            before, after = made_by.get(operator.inputs[0]), _users(graph, operator.outputs[0])
            around = [codes[one.opcodeIndex] for one in (before, *after) if one is not None]
            if around == [BuiltinOperator.DEQUANTIZE, BuiltinOperator.QUANTIZE]:
                assert before is not None
                operator.inputs = before.inputs
                operator.outputs = after[0].outputs
                graph.operators.remove(after[0])
                if not _users(graph, before.outputs[0]):
                    graph.operators.remove(before)
        return packed(path, model, blob)
    except FAULTS as error:
        raise damaged(path, error) from error


def _users(graph: Any, index: int) -> list[Any]:
    return [operator for operator in graph.operators if index in operator.inputs]
