"""Describe a torch network as the graph of operators that an exporter would see (`exporters.files`)."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from backends.device.errors import UserError
from exporters.files.description import Description, Operator, Tensor

MODULES: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv", nn.Linear: "Gemm", nn.ReLU: "Relu", nn.ReLU6: "Clip", nn.Hardtanh: "Clip",
    nn.MaxPool2d: "MaxPool", nn.AvgPool2d: "AveragePool", nn.AdaptiveAvgPool2d: "GlobalAveragePool",
    nn.Dropout: "Reshape", nn.Dropout2d: "Reshape", nn.Identity: "Reshape", nn.Flatten: "Flatten",
    nn.Sigmoid: "Sigmoid", nn.Tanh: "Tanh", nn.Softmax: "Softmax",
}  # fmt: skip
FUNCTIONS: dict[Any, str] = {
    operator.add: "Add", operator.iadd: "Add", torch.add: "Add", operator.mul: "Mul", operator.imul: "Mul",
    torch.mul: "Mul", operator.getitem: "Slice", torch.cat: "Concat", torch.flatten: "Flatten", torch.relu: "Relu",
    functional.relu: "Relu", functional.relu6: "Clip", functional.hardtanh: "Clip", functional.pad: "Pad",
    functional.max_pool2d: "MaxPool", functional.avg_pool2d: "AveragePool", torch.mean: "GlobalAveragePool",
    functional.adaptive_avg_pool2d: "GlobalAveragePool", functional.dropout: "Reshape", torch.sigmoid: "Sigmoid",
}  # fmt: skip
METHODS = {
    "add": "Add", "mul": "Mul", "relu": "Relu", "flatten": "Flatten", "view": "Reshape", "reshape": "Reshape",
    "mean": "GlobalAveragePool", "contiguous": "Reshape",
}  # fmt: skip


def trace(network: nn.Module) -> GraphModule:
    """Trace a copy of a network in eval mode; one that torch.fx cannot trace is a `UserError`."""
    try:
        traced = symbolic_trace(copy.deepcopy(network).eval())
    except Exception as error:  # tracing runs the network's own code, which may throw anything
        raise UserError(f"torch.fx cannot trace this network, so it cannot be fake-quantized: {error}") from error
    called = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for name, times in called.items():
        if times > 1 and next(traced.get_submodule(name).parameters(), None) is not None:
            raise UserError(
                f"layer {name!r} is called {times} times; a fake-quantized network needs one layer per call"
            )
    return traced


def fold(traced: GraphModule) -> GraphModule:
    """Return a frozen copy with batch normalisation folded into the convolutions; other nodes keep their names."""
    folded: Any = fuse(copy.deepcopy(traced), no_trace=True)
    return folded.eval().requires_grad_(False)  # type: ignore[no-any-return]


def describe(graph: GraphModule) -> Description:
    """Describe the graph's operators and tensors, named as its nodes; an unknown operator is a `UserError`."""
    tensors: dict[Node, Tensor] = {}
    operators: list[Operator] = []
    outputs: tuple[Tensor, ...] = ()
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            tensors[node] = Tensor(node.name, "float32")
        elif node.op == "get_attr":
            tensors[node] = _constant(node.name, attribute(graph, str(node.target)))
        elif node.op == "output":
            outputs = tuple(tensors[n] for n in node.all_input_nodes)
        elif inputs := [tensors[n] for n in node.all_input_nodes if n in tensors]:
            if node.op == "call_method" and node.target in ("size", "dim"):
                continue  # a number
            tensors[node] = Tensor(node.name, "float32")
            name = _name(graph, node)
            inputs += _weights(graph, node) if name in ("Conv", "Gemm") else []
            shape = {"transB": 1} if name == "Gemm" else {}  # torch keeps output channels first
            operators.append(Operator(len(operators), name, tuple(inputs), (tensors[node],), True, shape))
    placed = tuple(t for n, t in tensors.items() if n.op == "placeholder")
    return Description(Path(), "onnx", tuple(operators), tuple(operators), placed, outputs)


def layers(graph: GraphModule) -> dict[str, nn.Module]:
    """Return the convolutions and fully-connected layers by the name of their weight tensor in `describe`."""
    nodes = [n for n in graph.graph.nodes if n.op == "call_module"]
    modules = {f"{n.target}.weight": graph.get_submodule(str(n.target)) for n in nodes}
    return {name: module for name, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)}


def insert(graph: GraphModule, after: Mapping[str, nn.Module]) -> GraphModule:
    """Insert a module after each named node; all users of the node take the module's output instead."""
    for node in list(graph.graph.nodes):
        if node.name in after:
            name = f"{node.name}_quantizer"
            graph.add_submodule(name, after[node.name])
            users = list(node.users)
            with graph.graph.inserting_after(node):
                quantized = graph.graph.call_module(name, (node,))
            for user in users:
                user.replace_input_with(node, quantized)
    graph.recompile()
    return graph


def _name(graph: GraphModule, node: Node) -> str:
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        name = MODULES.get(type(module))
        called = type(module).__name__
    elif node.op == "call_method":
        called = str(node.target)
        name = METHODS.get(called)
    else:
        name = FUNCTIONS.get(node.target)
        called = getattr(node.target, "__name__", str(node.target))
    if name is None:
        supported = sorted({*MODULES.values(), *FUNCTIONS.values()})
        raise UserError(f"operator {called} ({node.name}) cannot be fake-quantized; supported: {', '.join(supported)}")
    return name


def _weights(graph: GraphModule, node: Node) -> list[Tensor]:
    layer = graph.get_submodule(str(node.target))
    tensors = [_constant(f"{node.target}.weight", layer.weight)]
    return tensors if layer.bias is None else [*tensors, _constant(f"{node.target}.bias", layer.bias)]


def _constant(name: str, values: Any) -> Tensor:
    array = values.detach().cpu().numpy()
    return Tensor(name, str(array.dtype), tuple(array.shape), values=np.ascontiguousarray(array))


def attribute(graph: GraphModule, path: str) -> Any:
    """Return the buffer or parameter at a dotted path."""
    parent, _, name = path.rpartition(".")
    return getattr(graph.get_submodule(parent), name)
