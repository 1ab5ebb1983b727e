"""Scales and weights, read from files and networks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from exporters.files import activation_ranges, describe
from exporters.files.description import Tensor
from patches.fake_quant.graph import layers

CONVOLUTIONS = ("Conv", "CONV_2D", "DEPTHWISE_CONV_2D")


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
