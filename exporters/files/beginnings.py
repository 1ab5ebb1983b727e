"""The beginnings of a model file: where an ``.onnx`` or ``.tflite`` file can end sooner, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from backends.device.errors import UserError
from exporters.files import describe, onnx_cut, tflite_cut
from exporters.files.description import MOVERS, QUANTIZERS

CUTS: Mapping[str, Callable[[Path, str, Path], None]] = {".onnx": onnx_cut.cut, ".tflite": tflite_cut.cut}


class Beginning(NamedTuple):
    """A file as far as an operator, as messages name it, and the tensor that it ends in."""

    operator: str
    tensor: str


def beginnings(path: Path) -> list[Beginning]:
    """Return the beginnings of a file in order, each as far as an operator that computes; none of a file not cut.

    An ONNX file in QDQ ends behind the pair of an operator's output, so that its kernel stays an integer one: what is
    fused, as a convolution and its ReLU, is one operator, named by its first.
    """
    if path.suffix not in CUTS:
        return []
    operators = describe(path).operators
    quantized = {o.inputs[0].name: o.outputs[0].name for o in operators if o.name == "QuantizeLinear"}
    dequantized = {o.inputs[0].name: o.outputs[0].name for o in operators if o.name == "DequantizeLinear"}
    makers = {output.name: o for o in operators if o.name not in QUANTIZERS for output in o.outputs}
    found = []
    for operator in operators:
        if operator.name in QUANTIZERS | MOVERS or not operator.outputs:
            continue
        output = operator.outputs[0]
        behind = dequantized.get(quantized.get(output.name, ""))
        if behind or not (quantized and output.is_float):
            first = operator
            while behind and (maker := makers.get(first.inputs[0].name)):
                first = maker
            found.append(Beginning(first.numbered, behind or output.name))
    return found


def cut(path: Path, tensor: str, into: Path) -> None:
    """Write a file as far as a tensor; one that cannot be cut there is a `UserError`."""
    try:
        CUTS[path.suffix](path, tensor, into)
    except (ValueError, LookupError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be cut at {tensor!r} ({error})") from error
