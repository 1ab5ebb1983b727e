"""Read an ``.espdl`` that was exported here: what ESP-DL executes on the chip, and of what its simulation is built.

esp-ppq simulates what it quantized, not what it wrote, so behind what it wrote, whose header says where that ends, lies
an archive: the float network (ONNX), and as JSON the exponent of each activation, whose scale is that power of two.
Fields are numbered as ESP-DL's ``espdl.fbs`` lists them.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np

from backends.device import appended
from backends.device.flatbuffer import Content, Table
from backends.device.json_types import typed
from backends.device.reading import ARRAY_BYTES, MEBIBYTE, DamagedFile, first_line, parse_json
from backends.device.runtimes import Tensor

NETWORK, BUILD = "network.onnx", "build.json"  # in the archive
MOST = {NETWORK: ARRAY_BYTES, BUILD: 64 * MEBIBYTE}
MARK, HEADER = b"EDL2", 16  # bytes
GRAPH = 7  # of a model
NODES, CONSTANTS, INPUTS, OUTPUTS, ACTIVATIONS = 0, 2, 4, 5, 6  # of a graph
INT, STRING, INTS = 2, 3, 7  # kinds of attributes
ALIGNED = 16  # bytes of a struct
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
FAULTS = (struct.error, LookupError, ValueError, OverflowError, MemoryError, RecursionError)


class Value(NamedTuple):
    """A tensor: the exponent of its scale, or one for each channel; none in float. `content` is a constant's."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    exponents: tuple[int, ...]
    content: Optional[Content] = None


class Node(NamedTuple):
    """An operator, the names of its values, and its settings that are words or integers."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Union[str, tuple[int, ...]]]


class Graph(NamedTuple):
    """What ESP-DL executes: nodes in order, values by name, and the names of the inputs and outputs."""

    nodes: list[Node]
    values: dict[str, Value]
    inputs: list[str]
    outputs: list[str]


@dataclass(frozen=True)
class Build:
    """What a simulation is built of besides its network: the exponent of each activation that esp-ppq calibrates.

    `shape` is the input's as the network has it; the chip may be fed its axes in another order.
    """

    exponents: dict[str, int]
    shape: tuple[int, ...]


def append(path: Path, network: bytes, build: Build) -> None:
    """Write a float network and what is built of it behind a compiled file."""
    appended.append(path, {NETWORK: network, BUILD: json.dumps(asdict(build)).encode()})


def behind(path: Path) -> tuple[bytes, Build]:
    """Read what lies behind a compiled file; one without it, or a damaged one, is a `DamagedFile`."""
    members = appended.read(path, MOST, "esp-ppq's simulation")
    build: Build = typed(Build, parse_json(members[BUILD], f"{path}: {BUILD}"), f"{path}: {BUILD}")
    for name, exponent in build.exponents.items():
        if not -64 <= exponent <= 64:
            raise DamagedFile(f"{path}: {BUILD}: {name}: expected an exponent of -64 to 64, got {exponent}")
    return members[NETWORK], build


def read(path: Path) -> Graph:
    """Read what the chip executes, of a file of any origin; another format, or a damaged file, is a `DamagedFile`."""
    content = memoryview(path.read_bytes())
    if content[:4] != MARK:
        raise DamagedFile(
            f"{path}: expected an .espdl file (it begins with {MARK.decode()}), got {bytes(content[:4])!r}"
        )
    try:
        encrypted, length = struct.unpack_from("<II", content, 4)
        if encrypted or HEADER + length > len(content):
            raise ValueError("encrypted" if encrypted else f"{length:,} bytes are said to follow its header")
        graph = Table.root(content[HEADER : HEADER + length]).table(GRAPH)
        if not graph:
            raise ValueError("it has no graph")
        return _graph(graph)
    except FAULTS as error:
        raise DamagedFile(f"{path}: a damaged .espdl file, perhaps truncated ({first_line(error)})") from error


def ends(path: Path, graph: Graph, build: Build) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a network: one image of int8 in, one vector of int8 out."""
    found = [graph.values[name] for name in (*graph.inputs, *graph.outputs) if name in graph.values]
    shapes = [one.shape for one in found]
    fits = (
        [len(shape) for shape in shapes] == [4, 2] and sorted(shapes[0]) == sorted(build.shape) and build.shape[0] == 1
    )
    if not fits or any(one.dtype != "int8" or not one.exponents for one in found):
        raise DamagedFile(f"{path}: expected one image in, one vector out, both int8")
    scales = [2.0 ** one.exponents[0] for one in found]
    return Tensor(build.shape, np.dtype(np.int8), scales[0]), Tensor(shapes[1], np.dtype(np.int8), scales[1])


def _graph(graph: Table) -> Graph:
    values = [_activation(one) for field in (INPUTS, OUTPUTS, ACTIVATIONS) for one in graph.tables(field)]
    values += [_constant(one) for one in graph.tables(CONSTANTS)]
    inputs, outputs = ([one.text(0) for one in graph.tables(field)] for field in (INPUTS, OUTPUTS))
    return Graph([_node(one) for one in graph.tables(NODES)], {one.name: one for one in values}, inputs, outputs)


def _node(node: Table) -> Node:
    attributes: dict[str, Union[str, tuple[int, ...]]] = {}
    for one in node.tables(5):
        kind = one.number(3, "i")
        if kind in (INT, INTS):
            attributes[one.text(0)] = (one.number(5, "q"),) if kind == INT else one.numbers(11, "q")
        elif kind == STRING:
            attributes[one.text(0)] = one.text(6)
    return Node(node.text(3), node.texts(0), node.texts(1), attributes)


def _activation(value: Table) -> Value:
    kind = value.table(1)
    _, tensor = kind.union(0) if kind else (0, None)
    shape = tensor.table(1) if tensor else None
    axes = [axis.table(0) for axis in shape.tables(0)] if shape else []
    sizes = tuple(axis.number(1, "q") if axis else -1 for axis in axes)
    dtype = DTYPES.get(tensor.number(0, "i") if tensor else 0, "unknown")
    return Value(value.text(0), dtype, sizes, _exponents(dtype, value.numbers(3, "q")))


def _constant(value: Table) -> Value:
    dtype, shape = DTYPES.get(value.number(1, "i"), "unknown"), value.numbers(0, "q")
    content = value.raw(8, ALIGNED)
    held = prod(shape) * np.dtype(dtype).itemsize if dtype != "unknown" else 0
    if held > len(content) and not value.length(2) and not value.length(3) and not value.length(5):
        raise ValueError(f"constant {value.text(6)} of {held:,} bytes has {len(content):,}")
    return Value(value.text(6), dtype, shape, _exponents(dtype, value.numbers(13, "q")), content[:held])


def _exponents(dtype: str, found: tuple[int, ...]) -> tuple[int, ...]:
    if any(not -64 <= one <= 64 for one in found):
        raise ValueError("an exponent beyond 64")
    return found if dtype in ("int8", "int16", "int32") else ()
