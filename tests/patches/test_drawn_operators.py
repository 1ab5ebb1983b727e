"""Operators drawn at random, one to a file, whose integers are compared with the kernels' own."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_networks import Network as OnnxNetwork
from helpers.twin_networks import KERNELS, SIZE, Network, transposed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

IMAGES = 4
BATCHES = (1, IMAGES)
DRAWS = settings(
    max_examples=4, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
FIXED = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # scale and zero point of int8 that TFLite prescribes
OPTIONS = {"LEAKY_RELU": "LeakyRelu", "GELU": "Gelu"}
TABLES = ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "LEAKY_RELU", "GELU")


def pixels() -> np.ndarray:
    """Every level of a pixel, three times over."""
    return np.arange(IMAGES * SIZE * SIZE * 3).astype(np.uint8).reshape(IMAGES, SIZE, SIZE, 3)


scales = st.floats(1 / 512, 1 / 4, width=32)
ratios = st.floats(1 / 4, 3, width=32)
levels = st.integers(0, 255)
seeds = st.integers(0, 2**32 - 1)


def network(dtype: str, seed: int, scale: float, level: int) -> Network:
    net = Network(dtype, seed)
    net.tensors["x"] = net.tensors["x"]._replace(scale=(scale,), zero_point=(net.lowest + level,))
    return net


def require_equal(net: Network, output: str, kernels: str) -> None:
    """Of one operator XNNPACK may take none; two rescalings before it are always its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = net.write(Path(folder), output, any_batch=False)
        found = compare_in_batches(twin(file, kernels), pixels(), BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), f"{net.tensors}: {found}"


def requantized(net: Network, ratio: float, level: int) -> str:
    (scale,) = net.tensors["x"].scale
    out = net.activation((1, SIZE, SIZE, 3), float(np.float32(scale * ratio)), net.lowest + level)
    return net.add("QUANTIZE", ("x",), out, "Quantize")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", TABLES)
@DRAWS
@given(scale=scales, ratio=ratios, level=levels, out_level=levels)
def test_functions_of_one_tensor(
    name: str, dtype: str, kernels: str, scale: float, ratio: float, level: int, out_level: int
) -> None:
    net = network(dtype, 0, scale, level)
    x = requantized(net, 1.25, 100)
    out_scale, zero_point = FIXED.get(name, (float(np.float32(scale * ratio)), out_level - 128))
    out = net.activation((1, SIZE, SIZE, 3), out_scale, net.lowest + 128 + zero_point)
    given = {"alpha": 0.2} if name == "LEAKY_RELU" else {}
    require_equal(net, net.add(name, (x,), out, OPTIONS.get(name, ""), **given), kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@DRAWS
@given(
    scale=scales, ratio=ratios, level=levels, out_ratio=ratios, out_level=levels, activation=st.sampled_from([0, 1, 3])
)
def test_functions_of_two_tensors(
    name: str, dtype: str, kernels: str, scale: float, ratio: float, level: int, out_ratio: float, out_level: int,
    activation: int,
) -> None:  # fmt: skip
    net = network(dtype, 0, scale, level)
    b = requantized(net, ratio, 255 - level)
    spread = scale * scale * ratio * 128 if name == "MUL" else scale + scale * ratio
    out = net.activation((1, SIZE, SIZE, 3), float(np.float32(spread * out_ratio)), net.lowest + out_level)
    options = name.title()
    require_equal(net, net.add(name, ("x", b), out, options, fusedActivationFunction=activation), kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@DRAWS
@given(
    seed=seeds, scale=scales, level=levels, channels=st.integers(1, 19), k=st.integers(1, 4), stride=st.integers(1, 3),
    dilation=st.integers(1, 2), activation=st.sampled_from([0, 1, 2, 3]),
)  # fmt: skip
def test_convolutions(
    dtype: str, kernels: str, seed: int, scale: float, level: int, channels: int, k: int, stride: int, dilation: int,
    activation: int,
) -> None:  # fmt: skip
    stride = stride if dilation == 1 else 1
    net = network(dtype, seed, scale, level)
    given = {"strideH": stride, "strideW": stride, "dilationHFactor": dilation, "dilationWFactor": dilation}
    out = net.conv(channels=channels, side=-(-SIZE // stride), k=k, fusedActivationFunction=activation, **given)
    require_equal(net, out, kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@DRAWS
@given(
    seed=seeds, scale=scales, level=levels, rows=st.sampled_from([1, 3, 9, 27, 81, 243]), channels=st.integers(1, 19)
)
def test_dense_layers(dtype: str, kernels: str, seed: int, scale: float, level: int, rows: int, channels: int) -> None:
    net = network(dtype, seed, scale, level)
    width = SIZE * SIZE * 3 // rows
    x = net.moved("RESHAPE", "x", (1, rows, width), (1, rows, width), options="Reshape")
    out = net.weighted(
        "FULLY_CONNECTED", x, (channels, width), 0, channels, (1, rows, channels), "FullyConnected", keepNumDims=True
    )  # fmt: skip
    require_equal(net, out, kernels)


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("kind", ["Sigmoid", "LeakyRelu", "Add", "Mul"])
@DRAWS
@given(seed=seeds, ratio=ratios)
def test_onnx_elementwise(activations: str, kind: str, seed: int, ratio: float) -> None:
    net = OnnxNetwork(activations, "int8", seed, SIZE)
    operands = [net.conv(channels=5, k=k) for k in ((3, 1) if kind in ("Add", "Mul") else (3,))]
    scales = [net.scales[x] for x in operands]
    spread = {"Sigmoid": 1 / 256, "Mul": math.prod(scales) * 50}.get(kind, sum(scales))
    out = net.node(kind, *operands)
    with tempfile.TemporaryDirectory() as folder:
        file = net.write(Path(folder), net.quantized(out, spread * ratio))
        found = compare_in_batches(twin(file), pixels(), BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), found


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@DRAWS
@given(
    seed=seeds, scale=scales, level=levels, channels=st.integers(1, 19), k=st.integers(1, 4), stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1]), activation=st.sampled_from([0, 1, 3]),
)  # fmt: skip
def test_transposed_convolutions(
    dtype: str, kernels: str, seed: int, scale: float, level: int, channels: int, k: int, stride: int, padding: int,
    activation: int,
) -> None:  # fmt: skip
    net = network(dtype, seed, scale, level)
    k = max(k, stride)
    side = SIZE * stride if padding == 0 else (SIZE - 1) * stride + k
    given = {"strideH": stride, "strideW": stride, "padding": padding, "fusedActivationFunction": activation}
    require_equal(net, transposed(net, requantized(net, 1.25, 100), side, channels, k, **given), kernels)


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@DRAWS
@given(
    seed=seeds, ratio=ratios, window=st.tuples(*[st.integers(1, 4)] * 2), stride=st.tuples(*[st.integers(1, 3)] * 2),
    counted=st.booleans(), data=st.data(),
)  # fmt: skip
def test_onnx_average_pooling(
    activations: str, seed: int, ratio: float, window: tuple[int, int], stride: tuple[int, int], counted: bool,
    data: st.DataObject,
) -> None:  # fmt: skip
    net = OnnxNetwork(activations, "int8", seed, SIZE)
    x = net.conv(channels=5)
    pads = [data.draw(st.integers(0, side - 1)) for side in (*window, *window)]
    out = net.node(
        "AveragePool", x, kernel_shape=window, strides=stride, pads=pads, count_include_pad=int(counted)
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = net.write(Path(folder), net.quantized(out, net.scales[x] * ratio))
        found = compare_in_batches(twin(file), pixels(), BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), found
