"""Rewrite an ONNX graph, by onnxscript's rewriter, to operators that onnxruntime has integer kernels for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass, ShapeInferencePass
from onnxscript.rewriter import RewritePass, RewriterContext, RewriteRule

from exporters.ranges import AS_INPUT


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a float model; what it computes on images stays the same, to the last bit or two.

    A mean over all axes but the images' and one other becomes GlobalAveragePool; a constant that is expanded to all
    images and joined to them, such as a class token, is added to their padding; a shape computed from the batch, and a
    slice's end that is the size of what it cuts, become constants; batch normalisation that follows no convolution,
    subtraction, division and hard sigmoid become multiplications and additions; ``Min(Relu(x), c)`` becomes Clip. The
    exporter's stack traces are dropped.
    """
    rules = RewritePass([RewriteRule(pattern, rewrite, remove_nodes=False) for pattern, rewrite in ARITHMETIC])
    return _apply(model, rules, RemoveUnusedNodesPass(), ShapeInferencePass(), ClearMetadataAndDocStringPass())


def leaky(model: onnx.ModelProto, symmetric: bool) -> onnx.ModelProto:
    """Replace ReLUs that cannot be folded into the operator before them by leaky ones of slope 0, ready to quantize.

    With ``symmetric`` activations none can, since their zero is not the least integer. A clip to [0, c] becomes one
    too: the range of its output, which calibration must read from `model` itself, saturates at c or below.
    """
    return _apply(model, RewritePass(_leaky_rules(symmetric)), RemoveUnusedNodesPass(), ClearMetadataAndDocStringPass())


def pad_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let zero-padding in a QDQ model act on the integers: onnxruntime would dequantize, pad and quantize again."""
    rules = RewritePass([RewriteRule(_padding, _pad_integers, remove_nodes=False)])
    return _apply(model, rules, RemoveUnusedNodesPass())


def _apply(model: onnx.ModelProto, *passes: ir.passes.InPlacePass) -> onnx.ModelProto:
    return ir.to_proto(ir.passes.Sequential(*passes)(ir.from_proto(model)).model)


def _pool(op: RewriterContext, x: ir.Value, y: ir.Value) -> Any:
    node = _producer(y)
    axes = _constant(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes")
    if x.shape is None or axes is None or len(x.shape) < 3:
        return None
    rank = len(x.shape)
    reduced = sorted(int(a) % rank for a in np.atleast_1d(axes))
    kept = [axis for axis in range(1, rank) if axis not in reduced]
    keeps = bool(node.attributes.get_int("keepdims", True))
    if 0 in reduced or len(kept) != 1:
        return None
    if kept == [1] and keeps:
        return op.GlobalAveragePool(x)
    sizes = _sizes(x)
    turned = x if kept == [1] else op.Transpose(x, perm=[0, *kept, *reduced], _outputs=[f"{y.name}_turned"])
    pooled = op.GlobalAveragePool(turned, _outputs=[f"{y.name}_pooled"])
    shape = [-1, *(sizes[axis] if axis in kept else 1 for axis in range(1, rank) if keeps or axis in kept)]
    return op.Reshape(pooled, _store(op, f"{pooled.name}_shape", np.array(shape, np.int64)))


def _sizes(x: ir.Value) -> list[int]:
    """Return the lengths of a value's axes, -1 where one is free."""
    return [n if isinstance(n, int) else -1 for n in x.shape or ()]


def _to_the_end(op: RewriterContext, y: ir.Value, **_: ir.Value) -> Any:
    """Rewrite ``x[start:x.numel()]``, of which torch's exporter makes a roll."""
    data, starts, _end, *rest = _producer(y).inputs
    return op.Slice(data, starts, _store(op, f"{y.name}_end", np.array([np.iinfo(np.int64).max])), *rest)


def _token(op: RewriterContext, token: ir.Value, x: ir.Value, y: ir.Value) -> Any:
    values, axis, sizes = _constant(token), _producer(y).attributes.get_int("axis", 0), _sizes(x)
    if values is None or values.ndim != len(sizes) or len(values) != 1 or min(sizes[1:], default=0) < 1:
        return None
    rank, axis = values.ndim, axis % values.ndim
    if axis == 0:
        return None
    width = values.shape[axis]
    before = [width if i == axis else 0 for i in range(rank)]
    pads = _store(op, f"{y.name}_pads", np.array([*before, *[0] * rank], np.int64))
    after = [(0, sizes[axis]) if i == axis else (0, 0) for i in range(rank)]
    padded = op.Pad(x, pads, _outputs=[f"{y.name}_padded"])
    return op.Add(padded, _store(op, f"{y.name}_token", np.pad(values, after)))


def _reshape(op: RewriterContext, x: ir.Value, y: ir.Value) -> Any:
    node = _producer(y)
    is_fixed = node.op_type == "Reshape" and _constant(node.inputs[1]) is not None
    if is_fixed or y.shape is None or sum(not isinstance(n, int) for n in y.shape) != 1:
        return None
    shape = np.array([n if isinstance(n, int) else -1 for n in y.shape], np.int64)
    return op.Reshape(x, _store(op, f"{y.name}_shape", shape))


def _batch_norm(op: RewriterContext, x: ir.Value, y: ir.Value, **statistics: ir.Value) -> Any:
    parameters = {name: _constant(value) for name, value in statistics.items()}
    if x.shape is None or len(x.shape) < 2 or any(p is None for p in parameters.values()):
        return None
    gamma, beta, mean, variance = (np.asarray(parameters[name], np.float64) for name in STATISTICS)
    scale = gamma / np.sqrt(variance + _producer(y).attributes.get_float("epsilon", 1e-5))
    per_channel = (1, -1, *[1] * (len(x.shape) - 2))
    return _affine(op, x, y.name, scale.reshape(per_channel), (beta - mean * scale).reshape(per_channel))


