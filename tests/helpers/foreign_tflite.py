"""TFLite files as others' converters write them: one small network, with what each puts around it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as tfl
from flatbuffers import Builder

from helpers.tflite_networks import T
from helpers.twin_networks import Network

SIDE = 16
Change = Callable[[Any], None]


class Kind(NamedTuple):
    """The type of the integers, what is put before and behind the network, and what is changed in the file then."""

    dtype: str = "int8"
    before: Callable[[Network], str] = lambda net: "x"
    behind: Callable[[Network, str], str] = lambda net, last: last
    change: Change = lambda model: None
    batch: int = 1


def write(name: str, path: Path) -> Path:
    """Write the network: a convolution, one depthwise, pooling, a sum, a dense layer."""
    kind = KINDS[name]
    net = Network(kind.dtype, 4)
    net.tensors["x"] = T((1, SIDE, SIDE, 3), kind.dtype, (1 / 255,), (net.lowest,))
    stem = net.conv(kind.before(net), channels=8, side=SIDE // 2, strideH=2, strideW=2, fusedActivationFunction=1)
    given = {"strideH": 1, "strideW": 1, "padding": 0, "dilationHFactor": 1, "dilationWFactor": 1}
    size = (1, SIDE // 2, SIDE // 2, 8)
    deep = net.weighted(
        "DEPTHWISE_CONV_2D", stem, (1, 3, 3, 8), 3, 8, size, "DepthwiseConv2D", depthMultiplier=1,
        fusedActivationFunction=3, **given,
    )  # fmt: skip
    scale = float(np.float32(net.tensors[stem].scale[0] + net.tensors[deep].scale[0]))
    both = net.add("ADD", (stem, deep), net.activation(size, scale), "Add")
    pool = net.add(
        "AVERAGE_POOL_2D", (both,), net.like(both, 1, 2, 2, 8), "Pool2D", padding=1, strideH=4, strideW=4,
        filterHeight=4, filterWidth=4,
    )  # fmt: skip
    flat = net.moved("RESHAPE", pool, (1, 32), (-1, 32), options="Reshape")
    last = net.weighted("FULLY_CONNECTED", flat, (10, 32), 0, 10, (1, 10), "FullyConnected")
    made = net.write(path.parent, kind.behind(net, last), any_batch=False).rename(path)
    model = tfl.ModelT.InitFromPackedBuf(made.read_bytes(), 0)
    for tensor in model.subgraphs[0].tensors:
        if kind.batch > 1 and tensor.buffer == 0:
            tensor.shape = tensor.shapeSignature = [kind.batch, *tensor.shape[1:]]
    kind.change(model)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


def _entry(dtype: str) -> Callable[[Network], str]:
    def before(net: Network) -> str:
        inner = net.tensors["x"]
        affine = ((1 / 255,), (0,)) if dtype == "uint8" else ()
        net.tensors["x"] = T(inner.shape, dtype, *affine)
        return net.add("QUANTIZE", ("x",), net.activation(inner.shape, inner.scale[0], inner.zero_point[0]), "Quantize")

    return before


def _turned(net: Network) -> str:
    spec = net.tensors["x"]
    net.tensors["x"] = spec._replace(shape=(1, 3, SIDE, SIDE))
    return net.moved("TRANSPOSE", "x", spec.shape, (0, 2, 3, 1), options="Transpose")


def _exit(name: str, dtype: str) -> Callable[[Network, str], str]:
    def behind(net: Network, last: str) -> str:
        spec = net.tensors[last]
        other = (
            T(spec.shape, dtype, spec.scale, (spec.zero_point[0] + 128,)) if dtype == "uint8" else T(spec.shape, dtype)
        )
        net.tensors["end"] = other
        return net.add(name, (last,), "end", name.title())

    return behind


def _softmax(net: Network, last: str) -> str:
    return net.add("SOFTMAX", (last,), net.activation((1, 10), 1 / 256, net.lowest), "Softmax", beta=1.0)


def _signatures(model: Any) -> None:
    """Two names for one graph."""
    graph = model.subgraphs[0]
    model.signatureDefs = []
    for key in ("serving_default", "classify"):
        made = tfl.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key.encode(), 0
        for role, indices in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            tensor = tfl.TensorMapT()
            tensor.name, tensor.tensorIndex = role.encode(), int(indices[0])
            setattr(made, role, [tensor])
        model.signatureDefs.append(made)


def _metadata(model: Any) -> None:
    buffer, entry = tfl.BufferT(), tfl.MetadataT()
    buffer.data = np.frombuffer(b"M001 labels and so on", np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [entry]


def _unnamed(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None


def _of_types(**types: str) -> Change:
    """Give tensors other types, and their constants' bytes the new ones: ``int32="int64"``."""

    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            is_constant = tensor.buffer != 0
            for before, after in types.items():
                key, _, only = before.partition("_")
                if tensor.type != getattr(tfl.TensorType, key.upper()) or (only and is_constant):
                    continue
                tensor.type = getattr(tfl.TensorType, after.upper())
                if is_constant:
                    buffer = model.buffers[tensor.buffer]
                    buffer.data = np.frombuffer(np.asarray(buffer.data).tobytes(), key).astype(after).view(np.uint8)
                elif after == "int16":
                    tensor.quantization.zeroPoint = [0]
                else:
                    tensor.quantization = None
                break

    return change


def _int16(model: Any) -> None:
    _of_types(int8_activation="int16")(model)
    for operator in model.subgraphs[0].operators:
        if len(operator.inputs) == 3:
            bias = model.subgraphs[0].tensors[operator.inputs[2]]
            buffer = model.buffers[bias.buffer]
            bias.type = tfl.TensorType.INT64
            buffer.data = np.frombuffer(np.asarray(buffer.data).tobytes(), "int32").astype("int64").view(np.uint8)


def _hybrid(model: Any) -> None:
    """Weights in int8, everything else in float, as dynamic-range quantization leaves it."""
    _of_types(int8_activation="float32")(model)
    for operator in model.subgraphs[0].operators:
        if len(operator.inputs) == 3:
            bias = model.subgraphs[0].tensors[operator.inputs[2]]
            buffer = model.buffers[bias.buffer]
            scale = np.array(bias.quantization.scale, np.float32)
            whole = np.frombuffer(np.asarray(buffer.data).tobytes(), "int32")
            bias.type, bias.quantization = tfl.TensorType.FLOAT32, None
            buffer.data = (whole * scale).astype(np.float32).view(np.uint8)


KINDS = {
    "int8": Kind(),
    "int8, softmax": Kind(behind=_softmax),
    "int8, uint8 in and out": Kind(before=_entry("uint8"), behind=_exit("QUANTIZE", "uint8")),
    "int8, float in and out": Kind(before=_entry("float32"), behind=_exit("DEQUANTIZE", "float32")),
    "int8, NCHW with a transpose": Kind(before=_turned),
    "int8, batch of 4": Kind(batch=4),
    "int8, two signatures": Kind(change=_signatures),
    "int8, metadata": Kind(change=_metadata),
    "int8, unnamed tensors": Kind(change=_unnamed),
    "uint8, legacy": Kind(dtype="uint8"),
    "int16x8": Kind(change=_int16),
    "dynamic range": Kind(change=_hybrid),
}
