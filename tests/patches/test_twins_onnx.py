"""Twins of ONNX files, operator by operator, against onnxruntime."""

from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_networks import Network

from harness.run.arithmetic import compare_with_runtime

SIZE, WIDE = 9, 20
PIXELS = np.random.default_rng(5).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)


def _conv(net: Network) -> str:
    return net.conv()


def _conv_strided(net: Network) -> str:
    return net.conv(net.conv(strides=[2, 2]), WIDE, 12, k=1, per_channel=False)


def _conv_dilated(net: Network) -> str:
    return net.conv(pads=[2, 1, 0, 3], dilations=[2, 2])


def _conv_relu(net: Network) -> str:
    return net.conv(relu=lambda net, x: ("Relu", x))


def _conv_clip(net: Network) -> str:
    ends = net.constant(np.float32(0)), net.constant(np.float32(100))  # as wide as the integers, or it stays in float
    return net.conv(relu=lambda net, x: ("Clip", x, *ends))


def _depthwise(net: Network) -> str:
    return net.conv(net.conv(), WIDE, WIDE, groups=WIDE)


def _grouped(net: Network) -> str:
    return net.conv(net.conv(), WIDE, 8, groups=4)


def _dense(net: Network) -> str:
    x = net.conv(channels=4)
    flat = net.quantized(net.node("Flatten", x), net.scales[x], net.zero_points[x])
    weights, scales = net.fixed((10, 4 * SIZE**2))
    out = net.node("Gemm", flat, weights, net.bias(flat, scales, 10), transB=1)
    return net.quantized(out, net.scales[x] * 70 * float(scales.mean()) * 70 * np.sqrt(4 * SIZE**2) / 40)


def _two(net: Network, kind: str) -> str:
    a, b = net.conv(), net.conv(k=1)
    scale = (net.scales[a] + net.scales[b]) * 0.7 if kind == "Add" else net.scales[a] * net.scales[b] * 50
    return net.quantized(net.node(kind, a, b), scale)


def _sum(net: Network) -> str:
    return _two(net, "Add")


def _product(net: Network) -> str:
    return _two(net, "Mul")


def _normalised(net: Network) -> str:
    """A constant a channel, multiplied, and another added: the normalisation of our own files."""
    factor = net.like_activations((1, 3, 1, 1))
    scaled = net.quantized(net.node("Mul", net.entry, factor), 0.013)
    term = net.like_activations((1, 3, 1, 1))
    return net.quantized(net.node("Add", scaled, term), 0.021)


def _sum_of_one(net: Network) -> str:
    term = net.like_activations((1,))
    return net.quantized(net.node("Add", net.conv(), term), 0.03)


def _mean(net: Network) -> str:
    x = net.conv()
    return net.quantized(net.node("GlobalAveragePool", x), net.scales[x] * 0.2)


def _joined(net: Network) -> str:
    a, b = net.conv(), net.conv(channels=8, k=1)
    return net.quantized(net.node("Concat", a, b, axis=1), max(net.scales[a], net.scales[b]) * 0.9)


def _leaky(net: Network) -> str:
    x = net.conv()
    return net.quantized(net.node("LeakyRelu", x, alpha=0.1), net.scales[x] * 0.8)


def _greatest(net: Network) -> str:
    x = net.conv()
    pooled = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)
    return net.quantized(pooled, net.scales[x], net.zero_points[x])


OPERATORS = [
    _conv, _conv_strided, _conv_dilated, _conv_relu, _conv_clip, _depthwise, _grouped, _dense, _sum, _product,
    _normalised, _sum_of_one, _mean, _joined, _leaky, _greatest,
]  # fmt: skip


@pytest.mark.parametrize(
    "signature", [("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")], ids=["s8s8", "u8s8", "u8u8"]
)
@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__.strip("_"))
def test_an_operators_integers_are_onnxruntimes_own(tmp_path: Path, make, signature: tuple[str, str]) -> None:
    for seed in range(2):
        net = Network(*signature, seed, SIZE)
        file = net.write(tmp_path, make(net))
        _, found = compare_with_runtime(file, None, None, PIXELS)
        assert (found.largest, found.equal) == (0, 1.0), f"seed {seed}: {found}"


def test_a_final_softmax_hides_no_integers(tmp_path: Path) -> None:
    net = Network("uint8", "int8", 3, SIZE)
    mean = net.quantized(net.node("GlobalAveragePool", net.conv(channels=10)), 0.05)
    file = net.write(tmp_path, net.node("Softmax", net.node("Flatten", mean), axis=1))
    assert compare_with_runtime(file, None, None, PIXELS)[1].equal == 1
