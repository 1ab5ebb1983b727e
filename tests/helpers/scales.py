"""Scales and weights, read from files and networks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from exporters.files import describe, plain
from exporters.files.description import Tensor
from patches.fake_quant.graph import layers

CONVOLUTIONS = ("Conv", "CONV_2D", "DEPTHWISE_CONV_2D")


def activation_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """The reals that each quantized activation of a file can hold, (min, max) by tensor, in order of execution."""
    description = describe(path)
    # in ONNX these two only give an activation a second name
    operators = [o for o in description.operators if o.name not in ("QuantizeLinear", "DequantizeLinear")]
    ranges = {}
    for tensor in (*description.inputs, *(t for o in operators for t in o.outputs)):
        dtype = tensor.integers or tensor.dtype
        if len(tensor.scale) == 1 and tensor.values is None and "int" in dtype:
            scale, zero_point = tensor.scale[0], tensor.zero_point[0]
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            ranges[plain(tensor.name)] = ((low - zero_point) * scale, (high - zero_point) * scale)
    return ranges


def scales_of(path: Path) -> list[float]:
    """One step of each activation of a file, its output's last."""
    found = {name: (high - low) / 255 for name, (low, high) in activation_ranges(path).items()}
    return [*found.values(), describe(path).outputs[0].scale[0]]


def weights_of(made: Path | nn.Module) -> np.ndarray:
    """All weights, dequantized, in ascending order, which no layout changes."""
    if isinstance(made, nn.Module):
        return np.sort(np.concatenate([layer.weight.flatten().numpy() for layer in layers(made).values()]))
    parts = []
    for values, tensor in weights_in(made):
        shape = [-1 if i == tensor.axis else 1 for i in range(values.ndim)]
        parts.append((values.astype(np.float64) * np.array(tensor.scale).reshape(shape)).ravel())
    return np.sort(np.concatenate(parts))


def weights_in(path: Path) -> Iterator[tuple[np.ndarray, Tensor]]:
    """The integers of every layer's weights, and the tensor that has their scale."""
    file = describe(path)
    kept = {o.outputs[0].name: o.inputs[0].values for o in file.operators if o.name == "DequantizeLinear"}
    for operator in file.operators:
        if operator.name in (*CONVOLUTIONS, "Gemm", "FULLY_CONNECTED"):
            tensor = operator.inputs[1]
            yield kept.get(tensor.name, tensor.values), tensor