def _subtraction(op: RewriterContext, x: ir.Value, c: ir.Value, y: ir.Value) -> Any:
    constant = _constant(c)
    return None if constant is None else op.Add(x, _store(op, f"{y.name}_term", -constant))


def _division(op: RewriterContext, x: ir.Value, c: ir.Value, y: ir.Value) -> Any:
    constant = _constant(c)
    if constant is None or constant.dtype != np.float32 or not np.all(constant):
        return None
    factor = (1 / constant.astype(np.float64)).astype(np.float32)
    return op.Mul(x, _store(op, f"{y.name}_factor", factor))


def _hard_sigmoid(op: RewriterContext, x: ir.Value, y: ir.Value) -> Any:
    settings = _producer(y).attributes
    slope, offset = np.array(settings.get_float("alpha", 0.2)), np.array(settings.get_float("beta", 0.5))
    line = _affine(op, x, f"{y.name}_line", slope, offset)
    line.name = f"{y.name}_line"
    return op.Clip(line, *(_store(op, f"{line.name}_{end}", np.array(end, np.float32)) for end in (0, 1)))


def _clip(op: RewriterContext, x: ir.Value, c: ir.Value, y: ir.Value) -> Any:
    ceiling = _constant(c)
    if ceiling is None or ceiling.size != 1:
        return None
    floor = _store(op, f"{y.name}_floor", np.zeros((), np.float32))
    return op.Clip(x, floor, _store(op, f"{y.name}_ceiling", ceiling.reshape(())))


def _leaky_rules(symmetric: bool) -> list[RewriteRule]:
    def folds(x: ir.Value) -> bool:
        producer = x.producer()
        return not symmetric and len(x.uses()) == 1 and producer is not None and producer.op_type not in AS_INPUT

    def relu(op: RewriterContext, x: ir.Value) -> Any:
        return None if folds(x) else op.LeakyRelu(x, alpha=0.0)

    def clip(op: RewriterContext, x: ir.Value, floor: ir.Value, ceiling: ir.Value) -> Any:
        return None if folds(x) or _constant(floor) != 0 else op.LeakyRelu(x, alpha=0.0)

    return [
        RewriteRule(lambda op, x: op.Relu(x), relu),
        RewriteRule(lambda op, x, floor, ceiling: op.Clip(x, floor, ceiling), clip),
    ]


def _padding(op: Any, integers: ir.Value, scale: ir.Value, zero_point: ir.Value) -> Any:
    real = op.DequantizeLinear(integers, scale, zero_point)
    return op.QuantizeLinear(op.Pad(real, _allow_other_inputs=True, _outputs=["padded"]), scale, zero_point)


def _pad_integers(
    op: RewriterContext, integers: ir.Value, scale: ir.Value, zero_point: ir.Value, padded: ir.Value
) -> Any:
    node = _producer(padded)
    _, pads, *optional = node.inputs
    value = _constant(optional[0]) if optional and optional[0] is not None else np.zeros(1)
    if len(padded.uses()) != 1 or value is None or np.any(value):
        return None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return op.Pad(integers, pads, zero_point, *optional[1:], **attributes)


STATISTICS = ("gamma", "beta", "mean", "variance")
ARITHMETIC = [  # what is looked for, and what replaces it; None leaves it
    (lambda op, x: op.ReduceMean(x, _allow_other_inputs=True, _outputs=["y"]), _pool),
    (lambda op, x, start, shape: op.Slice(
        x, start, op.Reshape(op.Size(x), shape), _allow_other_inputs=True, _outputs=["y"]), _to_the_end),
    (lambda op, token, x: op.Concat(op.Expand(token, _allow_other_inputs=True), x, _outputs=["y"]), _token),
    (lambda op, x: op.Reshape(x, _allow_other_inputs=True, _outputs=["y"]), _reshape),
    (lambda op, x: op.Flatten(x, _outputs=["y"]), _reshape),
    (lambda op, x, gamma, beta, mean, variance: op.BatchNormalization(
        x, gamma, beta, mean, variance, _outputs=["y"]), _batch_norm),
    (lambda op, x, c: op.Sub(x, c, _outputs=["y"]), _subtraction),
    (lambda op, x, c: op.Div(x, c, _outputs=["y"]), _division),
    (lambda op, x: op.HardSigmoid(x, _outputs=["y"]), _hard_sigmoid),
    (lambda op, x, c: op.Min(op.Relu(x), c, _outputs=["y"]), _clip),
    (lambda op, x, c: op.Min(c, op.Relu(x), _outputs=["y"]), _clip),
]  # fmt: skip


def _affine(op: RewriterContext, x: ir.Value, name: str | None, scale: NDArray[Any], shift: NDArray[Any]) -> Any:
    """``x * scale + shift``."""
    scaled = op.Mul(x, _store(op, f"{name}_factor", scale.astype(np.float32)), _outputs=[f"{name}_scaled"])
    return op.Add(scaled, _store(op, f"{name}_term", shift.astype(np.float32)))


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _constant(value: ir.Value | None) -> NDArray[Any] | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _store(op: RewriterContext, name: str, values: NDArray[Any]) -> Any:
    return op.initializer(ir.tensor(values), name=name)
