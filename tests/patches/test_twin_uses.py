"""Operators in uses that are less common: more or fewer axes, constants, images that are not along the first axis."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_networks import Network as OnnxNetwork
from helpers.tflite_networks import T, write
from helpers.twin_networks import KERNELS, PIXELS, SIZE, Network

from backends.device.errors import UserError
from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

FEATURES = 16
TOKENS = SIZE * SIZE
BATCHES = (1, len(PIXELS), 5)


def _tokens(net: Network, *shape: int) -> str:
    return net.moved("RESHAPE", net.conv(channels=FEATURES), shape, shape, options="Reshape")


def _mixed(net: Network, x: str, shape: tuple[int, ...]) -> str:
    return net.weighted(
        "FULLY_CONNECTED", x, (FEATURES, FEATURES), 0, FEATURES, shape, "FullyConnected", keepNumDims=True
    )  # fmt: skip


def _mean(net: Network, x: str, axis: int, shape: tuple[int, ...]) -> str:
    axes = net.constant(np.array([axis]), "int32")
    scale = float(np.float32(net.tensors[x].scale[0] * 0.2))
    return net.add("MEAN", (x, axes), net.activation(shape, scale), "Reducer", keepDims=False)


def _dense_on_tokens(net: Network) -> str:
    """As many tokens as features would hide a mistake, so there are not."""
    shape = (1, TOKENS, FEATURES)
    return _mean(net, _mixed(net, _tokens(net, *shape), shape), 1, (1, FEATURES))


def _dense_on_rows(net: Network) -> str:
    """The first axis is that of the tokens, and the images have none."""
    rows = _mixed(net, _tokens(net, TOKENS, FEATURES), (TOKENS, FEATURES))
    out = net.activation((1, TOKENS, FEATURES), float(np.float32(net.tensors[rows].scale[0] * 1.7)))
    return net.add("ADD", (_tokens(net, 1, TOKENS, FEATURES), rows), out, "Add")


def _dense_that_folds(net: Network) -> str:
    """Pairs of pixels in one row."""
    x = net.conv(channels=FEATURES // 3, side=SIZE)
    shape = (1, SIZE * SIZE * 5 // 15, 10)
    return net.weighted("FULLY_CONNECTED", x, (10, 15), 0, 10, shape, "FullyConnected", keepNumDims=False)


def _vector_added(net: Network) -> str:
    a = net.conv(channels=FEATURES)
    b = _mean(net, _tokens(net, 1, TOKENS, FEATURES), 1, (1, FEATURES))
    out = net.activation((1, SIZE, SIZE, FEATURES), float(np.float32(net.tensors[a].scale[0] * 1.1)))
    return net.add("ADD", (a, b), out, "Add")


def _number_multiplied(net: Network) -> str:
    x = net.conv(channels=FEATURES)
    number = net.constant(np.array(net.lowest + 200), net.dtype, [net.scale(0.01, 0.03)], [net.lowest + 128])
    out = net.activation((1, SIZE, SIZE, FEATURES), float(np.float32(net.tensors[x].scale[0] * 1.3)))
    return net.add("MUL", (x, number), out, "Mul")


def _joined(net: Network, shape: tuple[int, ...], axis: int, first: bool) -> str:
    x = net.conv(channels=FEATURES)
    spec = net.tensors[x]
    values = net.random.integers(net.lowest, net.lowest + 256, shape)
    fixed = net.constant(values, net.dtype, spec.scale, spec.zero_point)
    whole = [1, SIZE, SIZE, FEATURES]
    whole[axis] += shape[axis]
    out = net.like(x, *whole)
    return net.add("CONCATENATION", (fixed, x) if first else (x, fixed), out, "Concatenation", axis=axis)


def _joined_with_channels(net: Network) -> str:
    return net.conv(_joined(net, (1, SIZE, SIZE, 2), 3, first=True))


def _joined_with_rows(net: Network) -> str:
    return _joined(net, (1, 4, SIZE, FEATURES), 1, first=False)


def _shuffled(net: Network) -> str:
    """Blocks of channels become pixels: the images' axis is gone in between."""
    x = net.conv(channels=FEATURES, side=SIZE)
    rows = net.moved("RESHAPE", x, (SIZE, SIZE, 4, 4), (SIZE, SIZE, 4, 4), options="Reshape")
    turned = net.moved("TRANSPOSE", rows, (SIZE, 4, SIZE, 4), (0, 2, 1, 3), options="Transpose")
    shape = (1, SIZE * 4, SIZE * 4, 1)
    return net.conv(net.moved("RESHAPE", turned, shape, shape, options="Reshape"), side=SIZE * 4)


