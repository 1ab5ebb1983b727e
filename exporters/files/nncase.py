"""Read the description behind a ``.kmodel`` as a `Description`: the layers as nncase lowered them for the chip."""

from __future__ import annotations

from pathlib import Path

from backends.device import nncase
from exporters.files.description import Description, Operator, Tensor, computes_in_float

CHIP = "GNNE"  # begins the names of what the chip's accelerator computes
ELEMENTS = {"GNNEActivation", "GNNEPad", "GNNETranspose"}  # of its vector unit: half floats, whatever goes in and out


def describe(path: Path) -> Description:
    """Read a file that was exported here; a damaged one, or one of others, is a `DamagedFile`."""
    build = nncase.read(path)
    last = len(build.layers) - 1
    operators = tuple(_operator(i, layer, i == last) for i, layer in enumerate(build.layers))
    return Description(path, "kmodel", operators, operators, operators[0].inputs[:1], operators[-1].outputs)


def _operator(index: int, layer: nncase.Layer, final: bool) -> Operator:
    inputs, output = tuple(map(_tensor, layer.inputs)), _tensor(layer.output)
    if layer.operator in ELEMENTS:
        in_float = False
    elif layer.operator.startswith(CHIP):
        in_float = inputs[0].is_float
    else:
        in_float = computes_in_float(layer.operator, inputs, (output,), final)
    return Operator(index, layer.operator, inputs, (output,), in_float)


def _tensor(value: nncase.Value) -> Tensor:
    if value.scale is None:
        return Tensor(value.name, value.dtype, value.shape)
    return Tensor(value.name, value.dtype, value.shape, (value.scale,), (value.zero_point,))
