"""Read what a TFLite file says of its ends and constants, for runtimes that do not tell.

Fields are numbered as the schema lists them. An offset that leads out of the file is a `struct.error`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from backends.device.errors import UserError

GRAPHS, BUFFERS = 2, 4  # of a model
TENSORS, INPUTS, OUTPUTS = 0, 1, 2  # of a graph
QUANTIZATION = 4  # of a tensor
SCALES, ZERO_POINTS = 2, 3  # of a quantization
OFFSET = 1  # of a buffer


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


def _quantization(tensor: Table) -> tuple[float, int] | None:
    found = tensor.table(QUANTIZATION)
    scales = found.numbers(SCALES, "f") if found else ()
    if not found or not scales:
        return None
    zero_points = found.numbers(ZERO_POINTS, "q")
    return scales[0], zero_points[0] if zero_points else 0