def _turned_over(net: Network) -> str:
    """The images' axis goes to the end and back."""
    x = net.conv(channels=FEATURES, side=SIZE)
    last = net.moved("TRANSPOSE", x, (SIZE, FEATURES, SIZE, 1), (1, 3, 2, 0), options="Transpose")
    return net.moved("TRANSPOSE", last, (1, FEATURES, SIZE, SIZE), (3, 1, 0, 2), options="Transpose")


def _mirrored(net: Network) -> str:
    x = net.conv(channels=FEATURES)
    ends = ([0, SIZE - 1, SIZE, 1], [1, -SIZE - 1, 0, FEATURES], [1, -1, -2, 3])
    return net.moved("STRIDED_SLICE", x, (1, SIZE, 4, 5), *ends, options="StridedSlice", endMask=1)


USES = [
    _dense_on_tokens, _dense_on_rows, _dense_that_folds, _vector_added, _number_multiplied,
    _joined_with_channels, _joined_with_rows, _shuffled, _turned_over, _mirrored,
]  # fmt: skip


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("make", USES, ids=lambda make: make.__name__.strip("_"))
def test_a_use_is_followed_image_by_image(tmp_path: Path, make: Callable[[Network], str], kernels: str) -> None:
    for seed in range(2):
        net = Network("int8", seed)
        made = twin(net.write(tmp_path, make(net), any_batch=False), kernels)
        found = compare_in_batches(made, PIXELS, BATCHES)
        assert [one.equal for one in found] == [1.0] * len(BATCHES), f"seed {seed}: {found}"


def _padded_images(net: Network) -> str:
    return net.moved("PAD", "x", (2, SIZE, SIZE, 3), [[0, 1], [0, 0], [0, 0], [0, 0]], options="Pad")


def _joined_images(net: Network) -> str:
    return net.add("CONCATENATION", ("x", "x"), net.like("x", 2, SIZE, SIZE, 3), "Concatenation", axis=0)


def _mean_of_images(net: Network) -> str:
    return _mean(net, net.conv(), 0, (SIZE, SIZE, 20))


def _rescaled_move(net: Network) -> str:
    shape = net.constant(np.array([1, SIZE * SIZE * 3]), "int32")
    return net.add("RESHAPE", ("x", shape), net.activation((1, SIZE * SIZE * 3), 0.5), "Reshape")


