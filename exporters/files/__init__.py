"""Read model files back: their operators, their integers, and whether anything computes in float."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Collection
from pathlib import Path

from backends.device.artifact import ENDINGS
from backends.device.errors import UserError
from backends.device.toolchains import OF_FORMATS
from exporters.files.description import Description


def describe(path: Path) -> Description:
    """Read a model file by its suffix, one of the formats; any other suffix, or a damaged file, is a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".onnx":
        from exporters.files import onnx as reader
    elif path.suffix == ".tflite":
        from exporters.files import tflite as reader  # type: ignore[no-redef]
    elif path.suffix == ".pte":
        from exporters.files import pte as reader  # type: ignore[no-redef]
    elif toolchain := OF_FORMATS.get(path.suffix[1:]):
        reader = importlib.import_module(f"exporters.files.{toolchain.module}")
    else:
        raise UserError(f"{path}: expected a file that ends in {ENDINGS}")
    return reader.describe(path)


def require_integer(path: Path, allow_float: Collection[str] = ()) -> Description:
    """Describe a file that computes in integers, but for operators allowed in float; see `prove`."""
    description = describe(path)
    prove(description, allow_float)
    return description


def prove(description: Description, allow_float: Collection[str] = ()) -> None:
    """Prove that a file computes in integers, but for operators allowed in float; any other is a `UserError`.

    The error names the operators that compute in float, and the key that allows them.
    """
    path, floats = description.path, description.in_float
    if {operator.name for operator in floats} - set(allow_float):
        first = floats[0].outputs[0].name[-80:] if floats[0].outputs else floats[0].index
        compute, which = ("operator computes", "it") if len(floats) == 1 else ("operators compute", "the first")
        raise UserError(
            f"{path}: expected integers throughout, but {len(floats)} {compute} in float: "
            f"{description.but_for} ({which} gives {first!r}). {float_mend(description)}"
        )
    if not description.is_quantized:
        raise UserError(f"{path}: expected integers, but no operator gives any. {float_mend(description)}")
    _require_scales_by_output(description)
    for tensor in (t for o in description.operators for t in (*o.inputs, *o.outputs)):
        if not all(0 < scale < math.inf for scale in tensor.scale) or len(tensor.scale) != len(tensor.zero_point):
            raise UserError(f"{path}: tensor {tensor.name!r} needs a scale above 0 and a zero point for each")


def float_mend(description: Description) -> str:
    """Return what can be done about the operators of a file that compute in float."""
    if not description.is_quantized:
        if any(tensor.scale for operator in description.operators for tensor in operator.inputs):
            return "Only its weights are integers (dynamic range): quantize its activations too"
        return 'It is a float file: quantize it, or give it precision = "fp32" in a suite'
    names = list(dict.fromkeys(operator.name for operator in description.in_float))
    if names == ["ReduceMean"]:
        return (
            "ReduceMean has no INT8 kernel in onnxruntime: build the network with AdaptiveAvgPool2d(1) in place of "
            "x.mean((2, 3)), and export it again"
        )
    return (
        "The quantizer left them out, or the runtime has no INT8 kernel for them: quantize them too, build the network "
        "with others in their place, try the other format, or accept a file that is integer but for them: "
        f"allow_float = {json.dumps(names)} in its [[export]] or [[artifact]] table, or in Python's QuantSpec"
    )


def _require_scales_by_output(description: Description) -> None:
    """Raise a `UserError` for a convolution that onnxruntime fuses and then cannot run."""
    for operator in description.executed:
        weights, scales = (t.values for t in operator.inputs[3:5]) if operator.name == "QLinearConv" else (None, None)
        if weights is not None and scales is not None and scales.size not in (1, len(weights)):
            raise UserError(
                f"{description.path}: {operator.numbered} has {scales.size} scales for "
                f"{len(weights)} output channels, and onnxruntime cannot run it: quantize the weights along axis 0, "
                "or with one scale"
            )


def plain(name: str) -> str:
    """Return a tensor's name in the float file from which an INT8 file was made."""
    for suffix in ("_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Output"):
        name = name.removesuffix(suffix)
    return name
