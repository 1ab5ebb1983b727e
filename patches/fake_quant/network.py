"""The fake-quantized network: batch normalisation folded, weights and activations rounded to their levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from backends.device.artifact import Pixels, QuantSpec
from exporters.calibration import Floats, Range, activation_affine, batches, collector, require_spans
from exporters.files.description import Description
from exporters.ranges import AS_INPUT, AS_OUTPUT, WEIGHTED, Learned, resolve, sources, to_collect, weights
from patches.fake_quant.graph import attribute, describe, fold, insert, layers, trace
from patches.fake_quant.rounding import Fixed

MOVERS = AS_INPUT - {"AveragePool"}  # their outputs lie on the levels of their inputs
FLOAT = 32  # bits that round nothing
PLAIN = 8  # bits of the activations that are not multiplied with weights


class Grid(NamedTuple):
    """The levels of an activation: ``step * k`` with whole k in ``[low, high]``."""

    step: float
    low: int
    high: int


class Trained(NamedTuple):
    """The result of quantization-aware training.

    ``state`` is the folded graph's, its weights on their levels; ``weights`` the steps of each weight tensor, one per
    channel; ``activations`` the levels of the activations that were rounded in training.
    """

    state: dict[str, Tensor]
    weights: dict[str, Tensor]
    activations: dict[str, Grid]


class Calibrated(NamedTuple):
    """A folded float network, its tensors as an exporter sees them, and the range of each."""

    graph: GraphModule
    described: Description
    ranges: dict[str, Range]


def fake_quantized(network: nn.Module, quant: QuantSpec, pixels: Pixels, trained: Trained | None = None) -> GraphModule:
    """Return a frozen copy of a network, from pixels in [0, 1] to logits, that computes in float what its file would.

    ``pixels`` set the ranges, as in an export. Every tensor that a file of ours holds as integers is rounded here, in
    the same range. Activations that are multiplied with weights have ``activation_bits``; the others (pixels up to the
    first layer, summands, logits) have 8. Biases lie on the levels of the 32-bit accumulator.
    """
    float_network = calibrated(network, quant, pixels, trained)
    grids = grids_of(float_network.described, float_network.ranges, quant) | (trained.activations if trained else {})
    return on_grids(float_network, grids, quant, learned_weights(trained))


def calibrated(network: nn.Module, quant: QuantSpec, pixels: Pixels, trained: Trained | None = None) -> Calibrated:
    """Fold a network and return it with the ranges that an export with these images would give its tensors."""
    graph = folded(network, trained)
    described = describe(graph)
    learned = trained.activations if trained else {}
    collected = collect(insert(fold(graph), _quantizers(learned)), to_collect(described), pixels, quant)
    return Calibrated(graph, described, resolve(described, collected))


def on_grids(known: Calibrated, grids: Mapping[str, Grid], quant: QuantSpec, learned: Learned = ()) -> GraphModule:
    """Round the weights to ``quant.weight_bits`` and each tensor that has a grid to its levels."""
    graph = fold(known.graph)
    described = known.described
    if quant.weight_bits < FLOAT:
        _round_weights(graph, described, known.ranges, grids, quant, learned)
    for node in graph.graph.nodes:
        if node.op == "get_attr" and node.name in grids:
            attribute(graph, node.target).copy_(Fixed(*grids[node.name])(attribute(graph, node.target)))
    insert(graph, _quantizers({name: grids[name] for name in _kept(described) if name in grids}))
    return graph.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def folded(network: nn.Module, trained: Trained | None = None) -> GraphModule:
    """Fold the batch normalisations of a network, or return the network that was trained from it."""
    graph = fold(trace(network))
    if trained:
        graph.load_state_dict(trained.state)
    return graph


def learned_weights(trained: Trained | None) -> Learned:
    """Return the trained weights with their steps, as an exporter looks them up."""
    if trained is None:
        return ()
    return [(trained.state[name].numpy(), steps.numpy().astype(np.float64)) for name, steps in trained.weights.items()]


def multiplied(network: Description) -> list[str]:
    """Return the activations that are multiplied with weights, in order, without those computed from pixels alone."""
    pixels = {t.name for t in network.inputs}
    source = sources(network)
    found = []
    for operator in network.operators:
        taken = [t.name for t in operator.inputs if t.values is None]
        if operator.name in WEIGHTED:
            found += [source[name] for name in taken if name not in pixels]
        elif pixels.issuperset(taken):
            pixels |= {t.name for t in operator.outputs}
    return list(dict.fromkeys(found))


def grids_of(network: Description, ranges: Mapping[str, Range], quant: QuantSpec) -> dict[str, Grid]:
    """Return the levels of every tensor that has a range; none where activations stay float."""
    if quant.activation_bits >= FLOAT:
        return {}
    few = set(multiplied(network))
    source = sources(network)
    grids = {}
    for name, span in ranges.items():
        bits = quant.activation_bits if source.get(name) in few else PLAIN
        grids[name] = grid(name, span, replace(quant, activation_bits=bits))
    return grids


def grid(name: str, span: Range, quant: QuantSpec) -> Grid:
    """Return the levels that a range implies."""
    scale, zero_point = activation_affine(name, span, quant)
    lowest = -(2 ** (quant.activation_bits - 1)) if quant.activation_signed else 0
    low = lowest - zero_point
    return Grid(scale, low, low + 2**quant.activation_bits - 1)


def collect(graph: GraphModule, wanted: list[str], pixels: Pixels, quant: QuantSpec) -> dict[str, Range]:
    """Return the ranges of a graph's tensors over the calibration images."""
    statistic = collector(quant)
    for batch in batches(pixels, quant):
        statistic.feed(watch(graph, wanted, batch))
    ranges = statistic.ranges()
    if quant.activation_bits < FLOAT:
        require_spans(ranges)
    return ranges


