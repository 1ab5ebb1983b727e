"""Prove that a ``.kmodel`` holds the integers and the multipliers that its `QuantSpec` implies, by its own bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from exporters.calibration import Range, short
from exporters.nncase_dump import Span, implied

SECTION = struct.Struct("<16s5Q")  # the last of the chip's: its constants follow
SMALLEST = 0.01  # the largest weight of a channel, at least, to nncase
LEVELS = 127.5
TIES = 1e-4  # of a layer's weights lie so near to a half that they may be rounded either way
NEAR = 2e-3  # of half floats, and of a float32 product of them
COLUMNS = 7  # of a channel: two slopes, two offsets, the least, the largest, and where the line bends


def require_constants(
    path: Path, content: bytes, model: Any, spans: Iterable[Span], ranges: Mapping[str, Range]
) -> None:
    """Check the weights and the table of each convolution and dense layer of a compiled file; else a `UserError`.

    The weights are 8-bit integers, of a scale a channel. A row of the table has a channel's slope, the product of the
    scales of input and weights over that of the output, but for one power of two, and its bias over that scale.
    """
    constants = content[content.rindex(b".rdata") + SECTION.size :]
    free = list(spans)
    for node, weights, bias in _products(model):
        largest = np.abs(weights.astype(np.float64)).reshape(len(weights), -1).max(1)
        scales = np.maximum(largest, SMALLEST) / LEVELS
        integers = np.clip(np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1))), -127, 127)
        at = next((i for i, span in enumerate(free) if _holds(constants, span, integers)), None)
        if at is None:
            raise UserError(
                f"{path}: nncase's file lacks the 8-bit weights of {short(node.output[0])!r} that its QuantSpec implies"
            )
        span = free.pop(at)
        table = np.frombuffer(constants, np.float16, span.table_bytes // 2, span.table).astype(np.float64)
        rows = table.reshape(-1, COLUMNS)
        given, _ = implied(ranges[node.input[0]])
        names = [name for name in _results(model, node) if name in ranges] or ranges  # nncase calls some otherwise
        results = [(1.0, 0), *(implied(ranges[name]) for name in names)]
        biases = (bias, np.zeros_like(bias)) if node.op_type == "Gemm" else (bias,)  # one of its own sum is added later
        if not any(
            _fits(rows, given * scales / scale, added / scale + zero_point)
            for scale, zero_point in results
            for added in biases
        ):
            raise UserError(
                f"{path}: nncase's file multiplies the sums of {short(node.output[0])!r} by other factors than its "
                "QuantSpec implies"
            )


def _products(model: Any) -> Iterable[tuple[Any, NDArray[np.float32], NDArray[np.float32]]]:
    """Give the nodes that multiply by constant weights, with those by output channel, and with their biases."""
    from onnx import numpy_helper

    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        attributes = {one.name: one for one in node.attribute}
        grouped = "group" in attributes and attributes["group"].i != 1
        if node.op_type in ("Conv", "Gemm") and node.input[1] in constants and not grouped:
            weights = constants[node.input[1]]
            if node.op_type == "Gemm" and not ("transB" in attributes and attributes["transB"].i):
                weights = weights.T
            bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights), np.float32)
            yield node, weights, bias


def _holds(constants: bytes, span: Span, integers: NDArray[np.float64]) -> bool:
    """Whether a span has these integers, in an order that is the chip's own, and zeros to fill it."""
    found = np.frombuffer(constants, np.int8, span.weights_bytes, span.weights)
    lacking = found.size - integers.size
    wanted = np.concatenate([integers.ravel(), np.zeros(max(lacking, 0))])
    if lacking < 0:
        return False
    steps = np.abs(np.sort(found) - np.sort(wanted))
    return bool(steps.max() <= 1 and np.count_nonzero(steps) <= TIES * steps.size)


def _results(model: Any, node: Any) -> Sequence[str]:
    """Return the outputs of a node and of what follows it alone."""
    names = [node.output[0]]
    takers = [one for one in model.graph.node if node.output[0] in one.input]
    return names + [name for one in takers for name in one.output if len(takers) == 1]


def _fits(rows: NDArray[np.float64], slopes: NDArray[Any], offsets: NDArray[Any]) -> bool:
    """Whether rows have these slopes, but for one power of two, and these offsets."""
    if len(rows) != len(slopes):
        return False
    powers = np.log2(rows[:, :2] / slopes[:, None])
    power = np.round(np.median(powers))
    sloped = np.abs(powers - power).max() < np.log2(1 + NEAR)
    placed = np.abs(rows[:, 2:4] - offsets[:, None]).max() <= NEAR * max(1.0, np.abs(offsets).max())
    return bool(sloped and placed)
