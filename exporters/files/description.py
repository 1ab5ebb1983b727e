"""The description of a model file: its tensors, its operators, and which of them compute in float."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from backends.device.artifact import PARTLY, Format

QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"}
QUANTIZERS |= {"Convert", "quantize_per_tensor", "dequantize_per_tensor"}  # of .pte files
QUANTIZERS |= {"quant", "exDataConvert", "Quantize", "Dequantize"}  # of .cvimodel, .rknn and .kmodel files
QUANTIZERS |= {"RequantizeLinear"}  # of .espdl files
MOVERS = {  # operators that copy values without computing
    "Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape",
    "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    "BROADCAST_TO", "CAST", "CONCATENATION", "EXPAND_DIMS", "GATHER", "PACK", "PAD", "PADV2", "RESHAPE", "SHAPE",
    "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
    "Copy", "StaticConstantPad", "StaticReshape", "StaticSlice", "StaticTranspose",
    "Concatenate2", "Concatenate3", "Concatenate4", "Concatenate5",
    "cat", "clone", "constant_pad_nd", "permute_copy", "slice_copy", "view_copy", "_clone_dim_order",
}  # fmt: skip

WEIGHTS = {  # which input of an operator that multiplies
    "QLinearConv": 3, "QGemm": 3, "QLinearMatMul": 3, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1,
    "Conv2d": 1, "DepthwiseConv2d": 1, "FullyConnected": 1, "Conv2D": 1, "GNNEConv2D": 1,
}  # fmt: skip
SIGNED = {"int4": "s4", "int8": "s8", "int16": "s16", "uint8": "u8", "uint16": "u16"}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: ``real = scale * (integer - zero_point)``.

    ``shape`` has -1 where a dimension is dynamic, and is None where the file does not give it. ``scale`` and
    ``zero_point`` are empty without quantization, and have one value per channel along ``axis`` where that is set. In a
    QDQ file a float tensor that passes through a QuantizeLinear carries its scale, and ``integers`` is its quantized
    type. ``values`` of an int4 constant are unpacked.
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
        """Whether the values are floating-point numbers."""
        return "float" in self.dtype


@dataclass(frozen=True)
class Operator:
    """An operator of a file; ``in_float`` tells whether it computes on floating-point numbers."""

    index: int
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    in_float: bool
    attributes: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def numbered(self) -> str:
        """What messages call it: ``Conv (number 3)``."""
        return f"{self.name} (number {self.index})"

    @property
    def label(self) -> str:
        """Its name, marked if it computes in float or on int4 weights."""
        if self.in_float:
            return f"{self.name} (float)"
        return f"{self.name} (int4 weights)" if any(t.dtype == "int4" for t in self.inputs) else self.name


@dataclass(frozen=True)
class Description:
    """A model file's contents.

    ``operators`` are the file's own; ``executed`` are those that a runtime runs: for ONNX the graph that onnxruntime
    optimised, of whose tensors only dtypes and constants' values are known; for TFLite the same as ``operators``.
    ``outside`` counts the constants that a TFLite file keeps behind its flatbuffer, where not every runtime reads them.
    """

    path: Path
    format: Format
    operators: tuple[Operator, ...]
    executed: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    outside: int = 0

    @property
    def in_float(self) -> tuple[Operator, ...]:
        """Executed operators that compute in float."""
        return tuple(o for o in self.executed if o.in_float)

    @property
    def is_quantized(self) -> bool:
        """Whether any operator gives integers with a scale."""
        return any(tensor.scale for operator in self.operators for tensor in operator.outputs)

    @property
    def but_for(self) -> str:
        """The executed operators that compute in float: ``12 Softmax, 25 LayerNormalization``."""
        names = Counter(o.name for o in self.in_float).most_common()
        return ", ".join(f"{n} {name}" for name, n in names)

    def precision(self, bits: str) -> str:
        """Return the precision of a file of these ``bits``: that of a partly integer one says so."""
        return f"{bits.removesuffix(PARTLY)}{PARTLY}" if bits != "fp32" and self.in_float else bits

    @property
    def signature(self) -> str:
        """Types of activations and weights that are multiplied, as in ``u8s8``; empty where they are of several."""
        found = {
            "".join(SIGNED.get(operator.inputs[at].dtype, "?") for at in (0, WEIGHTS[operator.name]))
            for operator in self.executed
            if len(operator.inputs) > WEIGHTS.get(operator.name, math.inf)
        }
        return found.pop() if len(found) == 1 else ""

    @property
    def counts(self) -> dict[str, int]:
        """The number of executed operators by label, most frequent first."""
        return dict(Counter(o.label for o in self.executed).most_common())


def computes_in_float(name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], final: bool) -> bool:
    """Return whether an operator computes on floats: not one that moves or converts values, nor a final softmax."""
    if name in QUANTIZERS | MOVERS or (final and name.casefold() == "softmax"):
        return False
    return any(t.is_float for t in (*inputs, *outputs))