def watch(graph: GraphModule, wanted: list[str], pixels: Pixels) -> dict[str, Floats]:
    """Return the outputs of a graph's nodes for some images, by name."""
    watching = _Watch(graph, wanted)
    with torch.no_grad():
        watching.run(torch.tensor(pixels).permute(0, 3, 1, 2).contiguous().float() / 255)
    return watching.seen


class _Watch(Interpreter):
    def __init__(self, graph: GraphModule, wanted: list[str]) -> None:
        super().__init__(graph)
        self.wanted = set(wanted)
        self.seen: dict[str, NDArray[np.float32]] = {}

    def run_node(self, n: Node) -> Any:
        """Run the node and keep its output where it is wanted."""
        out = super().run_node(n)
        if n.name in self.wanted:
            self.seen[n.name] = out.numpy().copy()  # the next operator may work in place
        return out


def _round_weights(
    graph: GraphModule,
    network: Description,
    ranges: Mapping[str, Range],
    grids: Mapping[str, Grid],
    quant: QuantSpec,
    learned: Learned,
) -> None:
    highest = 2 ** (quant.weight_bits - 1) - 1
    scales = weights(network, ranges, replace(quant, activation_bits=PLAIN), learned)
    taken = {o.inputs[1].name: o.inputs[0].name for o in network.operators if o.name in WEIGHTED}
    for name, layer in layers(graph).items():
        step = torch.tensor(scales[name].scales, dtype=torch.float32)
        weight: Any = layer.weight
        bias: Any = layer.bias
        levels = Fixed(1.0, -highest, highest)
        spread = step.reshape(-1, *[1] * (weight.ndim - 1))
        weight.copy_(levels(weight / spread) * spread)
        if bias is not None and taken[name] in grids:
            unit = step * grids[taken[name]].step
            bias.copy_((bias / unit).round() * unit)


def _kept(network: Description) -> list[str]:
    """Return the tensors that a file keeps: none that is only moved, or clipped at once by a ReLU."""
    source = sources(network)
    made_by = {t.name: o.name for o in network.operators for t in o.outputs}
    clipped = {n for n, of in source.items() if of != n and made_by[of] in AS_OUTPUT and made_by[of] != "Concat"}
    return [name for name in source if made_by.get(name) not in MOVERS and name not in clipped]


def _quantizers(grids: Mapping[str, Grid]) -> dict[str, nn.Module]:
    return {name: Fixed(*levels) for name, levels in grids.items()}
