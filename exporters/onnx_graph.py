"""Exact rewrites of an ONNX graph to operators that onnxruntime has integer kernels for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from exporters.ranges import AS_INPUT


def tidy(model: Any, symmetric: bool = False) -> None:
    """Rewrites a float ``onnx.ModelProto`` in place, without changing what it computes on images.

    The means over height and width become GlobalAveragePool, shapes computed from the batch become constants, batch
    normalisation that follows no convolution becomes a multiplication and an addition. A ReLU that cannot be folded
    into the operator before it becomes a leaky one of slope 0; with ``symmetric`` activations none can, since their
    zero is not the least integer, and a clip to [0, c] becomes one too: the calibrated range saturates at c or below.
    Notes of the exporter (stack traces, paths) are dropped.
    """
    graph = model.graph
    for rewrite in (_pool_for_mean, _constant_reshape, _affine_for_batch_norm):
        for node in list(graph.node):
            rewrite(graph, node)
    producers = {name: node.op_type for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type in ("Relu", "Clip"):
            before = node.input[0]
            folds = not symmetric and uses[before] == 1 and producers.get(before, "Pad") not in AS_INPUT
            if not folds and (node.op_type == "Relu" or _constant(graph, node.input[1]) == 0):
                _replace(graph, node, helper.make_node("LeakyRelu", [before], node.output, node.name, alpha=0.0))
    _prune(graph)
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")


def pad_integers(model: Any) -> None:
    """Lets zero-padding in a QDQ model act on the integers: onnxruntime would dequantize, pad and quantize again."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
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
            _replace(graph, pad, padded)
            _replace(graph, quantize)
    _prune(graph)


def _pool_for_mean(graph: Any, node: Any) -> None:
    if node.op_type != "ReduceMean" or len(_shape(graph, node.input[0])) != 4:
        return
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = attributes.get("axes") if len(node.input) < 2 else _constant(graph, node.input[1])
    if axes is None or {int(a) % 4 for a in np.atleast_1d(axes)} != {2, 3}:
        return
    if attributes.get("keepdims", 1):
        _replace(graph, node, helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name))
        return
    pooled = f"{node.output[0]}_pooled"
    shape = _add_constant(graph, f"{pooled}_shape", np.array([-1, _shape(graph, node.input[0])[1]], np.int64))
    graph.value_info.append(helper.make_tensor_value_info(pooled, 1, [*_shape(graph, node.input[0])[:2], 1, 1]))
    _replace(
        graph,
        node,
        helper.make_node("GlobalAveragePool", node.input[:1], [pooled], node.name),
        helper.make_node("Reshape", [pooled, shape], node.output, f"{node.name}_flatten"),
    )


def _constant_reshape(graph: Any, node: Any) -> None:
    shape = _shape(graph, node.output[0]) if node.op_type in ("Reshape", "Flatten") else []
    if sum(not isinstance(n, int) for n in shape) == 1 and (
        node.op_type == "Flatten" or _constant(graph, node.input[1]) is None
    ):
        wanted = np.array([n if isinstance(n, int) else -1 for n in shape], np.int64)
        name = _add_constant(graph, f"{node.output[0]}_shape", wanted)
        _replace(graph, node, helper.make_node("Reshape", [node.input[0], name], node.output, node.name))


def _affine_for_batch_norm(graph: Any, node: Any) -> None:
    if node.op_type != "BatchNormalization":
        return
    rank = len(_shape(graph, node.input[0]))
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    parameters = [_constant(graph, name) for name in node.input[1:5]]
    if rank < 2 or any(p is None for p in parameters):
        return
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    scale = gamma / np.sqrt(variance + epsilon)
    terms = []
    for kind, values in (("scale", scale), ("shift", beta - mean * scale)):
        spread = values.astype(np.float32).reshape(1, -1, *[1] * (rank - 2))
        terms.append(_add_constant(graph, f"{node.output[0]}_{kind}", spread))
    scaled = f"{node.output[0]}_scaled"
    graph.value_info.append(helper.make_tensor_value_info(scaled, 1, _shape(graph, node.input[0])))
    _replace(
        graph,
        node,
        helper.make_node("Mul", [node.input[0], terms[0]], [scaled], f"{node.name}_scale"),
        helper.make_node("Add", [scaled, terms[1]], node.output[:1], f"{node.name}_shift"),
    )


def _shape(graph: Any, name: str) -> list[int | str]:
    """Dimensions of a tensor, names where dynamic; empty where unknown."""
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == name:
            return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim]
    return []


def _constant(graph: Any, name: str) -> Any:
    """A constant's values, or None."""
    return next((numpy_helper.to_array(c) for c in graph.initializer if c.name == name), None)


def _add_constant(graph: Any, name: str, values: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _replace(graph: Any, node: Any, *others: Any) -> None:
    place = next(i for i, n in enumerate(graph.node) if n is node or n == node)
    del graph.node[place]
    for other in reversed(others):
        graph.node.insert(place, other)


def _prune(graph: Any) -> None:
    wanted = {value.name for value in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if wanted & set(node.output):
            wanted |= set(node.input)
        else:
            del graph.node[place]
    for values in (graph.initializer, graph.value_info):
        known = wanted | {name for node in graph.node for name in node.output}
        for place in reversed(range(len(values))):
            if values[place].name not in known:
                del values[place]
