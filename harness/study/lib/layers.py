"""Where a network can be looked into: the same tensors of its torch graph, of its simulations and of its files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from backends.device.errors import UserError
from exporters.files.description import Description, Operator, Tensor
from exporters.ranges import WEIGHTED, by_channel, channels
from patches.fake_quant.network import Grid

MOST = 12  # layers, evenly spaced along the depth; the logits come besides
# What they give has the values that they take, or zeros besides.
WALKED = {
    "Flatten", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "QuantizeLinear", "DequantizeLinear",
    "PAD", "RESHAPE", "SQUEEZE", "TRANSPOSE",
}  # fmt: skip
LOGITS = "logits"


class Layer(NamedTuple):
    """What some weights are multiplied with: the tensor of the torch graph, and the weights that tell it, by name.

    ``name`` says where it goes, ``into layer2.0.conv1``. The logits have no weights.
    """

    name: str
    tensor: str
    weights: str


class Place(NamedTuple):
    """Such a tensor in a file: its name, and the levels of its integers (none in a float file)."""

    tensor: str
    grid: Grid | None
    zero_point: int


def choose(network: Description) -> list[Layer]:
    """The layers of a torch graph to look at: what lies between its blocks, at most `MOST` of them, and the logits.

    Between blocks a single tensor holds all that goes on: nothing that was made earlier is used later. A network that
    has no such place, a DenseNet, is looked at wherever weights are multiplied. What is made of the pixels alone, as a
    normalisation is, is left out.
    """
    pixels = {t.name for t in network.inputs}
    for operator in network.operators:
        if operator.name not in WEIGHTED and pixels.issuperset(t.name for t in operator.inputs if t.values is None):
            pixels |= {t.name for t in operator.outputs}
    makers, narrow = _makers(network), _narrow(network)
    found: dict[str, Layer] = {}
    for operator in _weighted(network):
        tensor = _walk(makers, operator.inputs[0])[-1]
        if tensor.name not in pixels:
            name = operator.inputs[1].name.removesuffix(".weight").removeprefix("network.")
            found.setdefault(tensor.name, Layer(f"into {name}", tensor.name, operator.inputs[1].name))
    every = [layer for layer in found.values() if layer.tensor in narrow] or list(found.values())
    spaced = np.unique(np.linspace(0, len(every) - 1, min(MOST, len(every))).round().astype(int))
    return [*(every[i] for i in spaced), Layer(LOGITS, network.outputs[0].name, "")]


def find(layers: list[Layer], file: Description, of_torch: Description) -> dict[str, Place]:
    """Where those layers are in a file, by their names: the layers' weights are the closest of their shape.

    Each format has names and an order of its own. A file with other layers is a `UserError`.
    """
    matched = _matched(file, of_torch)
    makers, found = _makers(file), {}
    for layer in layers:
        if layer.name == LOGITS:
            found[layer.name] = _place(file.outputs[0])
            continue
        passed = _walk(makers, matched[layer.weights].inputs[0])
        integers = [t for t in passed if "int" in t.dtype and len(t.scale) == 1]
        found[layer.name] = _place((integers or passed)[-1])
    return found


def _matched(file: Description, of_torch: Description) -> dict[str, Operator]:
    """By the name of weights in torch the operator of the file that has them, rounded perhaps."""
    ours, theirs = list(_weighted(of_torch)), list(_weighted(file))
    rows = [by_channel(_reals(of_torch, operator), 0) for operator in ours]
    columns = [by_channel(_reals(file, operator), channels(operator)) for operator in theirs]
    if sorted(r.shape for r in rows) != sorted(c.shape for c in columns):
        raise UserError(f"{file.path}: its layers' weights have other shapes than the network's")
    far = 1e9  # another shape
    apart = np.array([[np.abs(r - c).mean() if r.shape == c.shape else far for c in columns] for r in rows])
    return {ours[i].inputs[1].name: theirs[j] for i, j in zip(*linear_sum_assignment(apart), strict=True)}


def _weighted(network: Description) -> Iterator[Operator]:
    makers = _makers(network)
    for operator in network.operators:
        if operator.name in WEIGHTED and _constant(makers, operator.inputs[1]) is not None:
            yield operator


def _reals(file: Description, operator: Operator) -> NDArray[np.float32]:
    """The weights of a file's operator, dequantized."""
    tensor = _constant(_makers(file), operator.inputs[1])
    assert tensor is not None
    assert tensor.values is not None
    if not tensor.scale:
        return np.asarray(tensor.values, np.float32)
    spread = [-1 if i == tensor.axis else 1 for i in range(tensor.values.ndim)]
    scale, zero_point = (np.array(part, np.float32).reshape(spread) for part in (tensor.scale, tensor.zero_point))
    return np.asarray((tensor.values.astype(np.float32) - zero_point) * scale, np.float32)


def _constant(makers: dict[str, Operator], tensor: Tensor) -> Tensor | None:
    """The constant that a tensor is, itself or dequantized."""
    if tensor.values is None and tensor.name in makers and makers[tensor.name].name == "DequantizeLinear":
        tensor = makers[tensor.name].inputs[0]
    return tensor if tensor.values is not None else None


def _walk(makers: dict[str, Operator], tensor: Tensor) -> list[Tensor]:
    """A tensor and what it was made of, as far as its values are the same."""
    passed = [tensor]
    while (maker := makers.get(passed[-1].name)) is not None and maker.name in WALKED:
        passed.append(maker.inputs[0])
    return passed


def _makers(network: Description) -> dict[str, Operator]:
    return {t.name: o for o in network.operators for t in o.outputs}


def _narrow(network: Description) -> set[str]:
    """The tensors that, when they are made, are alone in being used later."""
    last = {t.name: i for i, o in enumerate(network.operators) for t in o.inputs if t.values is None}
    made, found = [t.name for t in network.inputs], set()
    for i, operator in enumerate(network.operators):
        made += [t.name for t in operator.outputs]
        used_later = [name for name in made if last.get(name, -1) > i]
        found |= set(used_later) if len(used_later) == 1 else set()
    return found


def _place(tensor: Tensor) -> Place:
    if not tensor.scale:
        return Place(tensor.name, None, 0)
    limits, zero_point = np.iinfo(tensor.integers or tensor.dtype), tensor.zero_point[0]
    return Place(tensor.name, Grid(tensor.scale[0], limits.min - zero_point, limits.max - zero_point), zero_point)
