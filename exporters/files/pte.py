"""Read a ``.pte`` file as a `Description`: the operators inside its XNNPACK delegates, and those outside.

Fields are numbered as ExecuTorch's ``runtime_schema.fbs`` of XNNPACK lists them. A tensor of a delegate is called
``delegate.number``, one of the program ``value.number``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device import pte
from backends.device.errors import UserError
from backends.device.flatbuffer import Content, Table
from backends.device.reading import MEBIBYTE, regular_file
from exporters.files.description import Description, Operator, Tensor, computes_in_float
from exporters.files.pte_nodes import NODES

MODEL_BYTES = 8192 * MEBIBYTE
XNNPACK = "XnnpackBackend"
NODE_LIST, VALUE_LIST, CONSTANTS, CONSTANT_DATA = 1, 2, 6, 8  # of a graph
PER_CHANNEL, PER_TENSOR = 1, 2  # of the union of quantizations
NOWHERE = 2**32 - 1  # the number of an operand that is left out
DTYPES = {
    1: "float32", 2: "float16", 3: "int8", 4: "uint8", 5: "int32", 6: "int8", 7: "int32", 8: "int4", 9: "int8 dynamic",
    10: "int4", 11: "int8 dynamic", 12: "int32", 13: "float32", 14: "bfloat16",
}  # fmt: skip


class _Blob(NamedTuple):
    """A delegate: its graph, the constants behind it, and those of the program by key."""

    graph: Table
    behind: Content
    data: Mapping[str, Content]


class _Node(NamedTuple):
    """A node of a graph: the numbers of its operands, and its settings."""

    name: str
    inputs: list[int]
    outputs: list[int]
    attributes: dict[str, Any]


def describe(path: Path) -> Description:
    """Read a ``.pte`` file of any origin; a damaged one, or another format, is a `DamagedFile`."""
    regular_file(path, MODEL_BYTES)
    program = pte.read(path)
    try:
        operators = tuple(_operators(path, program))
        inputs, outputs = ([_value(program, number) for number in ends] for ends in (program.inputs, program.outputs))
    except pte.FAULTS as error:
        raise pte.damaged(path, error) from error
    seen = {t.name: t for o in operators for t in (*o.inputs, *o.outputs) if t.integers}
    ends = [tuple(_carrying(t, seen.get(t.name)) for t in tensors) for tensors in (inputs, outputs)]
    return Description(path, "pte", operators, operators, ends[0], ends[1])


def _operators(path: Path, program: pte.Program) -> Iterator[Operator]:
    count, given = 0, {f"value.{number}" for number in program.outputs}
    for number, call in enumerate(program.calls):
        if call.delegate is None:
            found = [_kernel(program, call)]
        elif call.name == XNNPACK:
            found = list(_nodes(f"delegate{number}" if number else "delegate", program, call))
        else:
            raise UserError(
                f"{path}: is lowered for {call.name}, whose integers nothing here reads; expected {XNNPACK}"
            )
        for operator in found:
            final = {tensor.name for tensor in operator.outputs} <= given
            in_float = computes_in_float(operator.name, operator.inputs, operator.outputs, final)
            yield replace(operator, index=count, in_float=in_float)
            count += 1


def _kernel(program: pte.Program, call: pte.Call) -> Operator:
    """Return a kernel outside the delegates; its last tensor is what it writes."""
    tensors = [_value(program, number) for number in dict.fromkeys(call.values) if number in program.values]
    return Operator(0, call.name.rpartition("::")[2], tuple(tensors[:-1]), tuple(tensors[-1:]), False)


def _value(program: pte.Program, number: int) -> Tensor:
    value = program.values[number]
    return Tensor(f"value.{number}", value.dtype, value.shape)


def _nodes(label: str, program: pte.Program, call: pte.Call) -> Iterator[Operator]:
    """Yield the nodes of a delegate; a float tensor that is converted to integers or from them carries their scale."""
    assert call.delegate is not None
    blob = _blob(call.delegate, program.data)
    tensors = dict(_tensors(label, blob, [(f"value.{number}", program.values[number]) for number in call.values]))
    nodes: list[_Node] = []
    for node in blob.graph.tables(NODE_LIST):
        kind, table = node.union(0)
        if table is None:
            continue
        form = NODES[kind]
        inputs, outputs = ([table.number(field, "I") for field in side] for side in (form.inputs, form.outputs))
        attributes = {name: _field(table, field, code) for name, (field, code) in form.attributes.items()}
        attributes["flags"] = table.number(form.outputs[-1] + 1, "I")
        if limits := node.table(3):
            attributes |= {"output_min": limits.number(0, "f"), "output_max": limits.number(1, "f")}
        nodes.append(_Node(form.name, inputs, outputs, attributes))
        if form.name == "Convert":
            _carry(tensors, inputs[0], outputs[0])
    for one in nodes:
        taken, given = (tuple(tensors[i] for i in side if i != NOWHERE) for side in (one.inputs, one.outputs))
        yield Operator(0, one.name, taken, given, False, one.attributes)


def _field(table: Table, field: int, code: str) -> Any:
    return pte.few(table, field, code[1:]) if code.startswith("*") else table.number(field, code)


def _carry(tensors: dict[int, Tensor], one: int, other: int) -> None:
    for real, quantized in ((one, tensors[other]), (other, tensors[one])):
        if tensors[real].is_float and quantized.scale:
            tensors[real] = _carrying(tensors[real], replace(quantized, integers=quantized.dtype))


def _carrying(real: Tensor, quantized: Tensor | None) -> Tensor:
    """Return a float tensor that carries the scale of its integers, if there are any."""
    if quantized is None:
        return real
    return replace(real, scale=quantized.scale, zero_point=quantized.zero_point, integers=quantized.integers)


def _blob(content: Content, data: Mapping[str, Content]) -> _Blob:
    if content[4:8] != b"XH00":
        return _Blob(Table.root(content), b"", data)
    start, size, constants = struct.unpack_from("<III", content, 10)
    return _Blob(Table.root(content[start : start + size]), content[constants:], data)


def _tensors(label: str, blob: _Blob, outer: list[tuple[str, pte.Value]]) -> Iterator[tuple[int, Tensor]]:
    scales = 0
    for value in blob.graph.tables(VALUE_LIST):
        _, table = value.union(0)
        quant: tuple[int, Table | None] = (0, None)
        if table is not None and value.number(0, "B") == 2:
            quant, table = table.union(1), table.table(0)
        if table is None:
            continue
        number = table.number(6, "I")
        is_outer = bool(table.number(5, "I") & 3)  # flags: an input or an output of the delegate
        name, around = outer[table.number(4, "I")] if is_outer else (f"{label}.{number}", None)
        dtype, shape = DTYPES.get(table.number(0, "h"), "unknown"), pte.few(table, 2, "I")
        scale, zero_point, axis = _quant(*quant, blob)
        scales += len(scale)
        if 4 * scales > len(blob.graph.content) + sum(map(len, blob.data.values())):
            raise ValueError("lists more parts than it holds")
        raw = around.content if around else _constant(blob, table.number(3, "I"))
        values = None if raw is None else _values(raw, dtype, shape)
        yield number, Tensor(name, dtype, shape, scale, zero_point, axis, values=values)


def _quant(kind: int, table: Table | None, blob: _Blob) -> tuple[tuple[float, ...], tuple[int, ...], int | None]:
    if table is not None and kind == PER_TENSOR:
        return (table.number(0, "f"),), (table.number(1, "i"),), None
    if table is not None and kind == PER_CHANNEL:
        scales = table.numbers(0, "f")
        if not scales and (raw := _constant(blob, table.number(2, "I"))):
            scales = tuple(np.frombuffer(raw, np.float32, table.number(3, "I")).tolist())
        return scales, (0,) * len(scales), table.number(1, "i")
    return (), (), None


def _values(raw: Content, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a constant's values; those of int4 are left as bytes."""
    if dtype not in ("float32", "float16", "int8", "int32", "uint8"):
        return np.frombuffer(raw, np.uint8)
    return np.frombuffer(raw, dtype, prod(shape)).reshape(shape)


def _constant(blob: _Blob, place: int) -> Content | None:
    """Return what begins with the elements of a constant; None of no constant."""
    if not place:
        return None
    inside = blob.graph.tables(CONSTANTS)
    if inside:
        return inside[place].raw(0)
    where = blob.graph.tables(CONSTANT_DATA)[place]
    if key := where.text(2):
        return blob.data[key]
    start, size = where.number(0, "Q"), where.number(1, "Q")
    if start + size > len(blob.behind):
        raise ValueError("constants beyond its end")
    return blob.behind[start : start + size]
