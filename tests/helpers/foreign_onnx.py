"""ONNX files as others' quantizers write them: a small network of common operators, through onnxruntime's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CHANNELS = 8
S8, U8 = QuantType.QInt8, QuantType.QUInt8


class Kind(NamedTuple):
    """How a file is quantized: by what settings, of which opset, and what is changed in it then."""

    activations: QuantType = U8
    weights: QuantType = S8
    settings: Mapping[str, Any] = MappingProxyType({})
    opset: int = 17
    change: Callable[[onnx.ModelProto], None] | None = None
    batch: int | str = "n"
    head: str = "Gemm"
    clip: bool = False
    unfolded: bool = False


def float_model(kind: Kind, size: int) -> onnx.ModelProto:
    """A residual block of convolutions, one depthwise, between pooling and a dense layer, of random weights."""
    random, constants, nodes = np.random.default_rng(3), [], []

    def constant(*shape: int) -> str:
        scale = (2 / max(1, np.prod(shape[1:]))) ** 0.5
        constants.append(
            numpy_helper.from_array(random.normal(0, scale, shape).astype(np.float32), f"c{len(constants)}")
        )
        return constants[-1].name

    def node(name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(name, list(inputs), [f"t{len(nodes)}"], f"n{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    def conv(x: str, inputs: int, outputs: int, k: int, group: int = 1, **attributes: Any) -> str:
        weights = constant(outputs, inputs // group, k, k), constant(outputs)
        return node("Conv", x, *weights, group=group, kernel_shape=[k, k], pads=[k // 2] * 4, **attributes)

    def active(x: str) -> str:
        if not kind.clip:
            return node("Relu", x)
        ends = [numpy_helper.from_array(np.float32(v), f"end{len(constants) + v}") for v in (0, 6)]
        constants.extend(ends)
        return node("Clip", x, *(end.name for end in ends))

    def normalised(x: str) -> str:
        parts = [np.abs(random.normal(1, 0.1, CHANNELS)).astype(np.float32) for _ in range(4)]
        names = [f"bn{len(constants)}_{i}" for i in range(4)]
        constants.extend(numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=True))
        return node("BatchNormalization", x, *names)

    stem = conv("x", 3, CHANNELS, 3, strides=[2, 2])
    stem = node("MaxPool", active(normalised(stem) if kind.unfolded else stem), kernel_shape=[2, 2], strides=[2, 2])
    deep = active(conv(stem, CHANNELS, CHANNELS, 3, CHANNELS))
    both = node("Add", conv(deep, CHANNELS, CHANNELS, 1), stem)
    joined = node("Concat", active(both), deep, axis=1)
    flat = node("Flatten", node("GlobalAveragePool", joined))
    last = constant(2 * CHANNELS, 10)
    logits = node(kind.head, flat, last, *([constant(10)] if kind.head == "Gemm" else []))
    ends = [("x", [kind.batch, 3, size, size]), (logits, [kind.batch, 10])]
    entry, end = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, "net", [entry], [end], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", kind.opset)], ir_version=9)


class Images(CalibrationDataReader):
    """Images ``(n, 3, h, w)`` one by one."""

    def __init__(self, images: np.ndarray, batch: int | str) -> None:
        size = batch if isinstance(batch, int) else 1
        self.batches = iter([{"x": images[i : i + size]} for i in range(0, len(images) - size + 1, size)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def write(name: str, path: Path, images: np.ndarray) -> Path:
    """Quantize the network for float images ``(n, 3, h, w)``."""
    kind = KINDS[name]
    before = path.with_name(f"{path.stem}-float.onnx")
    onnx.save(float_model(kind, images.shape[-1]), before)
    settings = {"quant_format": QuantFormat.QDQ} | dict(kind.settings)
    quantize_static(
        before, path, Images(images, kind.batch), activation_type=kind.activations, weight_type=kind.weights, **settings
    )
    before.unlink()
    if kind.change:
        model = onnx.load(path)
        kind.change(model)
        onnx.save(model, path)
    return path


def without_zero_points(model: onnx.ModelProto) -> None:
    """Leave out zero points of 0, as exporters do that know symmetric integers alone; the type is then the input's."""
    values = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and not values[node.input[2]].any():
            del node.input[2]


def with_transpose(model: onnx.ModelProto) -> None:
    """Let the file take NHWC images, and turn them first."""
    entry = model.graph.input[0]
    dims = entry.type.tensor_type.shape.dim
    sides = [dims[i].dim_value for i in (2, 3, 1)]
    for dim, side in zip(list(dims)[1:], sides, strict=True):
        dim.dim_value = side
    for node in model.graph.node:
        node.input[:] = ["turned" if name == "x" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["turned"], "turn", perm=[0, 3, 1, 2]))


CHANNELWISE = {"per_channel": True}
SYMMETRIC = {"extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True}}
QOPERATOR = {"quant_format": QuantFormat.QOperator}
KINDS = {
    "QDQ U8S8": Kind(settings=CHANNELWISE),
    "QDQ U8U8": Kind(weights=U8),
    "QDQ S8S8": Kind(S8, settings=CHANNELWISE),
    "QDQ S8S8, per tensor, symmetric": Kind(S8, settings=SYMMETRIC),
    "QDQ without zero points of 0": Kind(S8, settings=CHANNELWISE, change=without_zero_points, head="MatMul"),
    "QDQ S8S8, symmetric, without zero points": Kind(S8, settings=SYMMETRIC, change=without_zero_points, head="MatMul"),
    "QDQ with a float bias": Kind(settings={"extra_options": {"QuantizeBias": False}}),
    "QDQ with Clip": Kind(clip=True),
    "QDQ S8S8 with Clip, symmetric": Kind(S8, settings=SYMMETRIC, clip=True),
    "QDQ with Clip, pairs dedicated": Kind(clip=True, settings={"extra_options": {"DedicatedQDQPair": True}}),
    "QDQ, batch normalization unfolded": Kind(unfolded=True),
    "QDQ, batch of 4": Kind(batch=4),
    "QDQ, batch of 1": Kind(batch=1),
    "QDQ of NHWC images": Kind(change=with_transpose),
    "QDQ with MatMul": Kind(head="MatMul"),
    "QDQ, 16-bit activations": Kind(QuantType.QUInt16, opset=21),
    "QDQ, int4 weights": Kind(weights=QuantType.QInt4, opset=21),
    **{f"QDQ, opset {opset}": Kind(opset=opset) for opset in range(13, 22)},
    "QOperator U8S8": Kind(settings=QOPERATOR | CHANNELWISE),
    "QOperator U8U8": Kind(weights=U8, settings=QOPERATOR),
    "QOperator S8S8": Kind(S8, settings=QOPERATOR),
    "QOperator with MatMul": Kind(settings=QOPERATOR, head="MatMul"),
    "QOperator with Clip": Kind(settings=QOPERATOR, clip=True),
}  # fmt: skip
