"""Read an ``.espdl`` file as a `Description`: what ESP-DL executes on the chip, with scales that are powers of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backends.device import esp_ppq
from backends.device.reading import ARRAY_BYTES, DamagedFile, regular_file
from exporters.files.description import Description, Operator, Tensor, computes_in_float


def describe(path: Path) -> Description:
    """Read a file of any origin; a damaged one, or another format, is a `DamagedFile`."""
    regular_file(path, 2 * ARRAY_BYTES)
    graph = esp_ppq.read(path)
    operators = []
    for i, node in enumerate(graph.nodes):
        inputs, outputs = (
            tuple(_tensor(path, graph, name) for name in names if name) for names in (node.inputs, node.outputs)
        )
        computing = tuple(one for one in inputs if one.values is None or one.scale)
        in_float = computes_in_float(node.operator, computing, outputs, i == len(graph.nodes) - 1)
        operators.append(Operator(i, node.operator, inputs, outputs, in_float, dict(node.attributes)))
    given, wanted = (tuple(_tensor(path, graph, name) for name in names) for names in (graph.inputs, graph.outputs))
    return Description(path, "espdl", tuple(operators), tuple(operators), given, wanted)


def _tensor(path: Path, graph: esp_ppq.Graph, name: str) -> Tensor:
    if name not in graph.values:
        raise DamagedFile(f"{path}: an operator takes or gives {name!r}, which is not in the file")
    value = graph.values[name]
    scale = tuple(2.0**exponent for exponent in value.exponents)
    values = None
    if value.content is not None and value.dtype != "unknown":
        values = np.frombuffer(value.content, value.dtype)  # as they lie, whatever the shape says
    axis = len(value.shape) - 1 if len(scale) > 1 else None
    return Tensor(name, value.dtype, value.shape, scale, (0,) * len(scale), axis, values=values)
