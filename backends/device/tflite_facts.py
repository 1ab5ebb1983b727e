"""Read what a TFLite file says of its ends and constants, for runtimes that do not tell."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from backends.device.errors import UserError
from backends.device.flatbuffer import Table

GRAPHS, BUFFERS = 2, 4  # of a model
TENSORS, INPUTS, OUTPUTS = 0, 1, 2  # of a graph
QUANTIZATION = 4  # of a tensor
SCALES, ZERO_POINTS = 2, 3  # of a quantization
OFFSET = 1  # of a buffer


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


def _quantization(tensor: Table) -> tuple[float, int] | None:
    found = tensor.table(QUANTIZATION)
    scales = found.numbers(SCALES, "f") if found else ()
    if not found or not scales:
        return None
    zero_points = found.numbers(ZERO_POINTS, "q")
    return scales[0], zero_points[0] if zero_points else 0
