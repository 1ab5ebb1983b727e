"""Real files of a few hundred bytes: an ONNX network, a TFLite one, and a bundle around either."""

from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from flatbuffers import Builder
from onnx import TensorProto, helper, numpy_helper

from backends.conformance.networks import CLASSES, SIZE, W, X, Y, artifact, constants, dense_constants
from backends.device.bundle import Bundle, Stamps, write_bundle

N = 6


def onnx_file(path: Path, batch: int | str = "n", integer_output: bool = False) -> Path:
    """Convolution, ReLU, global average, dense; with an integer output its logits are quantized at the end."""
    values = {**constants(), "scale": np.float32(0.05), "zero": np.int8(3)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    output, dtype = "y", TensorProto.FLOAT
    if integer_output:
        nodes.append(helper.make_node("QuantizeLinear", ["y", "scale", "zero"], ["q"]))
        output, dtype = "q", TensorProto.INT8
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(output, dtype, [batch, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def qdq_file(path: Path) -> Path:
    """The dense layer of the TFLite network between quantizers, from ``(n, 3, 8, 8)`` in float to float."""
    weights, bias = dense_constants()
    (sx, zx), (sw, _), (sy, zy) = X, W, Y
    values = {
        "sx": np.float32(sx), "zx": np.int8(zx), "sw": np.float32(sw), "zw": np.int8(0), "sy": np.float32(sy),
        "zy": np.int8(zy), "sb": np.float32(sx) * np.float32(sw), "zb": np.int32(0), "w": weights, "b": bias,
    }  # fmt: skip
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        make("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        make("Flatten", ["xd"], ["f"]),
        make("QuantizeLinear", ["f", "sx", "zx"], ["fq"]),
        make("DequantizeLinear", ["fq", "sx", "zx"], ["fd"]),
        make("DequantizeLinear", ["w", "sw", "zw"], ["wd"]),
        make("DequantizeLinear", ["b", "sb", "zb"], ["bd"]),
        make("Gemm", ["fd", "wd", "bd"], ["g"], transB=1),
        make("QuantizeLinear", ["g", "sy", "zy"], ["gq"]),
        make("DequantizeLinear", ["gq", "sy", "zy"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def tflite_file(path: Path, free_batch: bool = True) -> Path:
    """One dense layer in int8, from ``(n, 8, 8, 3)`` to four classes, with the scales above."""
    weights, bias = dense_constants()
    image, (sx, zx), (sw, zw), (sy, zy) = [1, SIZE, SIZE, 3], X, W, Y

    def tensor(name, shape, dtype, buffer, scale, zero, signature=None):
        t = tfl.TensorT()
        t.name, t.shape, t.type, t.buffer, t.shapeSignature = name.encode(), shape, dtype, buffer, signature
        t.quantization = tfl.QuantizationParametersT()
        t.quantization.scale, t.quantization.zeroPoint = [scale], [zero]
        return t

    def buffer(array=None):
        b = tfl.BufferT()
        b.data = None if array is None else np.frombuffer(array.tobytes(), np.uint8)
        return b

    n = -1 if free_batch else 1
    int8, int32 = tfl.TensorType.INT8, tfl.TensorType.INT32
    graph, op, code, model = tfl.SubGraphT(), tfl.OperatorT(), tfl.OperatorCodeT(), tfl.ModelT()
    graph.tensors = [
        tensor("x", image, int8, 0, sx, zx, [n, *image[1:]]),
        tensor("w", list(weights.shape), int8, 1, sw, zw),
        tensor("b", [CLASSES], int32, 2, sx * sw, 0),
        tensor("y", [1, CLASSES], int8, 0, sy, zy, [n, CLASSES]),
    ]
    op.inputs, op.outputs, op.opcodeIndex = [0, 1, 2], [3], 0
    op.builtinOptionsType, op.builtinOptions = tfl.BuiltinOptions.FullyConnectedOptions, tfl.FullyConnectedOptionsT()
    graph.inputs, graph.outputs, graph.operators = [0], [3], [op]
    code.builtinCode = code.deprecatedBuiltinCode = tfl.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(), buffer(weights), buffer(bias)]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


def pixels(n: int = N) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


def stamps(n: int = N, p: int = 3, each: bool = True) -> Stamps:
    """Random stamps with holes at random places; the same one for all images unless `each` has its own."""
    rng, k = np.random.default_rng(3), n if each else 1
    corners = rng.integers(0, SIZE - p + 1, (n, 2)).astype(np.int32)
    return Stamps(rng.integers(0, 256, (k, p, p, 3), np.uint8), rng.random((k, p, p)) < 0.8, corners)


def bundle(root: Path, file: Path, n: int = N) -> Bundle:
    """Three cases: clean, a stamp of its own on each image, one stamp for all."""
    cases = {"none": None, "each": stamps(n), "same": stamps(n, p=2, each=False)}
    return write_bundle(root, artifact(file), file, pixels(n), cases)


def pasted_slowly(images: np.ndarray, what: Stamps | None) -> np.ndarray:
    """Pasting, one pixel at a time."""
    images = images.copy()
    for i in range(len(images) if what else 0):
        stamp, mask = what.stamps[i % len(what.stamps)], what.mask[i % len(what.mask)]
        row, column = what.corners[i]
        for r, c in np.argwhere(mask):
            images[i, row + r, column + c] = stamp[r, c]
    return images
