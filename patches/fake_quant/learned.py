"""The network of quantization-aware training: learned step sizes, batch normalisation still live."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.utils import parametrize

from backends.device.artifact import Pixels, QuantSpec
from backends.device.errors import UserError
from exporters.ranges import resolve, to_collect
from patches.fake_quant.graph import describe, fold, insert, layers, trace
from patches.fake_quant.network import FLOAT, PLAIN, Grid, Trained, collect, grid, multiplied, watch
from patches.fake_quant.rounding import Levels

TRIED = np.linspace(0.1, 1, 46)  # shares of the largest value that are tried as the first step size
SAMPLE = 100_000  # values of an activation that choose its first step size


def learnable(network: nn.Module, quant: QuantSpec, pixels: Pixels) -> GraphModule:
    """Return a trainable copy of a network that learns the step sizes of its weights and few-bit activations.

    The steps start where the squared error is smallest. Activations of 8 bits stay float; they are calibrated after
    `finish`. Weights have one step per channel, so that folding batch normalisation keeps them on their levels.
    """
    if not quant.per_channel:
        raise UserError("quantization-aware training learns one step per channel: leave per_channel = true")
    graph = trace(network)
    plain = fold(graph)
    if quant.activation_bits < PLAIN:
        few = multiplied(described := describe(plain))
        ranges = resolve(described, collect(plain, to_collect(described), pixels, quant))
        seen = watch(plain, few, pixels[: quant.calibration_images])
        levels = {name: grid(name, ranges[name], quant) for name in few}
        steps = {name: _first_step(seen[name].reshape(1, -1), *levels[name][1:]) for name in few}
        after = {_after_norm(graph, n): Levels(steps[n][0], *levels[n][1:]) for n in few}
        insert(graph, after)
    highest = 2 ** (quant.weight_bits - 1) - 1
    for layer in layers(graph).values() if quant.weight_bits < FLOAT else ():
        weight: Any = layer.weight
        step = _first_step(weight.detach().flatten(1).numpy(), -highest, highest)
        spread = step.reshape(-1, *[1] * (weight.ndim - 1))
        parametrize.register_parametrization(layer, "weight", Levels(spread, -highest, highest))
    return graph


def finish(graph: GraphModule) -> Trained:
    """Fold batch normalisation into weights and steps, and return what was trained."""
    graph = graph.eval()
    trained: dict[str, Any] = {n: layer for n, layer in layers(graph).items() if parametrize.is_parametrized(layer)}
    steps = {name: layer.parametrizations.weight[0].step.flatten() for name, layer in trained.items()}
    for layer in trained.values():
        parametrize.remove_parametrizations(layer, "weight")
    before = {name: _largest(layer) for name, layer in layers(graph).items()}
    plain = fold(graph)
    # Folding multiplies a channel by one number; a channel of zeros may have any step.
    factors = {name: torch.nan_to_num(_largest(layer) / before[name], 1.0) for name, layer in layers(plain).items()}
    activations = {
        str(node.args[0].name): Grid(float(module.step), module.low, module.high)
        for node in plain.graph.nodes
        if node.op == "call_module" and isinstance(module := plain.get_submodule(node.target), Levels)
    }
    state = plain.state_dict()
    for name in [name for name in state if name.endswith(".log_step")]:
        del state[name]
    return Trained(state, {name: (steps[name] * factors[name]).detach() for name in steps}, activations)


def _after_norm(graph: GraphModule, name: str) -> str:
    """Return the node after which a tensor of the folded graph is complete: batch normalisation, or the node itself."""
    node = next(n for n in graph.graph.nodes if n.name == name)
    user = next(iter(node.users), None)
    if user is not None and user.op == "call_module" and isinstance(graph.get_submodule(user.target), nn.BatchNorm2d):
        return str(user.name)
    return name


def _largest(layer: nn.Module) -> Tensor:
    weight: Any = layer.weight
    return weight.detach().abs().flatten(1).amax(1)  # type: ignore[no-any-return]


def _first_step(rows: NDArray[np.float32], low: int, high: int) -> Tensor:
    """Return for each row the step with the smallest squared error among `TRIED`."""
    rows = rows[:, :: max(1, rows.shape[1] // SAMPLE)]
    reach = np.abs(rows).max(axis=1, keepdims=True) / max(-low, high) + 1e-12
    errors = []
    for share in TRIED:
        step = reach * share
        errors.append(((np.clip(np.round(rows / step), low, high) * step - rows) ** 2).mean(axis=1))
    best = TRIED[np.argmin(errors, axis=0)]
    return torch.tensor(reach[:, 0] * best, dtype=torch.float32)
