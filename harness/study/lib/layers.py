"""Layers to look into: the same tensors in a network's torch graph, in its simulations and in its files."""

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

MOST = 12  # layers, evenly spaced along the depth; the logits come on top
LOGITS = "logits"
# Operators whose outputs have the values of their inputs, or zeros besides.
MOVERS = {"Flatten", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
MOVERS |= {"PAD", "RESHAPE", "SQUEEZE", "TRANSPOSE"}


class Layer(NamedTuple):
    """The input of a weighted operator: a tensor of the torch graph, and the name of the weights that identify it.

    ``name`` says where the tensor goes, ``into layer2.0.conv1``. The logits have no weights.
    """

    name: str
    tensor: str
    weights: str


class Place(NamedTuple):
    """A layer's tensor in a file: its name, and the levels of its integers (none in a float file)."""

    tensor: str
    grid: Grid | None
    zero_point: int


def choose(network: Description) -> list[Layer]:
    """Choose layers of a torch graph: at most `MOST` of the tensors between its blocks, and the logits.

    Between blocks a single tensor carries everything that is used later. A network without such tensors, a DenseNet,
    is looked into at the input of every weighted operator. Whatever is made from the pixels alone, such as their
    normalisation, is left out.
    """
    makers = _makers(network)
    first = from_pixels(network)
    found: dict[str, Layer] = {}
    for operator in _weighted(network):
        tensor = _walk(makers, operator.inputs[0])[-1].name
        if tensor not in first:
            weights = operator.inputs[1].name
            name = weights.removesuffix(".weight").removeprefix("network.")
            found.setdefault(tensor, Layer(f"into {name}", tensor, weights))
    narrow = _narrow(network)
    layers = [layer for layer in found.values() if layer.tensor in narrow] or list(found.values())
    spaced = np.unique(np.linspace(0, len(layers) - 1, min(MOST, len(layers))).round().astype(int))
    return [*(layers[i] for i in spaced), Layer(LOGITS, network.outputs[0].name, "")]


def find(layers: list[Layer], file: Description, of_torch: Description) -> dict[str, Place]:
    """Find those layers in a file, by name: weights belong to the closest weights of the same shape.

    Formats differ in names and order. A file with other layers is a `UserError`.
    """
    matched = _matched(file, of_torch)
    makers = _makers(file)
    found = {}
    for layer in layers:
        if layer.name == LOGITS:
            found[layer.name] = _place(file.outputs[0])
            continue
        passed = _walk(makers, matched[layer.weights].inputs[0])
        integers = [t for t in passed if "int" in t.dtype and len(t.scale) == 1]
        found[layer.name] = _place((integers or passed)[-1])
    return found


def _matched(file: Description, of_torch: Description) -> dict[str, Operator]:
    """Match each weight tensor in torch, by name, with the operator of the file that has it, perhaps rounded."""
    ours = list(_weighted(of_torch))
    theirs = list(_weighted(file))
    rows = [by_channel(_reals(of_torch, operator), 0) for operator in ours]
    columns = [by_channel(_reals(file, operator), channels(operator)) for operator in theirs]
    if sorted(r.shape for r in rows) != sorted(c.shape for c in columns):
        raise UserError(f"{file.path}: its layers' weights differ in shape from the network's")
    other_shape = 1e9
    distance = [[np.abs(r - c).mean() if r.shape == c.shape else other_shape for c in columns] for r in rows]
    pairs = zip(*linear_sum_assignment(np.array(distance)), strict=True)
    return {ours[i].inputs[1].name: theirs[j] for i, j in pairs}


def _weighted(network: Description) -> Iterator[Operator]:
    makers = _makers(network)
    for operator in network.operators:
        if operator.name in WEIGHTED and _constant(makers, operator.inputs[1]) is not None:
            yield operator


def _reals(file: Description, operator: Operator) -> NDArray[np.float32]:
    """Return an operator's weights, dequantized."""
    tensor = _constant(_makers(file), operator.inputs[1])
    assert tensor is not None
    assert tensor.values is not None
    values = np.asarray(tensor.values, np.float32)
    if not tensor.scale:
        return values
    shape = [1] * values.ndim
    if tensor.axis is not None:
        shape[tensor.axis] = -1
    scale = np.array(tensor.scale, np.float32).reshape(shape)
    zero_point = np.array(tensor.zero_point, np.float32).reshape(shape)
    return np.asarray((values - zero_point) * scale, np.float32)


def _constant(makers: dict[str, Operator], tensor: Tensor) -> Tensor | None:
    """Return a constant tensor, or the constant that it dequantizes."""
    if tensor.values is None and tensor.name in makers and makers[tensor.name].name == "DequantizeLinear":
        tensor = makers[tensor.name].inputs[0]
    return tensor if tensor.values is not None else None


def _walk(makers: dict[str, Operator], tensor: Tensor) -> list[Tensor]:
    """Return a tensor and those before it that have the same values."""
    passed = [tensor]
    maker = makers.get(tensor.name)
    while maker is not None and maker.name in MOVERS:
        passed.append(maker.inputs[0])
        maker = makers.get(passed[-1].name)
    return passed


def _makers(network: Description) -> dict[str, Operator]:
    return {tensor.name: operator for operator in network.operators for tensor in operator.outputs}


def from_pixels(network: Description) -> set[str]:
    """Return the tensors before the first weights: the pixels, and whatever is made from them alone."""
    found = {tensor.name for tensor in network.inputs}
    for operator in network.operators:
        inputs = {tensor.name for tensor in operator.inputs if tensor.values is None}
        if operator.name not in WEIGHTED and inputs <= found:
            found |= {tensor.name for tensor in operator.outputs}
    return found


def _narrow(network: Description) -> set[str]:
    """Return the tensors that, once made, are the only ones used later."""
    last_use = {t.name: i for i, o in enumerate(network.operators) for t in o.inputs if t.values is None}
    made = [tensor.name for tensor in network.inputs]
    found = set()
    for i, operator in enumerate(network.operators):
        made += [tensor.name for tensor in operator.outputs]
        used_later = [name for name in made if last_use.get(name, -1) > i]
        if len(used_later) == 1:
            found.add(used_later[0])
    return found


def _place(tensor: Tensor) -> Place:
    if not tensor.scale:
        return Place(tensor.name, None, 0)
    limits = np.iinfo(tensor.integers or tensor.dtype)
    zero_point = tensor.zero_point[0]
    grid = Grid(tensor.scale[0], limits.min - zero_point, limits.max - zero_point)
    return Place(tensor.name, grid, zero_point)
