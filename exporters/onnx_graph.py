"""Rewrites of an ONNX graph to operators that onnxruntime has integer kernels for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporters.ranges import AS_INPUT

Nodes = list[Any] | None  # what stands in for a node; None: it stays


def tidy(model: Any, symmetric: bool = False) -> None:
    """Rewrites a float ``onnx.ModelProto`` in place; what it computes on images stays, to the last bit or two.

    The mean over height and width becomes GlobalAveragePool; a shape computed from the batch becomes a constant;
    batch normalisation that follows no convolution, subtraction, division and hard sigmoid become multiplications and
    additions; ``Min(Relu(x), c)`` becomes Clip. A ReLU that can't be folded into the operator before it becomes a leaky
    one of slope 0; with ``symmetric`` activations none can, since their zero is not the least integer, and a clip to
    [0, c] becomes one too: the calibrated range saturates at c or below. Notes of the exporter (stack traces, paths)
    are dropped.
    """
    graph = model.graph
    rules = {
        "ReduceMean": _pool, "Reshape": _reshape, "Flatten": _reshape, "BatchNormalization": _batch_norm,
        "Sub": _subtraction, "Div": _division, "HardSigmoid": _hard_sigmoid, "Min": _clip,
    }  # fmt: skip
    for node in list(graph.node):
        if node.op_type in rules:
            _replace(graph, node, rules[node.op_type](graph, node))
    producers = _producers(graph)
    uses = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        if node.op_type in ("Relu", "Clip"):
            before = node.input[0]
            folds = not symmetric and uses[before] == 1 and before in producers
            folds = folds and producers[before].op_type not in AS_INPUT
            if not folds and (node.op_type == "Relu" or _constant(graph, node.input[1]) == 0):
                _replace(graph, node, [helper.make_node("LeakyRelu", [before], node.output, node.name, alpha=0.0)])
    _prune(graph)
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")


def pad_integers(model: Any) -> None:
    """Lets zero-padding in a QDQ model act on the integers: onnxruntime would dequantize, pad and quantize again."""
    graph = model.graph
    producers = _producers(graph)
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        before = producers.get(pad.input[0])
        after = [node for node in graph.node if pad.output[0] in node.input]
        if before is None or [before.op_type, *(n.op_type for n in after)] != ["DequantizeLinear", "QuantizeLinear"]:
            continue
        (quantize,) = after
        value = _constant(graph, pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
        if list(before.input[1:]) == list(quantize.input[1:]) and value is not None and not np.any(value):
            inputs = [before.input[0], pad.input[1], before.input[2], *pad.input[3:]]
            padded = helper.make_node("Pad", inputs, quantize.output, pad.name)
            padded.attribute.extend(pad.attribute)
            _replace(graph, pad, [padded])
            _replace(graph, quantize, [])
    _prune(graph)


def _pool(graph: Any, node: Any) -> Nodes:
    shape, settings = _shape(graph, node.input[0]), _attributes(node)
    axes = settings.get("axes") if len(node.input) < 2 else _constant(graph, node.input[1])
    if len(shape) != 4 or axes is None or {int(a) % 4 for a in np.atleast_1d(axes)} != {2, 3}:
        return None
    if settings.get("keepdims", 1):
        return [helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name)]
    pooled = _declare(graph, f"{node.output[0]}_pooled", [*shape[:2], 1, 1])
    flat = _store(graph, f"{pooled}_shape", np.array([-1, shape[1]], np.int64))
    return [
        helper.make_node("GlobalAveragePool", node.input[:1], [pooled], node.name),
        helper.make_node("Reshape", [pooled, flat], node.output, f"{pooled}_flatten"),
    ]


def _reshape(graph: Any, node: Any) -> Nodes:
    shape = _shape(graph, node.output[0])
    fixed = node.op_type == "Reshape" and _constant(graph, node.input[1]) is not None
    if fixed or sum(isinstance(n, str) for n in shape) != 1:
        return None
    wanted = np.array([-1 if isinstance(n, str) else n for n in shape], np.int64)
    name = _store(graph, f"{node.output[0]}_shape", wanted)
    return [helper.make_node("Reshape", [node.input[0], name], node.output, node.name)]


def _batch_norm(graph: Any, node: Any) -> Nodes:
    rank = len(_shape(graph, node.input[0]))
    parameters = [_constant(graph, name) for name in node.input[1:5]]
    if rank < 2 or any(p is None for p in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    scale = gamma / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))
    spread = (1, -1, *[1] * (rank - 2))
    return _affine(graph, node, scale.reshape(spread), (beta - mean * scale).reshape(spread))


def _subtraction(graph: Any, node: Any) -> Nodes:
    constant = _constant(graph, node.input[1])
    if constant is None:
        return None
    name = _store(graph, f"{node.output[0]}_term", -constant)
    return [helper.make_node("Add", [node.input[0], name], node.output, node.name)]


def _division(graph: Any, node: Any) -> Nodes:
    constant = _constant(graph, node.input[1])
    if constant is None or constant.dtype != np.float32 or not np.all(constant):
        return None
    name = _store(graph, f"{node.output[0]}_factor", (1 / constant.astype(np.float64)).astype(np.float32))
    return [helper.make_node("Mul", [node.input[0], name], node.output, node.name)]


def _hard_sigmoid(graph: Any, node: Any) -> Nodes:
    settings = _attributes(node)
    line = _declare(graph, f"{node.output[0]}_line", _shape(graph, node.input[0]))
    ends = [_store(graph, f"{line}_{end}", np.array(end, np.float32)) for end in (0, 1)]
    slope, offset = np.array(settings.get("alpha", 0.2)), np.array(settings.get("beta", 0.5))
    clip = helper.make_node("Clip", [line, *ends], node.output, f"{line}_clip")
    return [*_affine(graph, node, slope, offset, line), clip]


def _clip(graph: Any, node: Any) -> Nodes:
    producers = _producers(graph)
    for relu, limit in (node.input, reversed(node.input)) if len(node.input) == 2 else ():
        ceiling, before = _constant(graph, limit), producers.get(relu)
        if before is not None and before.op_type == "Relu" and ceiling is not None and ceiling.size == 1:
            ends = {"floor": np.zeros((), np.float32), "ceiling": ceiling.reshape(())}
            names = [_store(graph, f"{node.output[0]}_{end}", value) for end, value in ends.items()]
            return [helper.make_node("Clip", [before.input[0], *names], node.output, node.name)]
    return None


def _affine(graph: Any, node: Any, scale: NDArray[Any], shift: NDArray[Any], output: str | None = None) -> list[Any]:
    """``x * scale + shift`` in the place of a node."""
    output = output or node.output[0]
    scaled = _declare(graph, f"{output}_scaled", _shape(graph, node.input[0]))
    factor = _store(graph, f"{output}_factor", scale.astype(np.float32))
    term = _store(graph, f"{output}_term", shift.astype(np.float32))
    return [
        helper.make_node("Mul", [node.input[0], factor], [scaled], f"{output}_scaling"),
        helper.make_node("Add", [scaled, term], [output], f"{output}_shifting"),
    ]


def _attributes(node: Any) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _producers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


def _shape(graph: Any, name: str) -> list[int | str]:
    """Dimensions of a tensor, names where dynamic; empty where unknown."""
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == name:
            return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim]
    return []


def _constant(graph: Any, name: str) -> NDArray[Any] | None:
    return next((numpy_helper.to_array(c) for c in graph.initializer if c.name == name), None)


def _store(graph: Any, name: str, values: NDArray[Any]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _declare(graph: Any, name: str, shape: list[Any]) -> str:
    graph.value_info.append(helper.make_tensor_value_info(name, 1, shape))
    return name


def _replace(graph: Any, node: Any, others: Nodes) -> None:
    if others is None:
        return
    place = next(i for i, n in enumerate(graph.node) if n == node)
    del graph.node[place]
    for other in reversed(others):
        graph.node.insert(place, other)


def _prune(graph: Any) -> None:
    """Drops what leads to no output."""
    wanted = {value.name for value in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if wanted & set(node.output):
            wanted |= set(node.input)
        else:
            del graph.node[place]
    known = wanted | {name for node in graph.node for name in node.output}
    for values in (graph.initializer, graph.value_info):
        for place in reversed(range(len(values))):
            if values[place].name not in known:
                del values[place]
