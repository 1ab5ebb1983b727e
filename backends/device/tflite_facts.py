"""Read what a TFLite file says of its ends and constants, for runtimes that do not tell."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends.device.errors import UserError
from backends.device.flatbuffer import Table
from backends.device.runtimes import Tensor, axes

GRAPHS, BUFFERS = 2, 4  # of a model
TENSORS, INPUTS, OUTPUTS, OPERATORS = 0, 1, 2, 3  # of a graph
OPTIONS_TYPE, OPTIONS = 3, 4  # of an operator
POOL, POOL_ACTIVATION = 5, 5  # the type of a pool's options, and of these the activation that follows
SHAPE, TYPE, QUANTIZATION, SIGNATURE = 0, 1, 4, 7  # of a tensor
SCALES, ZERO_POINTS = 2, 3  # of a quantization
OFFSET = 1  # of a buffer
TYPES = {0: np.float32, 3: np.uint8, 7: np.int16, 9: np.int8}  # of tensors that may be ends, by the schema's number


class Facts(NamedTuple):
    """Scale and zero point of a file's input and of its output, where they have one."""

    input: tuple[float, int] | None
    output: tuple[float, int] | None


def read(path: Path, runtime: str) -> Facts:
    """Read the facts of a file with one input and one output, and with no constant outside its flatbuffer.

    Such a constant is a `UserError`, for a runtime that does not read it.
    """
    try:
        model = Table.root(path.read_bytes())
        graph = model.tables(GRAPHS)[0]
        tensors = graph.tables(TENSORS)
        facts = Facts(*(_quantization(tensors[graph.numbers(end, "i")[0]]) for end in (INPUTS, OUTPUTS)))
        outside = sum(buffer.number(OFFSET, "Q") > 1 for buffer in model.tables(BUFFERS))
    except (struct.error, IndexError) as error:
        raise UserError(f"{path}: no TFLite file, or a damaged one: {error}") from error
    if outside:
        raise UserError(
            f"{path}: {outside} constants lie outside the flatbuffer, where {runtime} does not read them: "
            f"run a copy that `patchbench inspect {path.name} --inside COPY` writes"
        )
    return facts


def ends(path: Path) -> tuple[Tensor, Tensor]:
    """Read the input and the output of a file that has one each, wherever its constants lie."""
    try:
        graph = Table.root(path.read_bytes()).tables(GRAPHS)[0]
        tensors = graph.tables(TENSORS)
        (given,), (wanted,) = (graph.numbers(end, "i") for end in (INPUTS, OUTPUTS))
        return _end(path, tensors[given]), _end(path, tensors[wanted])
    except (struct.error, IndexError, ValueError) as error:
        raise UserError(f"{path}: expected a TFLite file with one input and one output: {error}") from error


def activated_pools(path: Path) -> int:
    """Count the pools of a file that an activation is fused to."""
    found = 0
    for operator in Table.root(path.read_bytes()).tables(GRAPHS)[0].tables(OPERATORS):
        options = operator.table(OPTIONS) if operator.number(OPTIONS_TYPE, "B") == POOL else None
        found += bool(options and options.number(POOL_ACTIVATION, "b"))
    return found


def _end(path: Path, tensor: Table) -> Tensor:
    code = tensor.number(TYPE, "b")
    if code not in TYPES:
        raise UserError(f"{path}: its input or output has type {code}, expected an image and scores")
    dtype = np.dtype(TYPES[code])
    shape = axes(tensor.numbers(SIGNATURE, "i") or tensor.numbers(SHAPE, "i"))
    if dtype == np.float32:
        return Tensor(shape, dtype)
    quantization = _quantization(tensor)
    if not quantization or not quantization[0]:
        raise UserError(f"{path}: an input or output is {dtype} without a scale: its values are undefined")
    return Tensor(shape, dtype, *quantization)


def _quantization(tensor: Table) -> tuple[float, int] | None:
    found = tensor.table(QUANTIZATION)
    scales = found.numbers(SCALES, "f") if found else ()
    if not found or not scales:
        return None
    zero_points = found.numbers(ZERO_POINTS, "q")
    return scales[0], zero_points[0] if zero_points else 0
