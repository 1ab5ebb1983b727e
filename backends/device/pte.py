"""Read a ``.pte`` file: what ExecuTorch calls in it, and what it takes and gives.

Fields are numbered as ExecuTorch's ``program.fbs`` lists them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from backends.device.errors import UserError
from backends.device.flatbuffer import Content, Table
from backends.device.reading import DamagedFile, first_line

MARK, EXTENDED = b"ET12", b"eh00"
PLANS, INLINE_CONSTANTS, INLINE_DATA, SEGMENTS, CONSTANTS, NAMED_DATA = 1, 2, 3, 4, 5, 7  # of a program
VALUES, INPUTS, OUTPUTS, CHAINS, OPERATORS, DELEGATES = 2, 3, 4, 5, 6, 7  # of a plan
INSTRUCTIONS = 2  # of a chain
KERNEL_CALL, DELEGATE_CALL = 1, 2  # of the union of instructions
TENSOR = 5  # of the union of values
MOST = 1024  # axes of a tensor, values of a call
SCALAR_TYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64"}
FAULTS = (struct.error, LookupError, ValueError, OverflowError, MemoryError, RecursionError)


class Value(NamedTuple):
    """A tensor of a program; ``content`` begins with a constant's elements, and is None for any other."""

    dtype: str
    shape: tuple[int, ...]
    content: Optional[Content] = None


class Call(NamedTuple):
    """A kernel or a delegate that a program calls, and the numbers of its values, outputs last.

    ``delegate`` is a delegate's content, None for a kernel.
    """

    name: str
    values: tuple[int, ...]
    delegate: Optional[Content] = None


class Program(NamedTuple):
    """The method ``forward`` of a file; ``data`` are constants of delegates by key."""

    values: dict[int, Value]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[Call, ...]
    data: dict[str, Content]


def read(path: Path) -> Program:
    """Read a file of any origin; another format, or a damaged file, is a `DamagedFile`."""
    content = memoryview(path.read_bytes())
    if content[4:8] != MARK:
        raise DamagedFile(
            f"{path}: expected a .pte file (its bytes 4 to 7 are {MARK.decode()}), got {bytes(content[4:8])!r}"
        )
    try:
        return _program(path, content)
    except FAULTS as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DamagedFile:
    """Return the error for a file that cannot be taken apart."""
    return DamagedFile(f"{path}: a damaged .pte file, perhaps truncated ({first_line(error)})")


def _program(path: Path, content: Content) -> Program:
    program = Table.root(content)
    segments = _segments(program, content)
    plans = [plan for plan in program.tables(PLANS) if plan.text(0) == "forward"]
    if not plans:
        raise UserError(f"{path}: has no method forward, which ExecuTorch's exporter writes")
    plan = plans[0]
    constants = _constants(program, segments)
    unions = enumerate(value.union(0) for value in plan.tables(VALUES))
    return Program(
        {i: _value(tensor, constants) for i, (kind, tensor) in unions if kind == TENSOR and tensor},
        plan.numbers(INPUTS, "i"),
        plan.numbers(OUTPUTS, "i"),
        tuple(_calls(program, plan, segments)),
        {named.text(0): segments[named.number(1, "I")] for named in program.tables(NAMED_DATA)},
    )


def _segments(program: Table, content: Content) -> list[Content]:
    """Return what lies behind the flatbuffer."""
    base = struct.unpack_from("<Q", content, 24)[0] if content[8:12] == EXTENDED else 0
    found = []
    for segment in program.tables(SEGMENTS):
        start, size = base + segment.number(0, "Q"), segment.number(1, "Q")
        if start + size > len(content):
            raise ValueError("constants beyond its end")
        found.append(content[start : start + size])
    return found


def _constants(program: Table, segments: Sequence[Content]) -> list[Content]:
    """Return where each constant of the program begins."""
    where = program.table(CONSTANTS)
    offsets = where.numbers(1, "Q") if where else ()
    if where is None or not offsets:
        return [constant.raw(0) for constant in program.tables(INLINE_CONSTANTS)]
    segment = segments[where.number(0, "I")]
    return [segment[offset:] for offset in offsets]


def _value(tensor: Table, constants: Sequence[Content]) -> Value:
    kind, place = tensor.number(0, "b"), tensor.number(5, "I")
    is_constant = place and tensor.table(6) is None  # a place in memory is that of a tensor which may change
    return Value(SCALAR_TYPES.get(kind, f"type {kind}"), few(tensor, 2, "i"), constants[place] if is_constant else None)


def few(table: Table, field: int, code: str) -> tuple[int, ...]:
    """Return a short vector; a long one, which a file could repeat by reference until memory ends, is an error."""
    if table.length(field) > MOST:
        raise ValueError(f"a list of {table.length(field)} numbers")
    return table.numbers(field, code)


def _calls(program: Table, plan: Table, segments: Sequence[Content]) -> list[Call]:
    operators, delegates = plan.tables(OPERATORS), plan.tables(DELEGATES)
    inline = program.tables(INLINE_DATA)
    found = []
    for chain in plan.tables(CHAINS):
        for instruction in chain.tables(INSTRUCTIONS):
            kind, call = instruction.union(0)
            if call is None or kind not in (KERNEL_CALL, DELEGATE_CALL):
                continue
            index, values = call.number(0, "i"), few(call, 1, "i")
            if kind == KERNEL_CALL:
                found.append(Call(operators[index].text(0), values))
                continue
            where = delegates[index].table(1)
            in_segment, place = (where.number(0, "b"), where.number(1, "I")) if where else (0, 0)
            content = segments[place] if in_segment else inline[place].raw(0)
            found.append(Call(delegates[index].text(0), values, content))
    return found
