"""Read what a TFLite file says of its ends and constants, for runtimes that do not tell.

Fields are numbered as the schema lists them. An offset that leads out of the file is a `struct.error`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends.device.errors import UserError
from backends.device.runtimes import Tensor, axes

GRAPHS, BUFFERS = 2, 4  # of a model
TENSORS, INPUTS, OUTPUTS, OPERATORS = 0, 1, 2, 3  # of a graph
OPTIONS_TYPE, OPTIONS = 3, 4  # of an operator
POOL, POOL_ACTIVATION = 5, 5  # the type of a pool's options, and of these the activation that follows
SHAPE, TYPE, QUANTIZATION, SIGNATURE = 0, 1, 4, 7  # of a tensor
SCALES, ZERO_POINTS = 2, 3  # of a quantization
OFFSET = 1  # of a buffer
TYPES = {0: np.float32, 3: np.uint8, 7: np.int16, 9: np.int8}  # of tensors that may be ends, by the schema's number


class Table(NamedTuple):
    """A table that lies at a byte of a flatbuffer."""

    content: bytes
    at: int

    @classmethod
    def root(cls, content: bytes) -> Table:
        """Return the table that holds all others."""
        return cls(content, struct.unpack_from("<I", content)[0])

    def number(self, field: int, code: str) -> Any:
        """Return a number, by its `struct` code; 0 where it is left out."""
        place = self._place(field)
        return struct.unpack_from(f"<{code}", self.content, place)[0] if place else 0

    def numbers(self, field: int, code: str) -> tuple[Any, ...]:
        """Return a vector of numbers, by their `struct` code."""
        n, first = self._vector(field)
        return struct.unpack_from(f"<{n}{code}", self.content, first) if n else ()

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        n, first = self._vector(field)
        places = range(first, first + 4 * n, 4)
        return [Table(self.content, place + self._word(place)) for place in places]

    def table(self, field: int) -> Table | None:
        """Return a table; None where it is left out."""
        place = self._place(field)
        return Table(self.content, place + self._word(place)) if place else None

    def _word(self, place: int) -> int:
        word: int = struct.unpack_from("<I", self.content, place)[0]
        return word

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._place(field)
        if not place:
            return 0, 0
        start = place + self._word(place)
        return self._word(start), start + 4

    def _place(self, field: int) -> int:
        listing = self.at - struct.unpack_from("<i", self.content, self.at)[0]
        (size,) = struct.unpack_from("<H", self.content, listing)
        if 4 + 2 * field >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.content, listing + 4 + 2 * field)
        return self.at + offset if offset else 0


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