def _weights_by_rows(net: Network) -> str:
    """Scales along the axis of the inputs."""
    x = net.conv(channels=FEATURES)
    weights = net.constant(np.ones((10, 1, 1, FEATURES)), "int8", [0.01] * FEATURES, [0] * FEATURES, axis=3)
    out = net.activation((1, SIZE, SIZE, 10), 0.1)
    return net.add("CONV_2D", (x, weights), out, "Conv2D", strideH=1, strideW=1, padding=0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_padded_images, r"PAD \(number 0\) along the axis of the images has no twin yet"),
        (_joined_images, r"CONCATENATION \(number 0\) along the axis of the images has no twin yet"),
        (_mean_of_images, r"MEAN \(number 1\) along the axis of the images has no twin yet"),
        (_rescaled_move, r"RESHAPE \(number 0\) between different scales has no twin yet"),
        (_weights_by_rows, r"CONV_2D \(number 1\) with scales along axis 3 of its weights has no twin yet"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_use_that_no_twin_follows_is_refused_by_name(
    tmp_path: Path, make: Callable[[Network], str], says: str
) -> None:
    net = Network("int8", 0)
    with pytest.raises(UserError, match=r"net\.tflite: " + says):
        twin(net.write(tmp_path, make(net), any_batch=False), "reference")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_float_input_is_quantized_as_the_kernels_do(tmp_path: Path, dtype: str, kernels: str) -> None:
    """At a scale of two levels, every other pixel is a tie."""
    for scale in (2 / 255, 0.0078):
        net = Network(dtype, 0)
        net.tensors["pixels"] = T((1, SIZE, SIZE, 3), "float32")
        net.tensors["x"] = net.tensors["x"]._replace(scale=(float(np.float32(scale)),))
        net.tensors["reals"] = T((1, SIZE, SIZE, 3), "float32")
        net.add("QUANTIZE", ("pixels",), "x", "Quantize")
        net.add("DEQUANTIZE", ("x",), "reals", "Dequantize")
        file = write(tmp_path / "net.tflite", net.tensors, net.ops, "pixels", "reals", any_batch=False)
        found = compare_in_batches(twin(file, kernels), PIXELS, BATCHES)
        assert [one.equal for one in found] == [1.0] * len(BATCHES), f"{scale}: {found}"


def test_a_file_of_eight_images_at_a_time_is_refused(tmp_path: Path) -> None:
    net = Network("int8", 0)
    net.tensors["x"] = net.tensors["x"]._replace(shape=(8, SIZE, SIZE, 3))
    file = net.write(tmp_path, net.moved("TRANSPOSE", "x", (8, SIZE, SIZE, 3), (0, 2, 1, 3)), any_batch=False)
    with pytest.raises(UserError, match="takes 8 images at a time, expected one or any number: export it with a batch"):
        twin(file)


def onnx(activations: str = "uint8") -> OnnxNetwork:
    return OnnxNetwork(activations, "int8", 3, SIZE)


def _onnx_number(net: OnnxNetwork, kind: str) -> str:
    x = net.conv()
    scale = net.scales[x] * (0.02 if kind == "Mul" else 1.1)
    return net.quantized(net.node(kind, x, net.like_activations(())), scale)


def _onnx_joined(net: OnnxNetwork) -> str:
    x = net.conv(channels=8)
    out = net.node("Concat", net.like_activations((1, 3, SIZE, SIZE)), x, axis=1)
    return net.quantized(out, net.scales[x])


def _onnx_vector_added(net: OnnxNetwork) -> str:
    a, b = net.conv(channels=SIZE), net.conv(channels=SIZE, k=1)
    mean = net.quantized(net.node("GlobalAveragePool", b), net.scales[b] * 0.2)
    flat = net.quantized(net.node("Flatten", mean), net.scales[mean], net.zero_points[mean])
    return net.quantized(net.node("Add", a, flat), net.scales[a] * 1.2)


def _onnx_reshaped(net: OnnxNetwork, *shape: int) -> str:
    x = net.conv(channels=4)
    return net.quantized(net.node("Reshape", x, net.constant(np.array(shape))), net.scales[x], net.zero_points[x])


ONNX_USES: dict[str, Callable[[OnnxNetwork], str]] = {
    "number-added": lambda net: _onnx_number(net, "Add"),
    "number-multiplied": lambda net: _onnx_number(net, "Mul"),
    "joined-with-a-constant": _onnx_joined,
    "vector-added": _onnx_vector_added,
    "one-image-reshaped": lambda net: _onnx_reshaped(net, 1, -1),
    "images-reshaped": lambda net: _onnx_reshaped(net, 0, 2, -1),
}


@pytest.mark.parametrize("use", ONNX_USES)
def test_onnx_uses_are_followed_image_by_image(tmp_path: Path, use: str) -> None:
    net = onnx()
    found = compare_in_batches(twin(net.write(tmp_path, ONNX_USES[use](net), 1)), PIXELS, BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), found


def test_onnx_operators_that_mix_images_are_refused_by_name(tmp_path: Path) -> None:
    net = onnx()
    with pytest.raises(UserError, match=r"Reshape \(number \d\) along the axis of the images has no twin yet"):
        twin(net.write(tmp_path, _onnx_reshaped(net, -1, SIZE), 1))
    net = onnx()
    x = net.conv()
    turned = net.quantized(net.node("Transpose", x, perm=[1, 0, 2, 3]), net.scales[x], net.zero_points[x])
    with pytest.raises(UserError, match=r"Transpose \(number \d\) along the axis of the images has no twin yet"):
        twin(net.write(tmp_path, turned, 1))
    net = onnx()
    with pytest.raises(UserError, match="takes 8 images at a time"):
        twin(net.write(tmp_path, net.conv(), 8))


def test_scales_along_the_inputs_of_a_convolution_are_refused(tmp_path: Path) -> None:
    """onnxruntime fuses it all the same, and then cannot run it."""
    net = onnx()
    weights, _ = net.fixed((8, 3, 1, 1), axis=1)
    with pytest.raises(
        UserError, match=r"QLinearConv \(number 1\) has 3 scales for 8 output channels, and onnxruntime"
    ):
        twin(net.write(tmp_path, net.quantized(net.node("Conv", net.entry, weights), 0.1)))


def test_a_bias_of_another_length_is_refused(tmp_path: Path) -> None:
    net = onnx()
    weights, scales = net.fixed((8, 3, 1, 1), per_channel=False)
    out = net.node("Conv", net.entry, weights, net.bias(net.entry, scales, 4), kernel_shape=[1, 1])
    with pytest.raises(UserError, match=r"QLinearConv \(number \d\) in this form \(.* has no twin yet"):
        twin(net.write(tmp_path, net.quantized(out, 0.05), 1))
