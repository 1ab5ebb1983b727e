"""Read the network behind a ``.rknn`` as a `Description`: the layers as Rockchip's toolkit built them.

What it compiled for the chip is not read: its licence forbids reverse engineering.
"""

from __future__ import annotations

from pathlib import Path

from backends.device import rknn
from exporters.files.description import Description, Operator, Tensor, computes_in_float

INPUT = "Input"
LEVELS = 255


def describe(path: Path) -> Description:
    """Read a file that was exported here; a damaged one, or one of others, is a `DamagedFile`."""
    _, build = rknn.read(path)
    rknn.ends(path, build)
    outputs = [_tensor(layer, build) for layer in build.layers]
    last = len(outputs) - 1
    operators = tuple(
        Operator(i, layer.operator, (), (output,), computes_in_float(layer.operator, (), (output,), i == last))
        for i, (layer, output) in enumerate(zip(build.layers, outputs, strict=True))
        if layer.operator != INPUT
    )
    return Description(path, "rknn", operators, operators, tuple(outputs[:1]), tuple(outputs[-1:]))


def _tensor(layer: rknn.Layer, build: rknn.Build) -> Tensor:
    if layer.output not in build.ranges:
        return Tensor(layer.output, "float32", layer.shape)
    if not layer.rounded:
        return Tensor(layer.output, "unknown", layer.shape)
    low, high = build.ranges[layer.output]
    scale = (high - low) / LEVELS
    return Tensor(layer.output, "int8", layer.shape, (scale,), (round(-128 - low / scale),))
