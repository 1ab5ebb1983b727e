"""Exported files read back: what operators they hold, in which integers, and whether anything computes in float."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.schema import UserError

QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"}
MOVERS = {  # they copy values and compute none
    "Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape",
    "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    "BROADCAST_TO", "CAST", "CONCATENATION", "EXPAND_DIMS", "GATHER", "PACK", "PAD", "PADV2", "RESHAPE", "SHAPE",
    "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: ``real = scale * (integer - zero_point)``.

    ``shape`` has -1 where a dimension is dynamic, and is None where the file doesn't tell. ``scale`` and ``zero_point``
    are empty without quantization, and have one value a channel along ``axis`` where ``axis`` is set. In a QDQ file a
    float tensor that passes a QuantizeLinear carries its scale, and ``integers`` names the type it has between the two.
    ``values`` of an int4 constant are unpacked.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int | None = None
    integers: str | None = None
    values: NDArray[Any] | None = field(default=None, repr=False, compare=False)  # of a constant

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers."""
        return "float" in self.dtype


@dataclass(frozen=True)
class Operator:
    """An operator of a file; ``in_float`` says whether it computes on floating-point numbers."""

    index: int
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    in_float: bool
    attributes: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """Its name, and what is not as usual in an INT8 file."""
        if self.in_float:
            return f"{self.name} (float)"
        return f"{self.name} (int4 weights)" if any(t.dtype == "int4" for t in self.inputs) else self.name


@dataclass(frozen=True)
class Description:
    """What a file holds.

    ``operators`` are the file's own. ``executed`` are those that a runtime makes of them: for ONNX the graph that
    onnxruntime optimised, for TFLite the same as ``operators``. Of the former's tensors only dtypes and the values of
    constants are known.
    """

    path: Path
    format: Literal["onnx", "tflite"]
    operators: tuple[Operator, ...]
    executed: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def in_float(self) -> tuple[Operator, ...]:
        """Executed operators that compute in float."""
        return tuple(o for o in self.executed if o.in_float)

    @property
    def counts(self) -> dict[str, int]:
        """How often each operator is executed, most frequent first, and whether in float or on 4-bit constants."""
        return dict(Counter(o.label for o in self.executed).most_common())


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


def computes_in_float(name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], final: bool) -> bool:
    """Whether an operator computes on floats: neither moves values, nor changes their type, nor is a final softmax."""
    if name in QUANTIZERS | MOVERS or (final and name.casefold() == "softmax"):
        return False
    return any(t.is_float for t in (*inputs, *outputs))


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
