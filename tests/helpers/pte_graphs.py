"""Small ``.pte`` files, made of XNNPACK's nodes by ExecuTorch's own writers, without torch's exporter."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

INPUT, OUTPUT = 1, 2  # XNNPACK's flags of what enters and leaves its graph
NOWHERE = 2**32 - 1
ALIGNED = 16


class Tensor(NamedTuple):
    """A tensor of a graph; of several scales one a channel along an axis."""

    dtype: str
    shape: tuple[int, ...]
    scale: Any = None
    zero_point: int = 0
    axis: int = 0
    values: np.ndarray | None = None
    flags: int = 0


class Node(NamedTuple):
    """A node of a graph; its limits are those of a fused activation."""

    name: str
    inputs: tuple[int, ...]
    output: int
    limits: tuple[float, float] | None
    settings: dict[str, Any]


class Graph:
    """A file in the making: tensors are called by their numbers."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.nodes: list[Node] = []

    def made(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def reals(self, *shape: int, flags: int = 0) -> int:
        return self.made(Tensor("float32", shape, flags=flags))

    def integers(self, shape: Sequence[int], scale: float, zero_point: int) -> int:
        return self.made(Tensor("int8", tuple(shape), scale, zero_point))

    def constant(self, values: np.ndarray, scale: Any, zero_point: int = 0, axis: int = 0) -> int:
        return self.made(Tensor(str(values.dtype), values.shape, scale, zero_point, axis, values))

    def node(
        self, name: str, out: int, *inputs: int, limits: tuple[float, float] | None = None, **settings: Any
    ) -> int:
        """A node that writes a tensor, whose number is returned."""
        self.nodes.append(Node(name, inputs, out, limits, settings))
        return out

    def write(self, file: Path, kernel: str = "") -> Path:
        """Write the program that runs this graph and, on what it gives, a kernel of that name."""
        from executorch.exir import schema
        from executorch.exir._serialize._program import PTEFile, serialize_pte_binary
        from executorch.exir.scalar_type import ScalarType

        values, end = [], 0
        for flag in (INPUT, OUTPUT):
            (shape,) = (tensor.shape for tensor in self.tensors if tensor.flags == flag)
            memory = schema.AllocationDetails(1, end, 0)
            order, static = list(range(len(shape))), schema.TensorShapeDynamism.STATIC
            values.append(schema.Tensor(ScalarType.FLOAT, 0, list(shape), order, False, 0, 0, memory, static))
            end += _aligned(4 * int(np.prod(shape)))
        inline = schema.BackendDelegateDataReference(schema.DataLocation.INLINE, 0)
        calls: list[Any] = [schema.DelegateCall(0, [0, 1]), *([schema.KernelCall(0, [1, 1])] if kernel else [])]
        chain = schema.Chain([], [], [schema.Instruction(call) for call in calls], None)
        plan = schema.ExecutionPlan(
            "forward", schema.ContainerMetadata("", ""), [schema.EValue(value) for value in values], [0], [1], [chain],
            [schema.Operator(kernel, "out")] if kernel else [],
            [schema.BackendDelegate("XnnpackBackend", inline, [])], [0, end],
        )  # fmt: skip
        blob, nowhere = schema.BackendDelegateInlineData(_blob(self)), schema.SubsegmentOffsets(0, [])
        program = schema.Program(0, [plan], [schema.Buffer(b"")], [blob], [], nowhere, [], [])
        file.write_bytes(bytes(serialize_pte_binary(PTEFile(program))))
        return file


def convolved(file: Path, size: int) -> Path:
    """Write a network of images of this size: a convolution, and the mean of each of its channels."""
    filters, random, graph = 10, np.random.default_rng(0), Graph()
    x = graph.node(
        "Convert", graph.integers((1, 3, size, size), 1 / 255, -128), graph.reals(1, 3, size, size, flags=INPUT)
    )
    turned = graph.integers((1, size, size, 3), 1 / 255, -128)
    x = graph.node("StaticTranspose", turned, x, num_dims=4, perm=[0, 2, 3, 1])
    weights = graph.constant(random.integers(-127, 128, (filters, 3, 3, 3)).astype(np.int8), np.full(filters, 0.01))
    x = graph.node(
        "Conv2d", graph.integers((1, size - 2, size - 2, filters), 0.02, -128), x, weights, limits=(0.0, np.inf),
        kernel_height=3, kernel_width=3, subsampling_height=1, subsampling_width=1, dilation_height=1,
        dilation_width=1, groups=1, group_input_channels=3, group_output_channels=filters,
    )  # fmt: skip
    x = graph.node("GlobalAvgPooling2d", graph.integers((1, 1, 1, filters), 0.02, -128), x, flags=0x40)
    x = graph.node("StaticReshape", graph.integers((1, filters), 0.02, -128), x, num_dims=2, new_shape=[1, filters])
    graph.node("Convert", graph.reals(1, filters, flags=OUTPUT), x)
    return graph.write(file)


def _aligned(size: int) -> int:
    return size + -size % ALIGNED


def _blob(graph: Graph) -> bytes:
    from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as xnn
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import serialize_xnnpack_binary

    constants, offsets = bytearray(), [xnn.ConstantDataOffset(0, 0, None)]
    values = []
    for number, tensor in enumerate(graph.tensors):
        values.append(_value(tensor, number, len(offsets) if tensor.values is not None else 0))
        if tensor.values is not None:
            raw = tensor.values.tobytes()
            offsets.append(xnn.ConstantDataOffset(len(constants), len(raw), None))
            constants += raw + bytes(_aligned(len(raw)) - len(raw))
    nodes = [_node(node, handle) for handle, node in enumerate(graph.nodes)]
    ends = [[n for n, tensor in enumerate(graph.tensors) if tensor.flags == flag] for flag in (INPUT, OUTPUT)]
    whole = xnn.XNNGraph("0", nodes, values, 2, *ends, offsets)
    return bytes(serialize_xnnpack_binary(whole, constants))


def _value(tensor: Tensor, number: int, constant: int) -> Any:
    from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as xnn

    per_channel = bool(np.ndim(tensor.scale))
    channels = "c" if per_channel else ""
    name = {"float32": "fp32", "float16": "fp16", "int8": f"q{channels}int8", "int32": f"q{channels}int32"}
    kind = xnn.XNNDatatype[f"xnn_datatype_{name[tensor.dtype]}"]
    place = {INPUT: 0, OUTPUT: 1}.get(tensor.flags, NOWHERE)  # among the values of the program
    shape = list(tensor.shape)
    value: Any = xnn.XNNTensorValue(kind, len(shape), shape, constant, place, tensor.flags, number)
    if per_channel:
        scales = [float(scale) for scale in tensor.scale]
        value = xnn.XNNQuantizedTensorValue(value, xnn.PerChannelQuant(scales, tensor.axis, 0, 0))
    elif tensor.scale is not None:
        value = xnn.XNNQuantizedTensorValue(value, xnn.PerTensorQuant(float(tensor.scale), tensor.zero_point))
    return xnn.XValue(value)


def _node(node: Node, handle: int) -> Any:
    from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as xnn

    kind = getattr(xnn, f"XNN{node.name}")
    names = [field.name for field in fields(kind)]
    operands = [name for name in names if name.endswith("_id") and name != "output_id"]
    ids = dict.fromkeys(operands, NOWHERE) | dict(zip(operands, node.inputs, strict=False))
    made = kind(**dict.fromkeys(names, 0) | ids | {"output_id": node.output} | node.settings)
    limits = node.limits and xnn.OutputMinMax(*(end if np.isfinite(end) else f"{end:+}" for end in node.limits))
    return xnn.XNode(made, handle, limits or None)
