"""Operators on tensors of ONNX files whose first axis is not that of the images, as in windows and heads of attention.

A twin's tensors hold images along their first axis. Where a file's tensor holds something else there, such as the
windows of all images, the twin's has an axis for the images in front of the file's axes for one image, and an operator
is *lifted*: it counts its axes from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from backends.device.errors import UserError
from exporters.files import onnx_cut
from exporters.files.description import Description, Operator
from patches.twins.layers import each_to
from patches.twins.network import Quant
from patches.twins.onnx_layers import Converter, Layer

RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
MOVES = {"Transpose", "Slice", "QLinearConcat", "Split", "Gather", "Pad"}  # of which `_raised` knows the axes


class Shape(NamedTuple):
    """The shape of a file's tensor for one image; and whether it holds something else than images in front."""

    whole: tuple[int, ...]
    lifted: bool

    @property
    def of_one(self) -> tuple[int, ...]:
        """The shape of an image's part in the twin."""
        return self.whole if self.lifted else self.whole[1:]


def shapes(description: Description) -> dict[str, Shape]:
    """Return the shapes of the tensors that onnxruntime computes; none where the file's images have any size."""
    batch, *size = description.inputs[0].shape or ()
    if min(size, default=-1) < 1:
        return {}
    try:
        one, *more = onnx_cut.shapes(description.path, [(n, *size) for n in ((1, 2) if batch < 1 else (1,))])
    except UserError:  # what is wrong with it, its operators tell better
        return {}
    two = more[0] if more else {}
    return {
        name: Shape(shape, shape[:1] != (1,) or two.get(name, (2, *shape[1:])) != (2, *shape[1:]))
        for name, shape in one.items()
    }


def lifted(make: Converter | None, operator: Operator, known: Mapping[str, Shape]) -> Converter | None:
    """Return the converter of an operator, lifted where it is on tensors that do not hold images in front."""
    out = known.get(operator.outputs[0].name)
    given = [known[tensor.name] for tensor in operator.inputs if tensor.values is None and tensor.name in known]
    if out is None or not given:
        return make
    lifts = any(shape.lifted for shape in (*given, out))
    if operator.name in ("Squeeze", "Unsqueeze") or (operator.name in RESHAPES and lifts):
        return lambda operator, quants, path: _reshaped(operator, quants, path, out)
    if make is None or not lifts:
        return make

    def lift(operator: Operator, quants: dict[str, Quant], path: Path) -> Layer:
        made = make(_raised(operator), quants, path)
        taken = [known[tensor.name].whole for tensor in made.inputs if tensor.values is None]
        folds = len(taken) == 1 and operator.name not in MOVES
        return made._replace(layer=Lifted(made.layer, taken, out.of_one, folds))

    return lift


class Lifted(nn.Module):
    """A layer on all axes of each image; or, of one operand, on rows of all images that ``folds`` together."""

    def __init__(
        self, layer: nn.Module, before: Sequence[tuple[int, ...]], after: tuple[int, ...], folds: bool
    ) -> None:
        super().__init__()
        self.layer, self.before, self.after, self.folds = layer, before, after, folds

    def forward(self, *operands: Tensor) -> Tensor:
        """Return the output of each image in the twin's shape."""
        images = len(operands[0])
        given = [x.reshape(images, *shape) for x, shape in zip(operands, self.before, strict=True)]
        if self.folds:
            given = [given[0].flatten(0, 1)]
        out: Tensor = self.layer(*given).reshape(images, *self.after)
        return out


def _reshaped(operator: Operator, quants: Mapping[str, Quant], path: Path, out: Shape) -> Layer:
    quant = quants.get(operator.inputs[0].name)
    if quant is None:
        raise UserError(f"{path}: {operator.numbered}: expected integers with a scale")
    return Layer(each_to(*out.of_one), operator.inputs[:1], quant)


def _raised(operator: Operator) -> Operator:
    """Return an operator that moves values with its axes counted from one further on."""
    settings, inputs = dict(operator.attributes), list(operator.inputs)
    if operator.name == "Transpose":
        settings["perm"] = [0, *(axis + 1 for axis in settings["perm"])]
    if operator.name in ("QLinearConcat", "Split", "Gather"):
        axis = settings.get("axis", 0)
        settings["axis"] = axis + 1 if axis >= 0 else axis
    if operator.name == "Slice":
        given = inputs[3].values if len(inputs) > 3 else None
        starts = () if inputs[1].values is None else inputs[1].values
        axes = np.arange(len(starts)) if given is None else given
        inputs[3:4] = [replace(inputs[1], name="axes", values=np.where(axes < 0, axes, axes + 1))]
    if operator.name == "Pad" and inputs[1].values is not None:
        before, after = np.split(inputs[1].values, 2)
        inputs[1] = replace(inputs[1], values=np.concatenate([[0], before, [0], after]))
    if operator.name == "QLinearConcat":
        inputs = [
            replace(tensor, values=tensor.values[None]) if i % 3 == 2 and tensor.values is not None else tensor
            for i, tensor in enumerate(inputs)
        ]
    return replace(operator, attributes=settings, inputs=tuple(inputs))
