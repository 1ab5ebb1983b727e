"""Exported files read back: what operators they hold, in which integers, and whether anything computes in float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from backends.device.errors import UserError
from exporters.files.description import Description, Tensor


def describe(path: Path) -> Description:
    """Reads an ``.onnx`` or ``.tflite`` file; another suffix, a damaged or a foreign file is a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".onnx":
        from exporters.files import onnx as reader
    elif path.suffix == ".tflite":
        from exporters.files import tflite as reader  # type: ignore[no-redef]
    else:
        raise UserError(f"{path}: expected a file that ends in .onnx or .tflite")
    return reader.describe(path)


def require_integer(path: Path) -> Description:
    """The description of a file that computes in integers throughout; else a `UserError` that names the operators."""
    description = describe(path)
    if floats := description.in_float:
        names = Counter(o.name for o in floats).most_common()
        first = floats[0].outputs[0].name[-80:] if floats[0].outputs else floats[0].index
        raise UserError(
            f"{path}: expected integers throughout, but {len(floats)} operators compute in float: "
            f"{', '.join(f'{n} {name}' for name, n in names)} (the first gives {first!r}). If this is an INT8 export, "
            "the format's quantizer or runtime has no integer version of them: try the other format or architecture"
        )
    if not any(t.scale for o in description.operators for t in o.outputs):
        raise UserError(f"{path}: expected integers, but no tensor has a scale")
    return description


def activation_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """The reals that each quantized activation of a file can hold, (min, max) by tensor, in order of execution."""
    description = describe(path)
    # In ONNX these two only give an activation a second name.
    named = [o for o in description.operators if o.name not in ("QuantizeLinear", "DequantizeLinear")]
    found = {}
    for tensor in (*description.inputs, *(t for o in named for t in o.outputs)):
        limits = _integer_type(tensor)
        if len(tensor.scale) == 1 and tensor.values is None and limits is not None:
            scale, zero_point = tensor.scale[0], tensor.zero_point[0]
            found[plain(tensor.name)] = ((limits.min - zero_point) * scale, (limits.max - zero_point) * scale)
    return found


def plain(name: str) -> str:
    """A tensor's name in the float file that an INT8 file was made from."""
    for suffix in ("_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Output"):
        name = name.removesuffix(suffix)
    return name


def _integer_type(tensor: Tensor) -> np.iinfo[Any] | None:
    dtype = tensor.integers or tensor.dtype
    return np.iinfo(dtype) if "int" in dtype else None
