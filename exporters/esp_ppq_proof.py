"""Prove that an ``.espdl`` is what was asked for, what the chip can compute, and what its simulation computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from backends.device.errors import UserError
from backends.device.esp_ppq import Graph, Node
from exporters.calibration import short
from exporters.files.description import Description, Operator
from exporters.ranges import AS_INPUT

SUMS = {"Add", "Concat", "Sub"}  # ESP-DL's kernels take their integers as they are
PRODUCTS = {"Conv", "Gemm", "MatMul", "Mul"}  # and shift those of these to the right alone
MOVERS = {"RequantizeLinear", "Transpose"}  # that esp-ppq inserts
LEAST, HALF = -128, 127.5  # esp-ppq's scale of weights is the power of two above their largest over 127.5
SMALLEST = 1e-8  # scale


def require_computable(path: Path, graph: Graph) -> None:
    """Check that ESP-DL's kernels can compute with a file's scales; else a `UserError` names the first operator."""
    for node in graph.nodes:
        found = [graph.values[name].exponents for name in (*node.inputs, *node.outputs) if name in graph.values]
        scales = [one for one in found if one]
        if node.operator in SUMS and len(set(scales)) > 1:
            raise UserError(
                f"{path}: the chip adds up and joins integers of one scale, and those of {_named(node)} have "
                f"{', '.join(f'2^{one[0]}' for one in scales)}"
            )
        if node.operator in PRODUCTS and max(scales[0]) + max(scales[1]) > min(scales[-1]):
            raise UserError(
                f"{path}: the chip cannot give {_named(node)} a finer scale than that of its products: expected at "
                f"least 2^{max(scales[0]) + max(scales[1])}, got 2^{min(scales[-1])}; try another calibration"
            )


def require_simulated(path: Path, graph: Graph, simulated: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a file has the scales of its simulation; else raise a `UserError`."""
    for name, exponents in simulated.items():
        if name in graph.values and graph.values[name].exponents != exponents:
            raise UserError(
                f"{path}: {short(name)!r} has the exponents {list(graph.values[name].exponents)[:4]}, and "
                f"{list(exponents)[:4]} in esp-ppq's simulation"
            )


def require_weights(path: Path, graph: Graph, floats: Description) -> None:
    """Check that weights are the float network's, rounded, with a scale a channel; else raise a `UserError`.

    Where they lie is not looked at: for the chip's loads they lie in another order.
    """
    for operator, name, weights in _weights(floats):
        value = graph.values.get(name)
        if value is None or value.content is None or value.dtype != "int8":
            raise UserError(f"{path}: the weights {short(name)!r} are not in the file as int8")
        axis = 0 if operator.name == "Conv" or operator.attributes.get("transB") else -1
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.float64)
        scales = 2.0 ** np.array(value.exponents)[:, None]
        largest = np.abs(rows).max(1, keepdims=True)
        fit = (largest <= HALF * scales * (1 + 1e-6)) & ((largest > HALF / 2 * scales) | (scales < 2 * SMALLEST))
        wanted = np.clip(np.rint(rows / scales), LEAST, -LEAST - 1).astype(np.int8)
        if not fit.all() or not np.array_equal(np.sort(wanted, None), np.sort(np.frombuffer(value.content, np.int8))):
            raise UserError(f"{path}: the weights {short(name)!r} are not the network's, rounded to their scales")


def require_asked(path: Path, graph: Graph, asked: Mapping[str, int]) -> None:
    """Check that each activation has the scale that was asked for, or that of a sum that it belongs to.

    A sum has the largest scale of what it adds and gives, as has a ReLU behind it, and what moves values keeps theirs.
    """
    producers = {name: node for node in graph.nodes for name in node.outputs}
    takers = {name: [node for node in graph.nodes if name in node.inputs] for name in graph.values}
    allowed = {name: {exponent} for name, exponent in asked.items() if name in graph.values}
    for node in graph.nodes:
        if node.operator in SUMS:
            (output,) = node.outputs
            after = takers[output]
            ends = [output, *(after[0].outputs if len(after) == 1 and after[0].operator == "Relu" else ())]
            terms = [_source(name, producers) for name in node.inputs]
            needs = [max(allowed[name]) for name in (*terms, ends[-1]) if name in allowed]
            widest = max(needs)
            allowed |= {name: {widest} for name in ends}
            allowed |= {name: allowed[name] | {widest} for name in terms if name in allowed}
        elif node.operator in AS_INPUT and node.outputs[0] in allowed:
            allowed[node.outputs[0]] |= allowed.get(_source(node.inputs[0], producers), set())
    for name, exponents in allowed.items():
        value = graph.values[name]
        if value.content is None and not set(value.exponents) <= exponents:
            raise UserError(
                f"{path}: the scale of {short(name)!r} is not what its QuantSpec implies: expected "
                f"{' or '.join(f'2^{one}' for one in sorted(exponents))}, the file has 2^{value.exponents[0]}"
            )


def _weights(floats: Description) -> Iterator[tuple[Operator, str, np.ndarray]]:
    for operator in floats.operators:
        if operator.name in ("Conv", "Gemm") and operator.inputs[1].values is not None:
            yield operator, operator.inputs[1].name, operator.inputs[1].values


def _source(name: str, producers: Mapping[str, Node]) -> str:
    """Return what was moved or rescaled to give a value, or the value itself."""
    while name in producers and producers[name].operator in MOVERS:
        name = producers[name].inputs[0]
    return name


def _named(node: Node) -> str:
    return f"{node.operator} {short(node.outputs[0])!r}"
