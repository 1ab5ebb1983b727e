"""Operators that pool, resize, split and shuffle images, against the runtimes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_networks import Network as OnnxNetwork
from helpers.twin_networks import KERNELS, PIXELS, SIZE, Network, transposed
from onnx.helper import make_node

from backends.device.errors import UserError
from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

BATCHES = (1, len(PIXELS))
CHANNELS = 12
TWICE = {"strideH": 2, "strideW": 2, "padding": 0}


def _transposed_same(net: Network) -> str:
    return transposed(net, net.conv(), 2 * SIZE, CHANNELS, 3, **TWICE)


def _transposed_valid(net: Network) -> str:
    return transposed(
        net, net.conv(), 2 * SIZE + 1, CHANNELS, 3, **TWICE | {"padding": 1, "fusedActivationFunction": 1}
    )


def _nearest(net: Network) -> str:
    x = net.conv(channels=CHANNELS)
    return net.moved(
        "RESIZE_NEAREST_NEIGHBOR", x, (1, 14, 14, CHANNELS), [14, 14], options="ResizeNearestNeighbor"
    )  # fmt: skip


def _nearest_centred(net: Network) -> str:
    x = net.conv(channels=CHANNELS)
    return net.moved(
        "RESIZE_NEAREST_NEIGHBOR", x, (1, 5, 5, CHANNELS), [5, 5], options="ResizeNearestNeighbor",
        halfPixelCenters=True,
    )  # fmt: skip


def _nearest_of_corners(net: Network) -> str:
    x = net.conv(channels=CHANNELS)
    return net.moved(
        "RESIZE_NEAREST_NEIGHBOR", x, (1, 13, 13, CHANNELS), [13, 13], options="ResizeNearestNeighbor",
        alignCorners=True,
    )  # fmt: skip


def _split(net: Network) -> str:
    """The parts change places."""
    x = net.conv(channels=CHANNELS)
    parts = tuple(net.like(x, 1, SIZE, SIZE, CHANNELS // 3) for _ in range(3))
    net.add("SPLIT", (net.constant(np.array(3), "int32"), x), parts, "Split", numSplits=3)
    return net.add("CONCATENATION", parts[::-1], net.like(x, 1, SIZE, SIZE, CHANNELS), "Concatenation", axis=3)


def _split_unevenly(net: Network) -> str:
    x = net.conv(channels=CHANNELS)
    parts = net.like(x, 1, 2, SIZE, CHANNELS), net.like(x, 1, SIZE - 2, SIZE, CHANNELS)
    sizes, axis = (net.constant(np.array(v), "int32") for v in ([2, SIZE - 2], 1))
    net.add("SPLIT_V", (x, sizes, axis), parts, "SplitV", numSplits=2)
    return net.add("CONCATENATION", parts[::-1], net.like(x, 1, SIZE, SIZE, CHANNELS), "Concatenation", axis=1)


def _depth_to_space(net: Network) -> str:
    shape = (1, 2 * SIZE, 2 * SIZE, CHANNELS // 4)
    return net.moved("DEPTH_TO_SPACE", net.conv(channels=CHANNELS), shape, options="DepthToSpace", blockSize=2)


def _broadcast(net: Network) -> str:
    shape = (1, SIZE, 3, SIZE)
    x = net.moved("RESHAPE", net.conv(channels=1), (1, SIZE, 1, SIZE), (1, SIZE, 1, SIZE), options="Reshape")
    return net.moved("BROADCAST_TO", x, shape, shape)


def _total(net: Network, ratio: float) -> str:
    x = net.conv(channels=CHANNELS)
    scale, zero_point = net.tensors[x].scale[0], net.tensors[x].zero_point[0]
    out = net.activation((1, CHANNELS), float(np.float32(scale * ratio)), zero_point)
    return net.add("SUM", (x, net.constant(np.array([1, 2]), "int32")), out, "Reducer", keepDims=False)


def _sum(net: Network) -> str:
    return _total(net, 11.3)


def _sum_of_the_same_scale(net: Network) -> str:
    return _total(net, 1)


OPERATORS = [
    _sum, _sum_of_the_same_scale, _transposed_same, _transposed_valid, _nearest, _nearest_centred, _nearest_of_corners,
    _split, _split_unevenly, _depth_to_space, _broadcast,
]  # fmt: skip


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__.strip("_"))
def test_an_operators_integers_are_the_kernels_own(
    tmp_path: Path, make: Callable[[Network], str], kernels: str
) -> None:
    net = Network("int8", 0)
    file = net.write(tmp_path, make(net), any_batch=False)
    if net.ops[-1].name == "SUM" and kernels == "reference":
        with pytest.raises(
            UserError, match=r"SUM \(number 1\) by the reference kernels, which compute it wrong, has no twin yet"
        ):
            twin(file, kernels)
        return
    made = twin(file, kernels)
    found = compare_in_batches(made, PIXELS, BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), found


def test_tensors_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    """ai-edge-quantizer gives each rescaled copy of a tensor the same name."""
    net = Network("int8", 0)
    x = net.conv(channels=CHANNELS)
    copies = [net.activation((1, SIZE, SIZE, CHANNELS), 0.3 * scale) for scale in (1, 2)]
    for copy in copies:
        net.add("QUANTIZE", (x,), copy, "Quantize")
    out = net.activation((1, SIZE, SIZE, CHANNELS), 0.7)
    file = net.write(tmp_path, net.add("ADD", tuple(copies), out, "Add"), any_batch=False)
    assert len(copies[0]) == len(copies[1])
    file.write_bytes(file.read_bytes().replace(copies[1].encode(), copies[0].encode()))
    assert [one.equal for one in compare_in_batches(twin(file), PIXELS, BATCHES)] == [1.0, 1.0]


def like(net: OnnxNetwork, x: str, kind: str, *inputs: str, **settings: object) -> str:
    return net.quantized(net.node(kind, x, *inputs, **settings), net.scales[x], net.zero_points[x])


def _onnx_averaged(net: OnnxNetwork) -> str:
    x = net.conv()
    pooled = net.node("AveragePool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 1, 0])
    return net.quantized(pooled, net.scales[x] * 0.7)


def _onnx_averaged_with_padding(net: OnnxNetwork) -> str:
    return like(net, net.conv(), "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)


def _onnx_averaged_whole(net: OnnxNetwork) -> str:
    """Onnxruntime computes the mean of a whole image otherwise than that of a window; four numbers make halves."""
    x = net.conv(strides=[8, 8])
    assert SIZE // 8 + 1 == 2
    return like(net, x, "AveragePool", kernel_shape=[2, 2], strides=[2, 2])


def _onnx_split(net: OnnxNetwork) -> str:
    """In equal parts, of which one is split into others."""
    x = net.conv(channels=CHANNELS)
    names = [f"{x}_{part}" for part in range(4)]
    net.nodes.append(make_node("Split", [x], names[:2], axis=1))
    first = net.quantized(names[0], net.scales[x], net.zero_points[x])
    second = net.quantized(names[1], net.scales[x], net.zero_points[x])
    net.nodes.append(make_node("Split", [first, net.constant(np.array([2, 4]))], names[2:], axis=-3))
    parts = [net.quantized(name, net.scales[x], net.zero_points[x]) for name in names[2:]]
    return net.quantized(net.node("Concat", second, *parts[::-1], axis=1), net.scales[x], net.zero_points[x])


def _onnx_resized(net: OnnxNetwork, *scales: float, **settings: str) -> str:
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} | settings
    empty, given = net.constant(np.zeros(0, np.float32)), net.constant(np.float32(scales))
    return like(net, net.conv(channels=CHANNELS), "Resize", empty, given, **how)


def _onnx_sliced(net: OnnxNetwork) -> str:
    """The last rows and columns, by axes from the end."""
    ends = ([2, -6], [SIZE, 100], [-2, -1], [2, 1])
    return like(net, net.conv(channels=CHANNELS), "Slice", *(net.constant(np.array(values)) for values in ends))


ONNX_OPERATORS: dict[str, Callable[[OnnxNetwork], str]] = {
    "averaged": _onnx_averaged,
    "averaged-with-padding": _onnx_averaged_with_padding,
    "averaged-whole": _onnx_averaged_whole,
    "split": _onnx_split,
    "resized": lambda net: _onnx_resized(net, 1, 1, 2, 3),
    "shuffled": lambda net: like(net, net.conv(channels=CHANNELS), "DepthToSpace", blocksize=2, mode="CRD"),
    "shuffled-depth-first": lambda net: like(net, net.conv(channels=CHANNELS), "DepthToSpace", blocksize=2),
    "sliced": _onnx_sliced,
}


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("name", ONNX_OPERATORS)
def test_an_onnx_operators_integers_are_onnxruntimes_own(tmp_path: Path, name: str, activations: str) -> None:
    net = OnnxNetwork(activations, "int8", 0, SIZE)
    found = compare_in_batches(twin(net.write(tmp_path, ONNX_OPERATORS[name](net))), PIXELS, BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), found


@pytest.mark.parametrize(
    ("scales", "settings", "says"),
    [
        ((1, 1, 1.5, 2), {}, r"by scales of \[1\.0, 1\.0, 1\.5, 2\.0\]"),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "half_pixel"}, "other than nearest, asymmetric, floor"),
    ],
)
def test_a_resize_that_no_twin_follows_is_refused(
    tmp_path: Path, scales: tuple[float, ...], settings: dict[str, str], says: str
) -> None:
    net = OnnxNetwork("int8", "int8", 0, SIZE)
    with pytest.raises(UserError, match=r"Resize \(number \d\) " + says):
        twin(net.write(tmp_path, _onnx_resized(net, *scales, **settings)))
