"""Small TFLite networks, an operator each, for twins."""

from pathlib import Path

import numpy as np

from helpers.tflite_networks import Op, T, write

KERNELS = ("xnnpack", "builtin", "reference")


SIZE = 9  # odd, so that padding is uneven


WIDE = 20  # no multiple of 16, so that a vector kernel leaves a rest


PIXELS = np.random.default_rng(5).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)


class Network:
    """A file in the making: int8 with weights per channel, or uint8 with weights and zero points per tensor."""

    def __init__(self, dtype: str, seed: int) -> None:
        self.random, self.dtype = np.random.default_rng(seed), dtype
        self.lowest = int(np.iinfo(dtype).min)
        self.tensors = {"x": T((1, SIZE, SIZE, 3), dtype, (1 / 255,), (self.lowest,))}
        self.ops: list[Op] = []

    def scale(self, low: float = 0.8, high: float = 1.25) -> float:
        return float(np.float32(self.random.uniform(low, high)))

    def activation(self, shape: tuple[int, ...], scale: float, zero_point: int | None = None) -> str:
        name = f"t{len(self.tensors)}"
        centre = self.lowest + int(self.random.integers(90, 160))
        self.tensors[name] = T(shape, self.dtype, (scale,), (centre if zero_point is None else zero_point,))
        return name

    def constant(self, values: np.ndarray, dtype: str, scale=(), zero_point=(), axis: int = 0) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = T(values.shape, dtype, tuple(scale), tuple(zero_point), values, axis)
        return name

    def add(self, name: str, inputs: tuple[str, ...], output: str, options: str = "", **settings) -> str:
        self.ops.append(Op(name, inputs, output, options, settings))
        return output

    def weighted(self, name, x, shape, axis, channels, out_shape, options, per_channel=True, **settings) -> str:
        """A convolution or a dense layer, with a bias, whose outputs fill their range and clip now and then."""
        scales = self.random.uniform(0.002, 0.02, channels if self.dtype == "int8" and per_channel else 1)
        scales = scales.astype(np.float32)
        low, high = (-127, 128) if self.dtype == "int8" else (0, 256)
        weights = self.random.integers(low, high, shape)
        zeros = [0] * len(scales) if self.dtype == "int8" else [int(self.random.integers(118, 138))]
        w = self.constant(weights, self.dtype, map(float, scales), zeros, axis if len(scales) > 1 else 0)
        (from_scale,) = self.tensors[x].scale
        steps = self.random.integers(-2000, 2000, channels)
        b = self.constant(steps, "int32", [float(np.float32(from_scale) * s) for s in scales], [0] * len(scales))
        fan = np.prod(shape) / channels
        spread = from_scale * 70 * float(scales.mean()) * 70 * np.sqrt(fan)
        return self.add(
            name, (x, w, b), self.activation(out_shape, float(np.float32(spread / 40))), options, **settings
        )

    def conv(self, x: str = "x", channels: int = WIDE, side: int = SIZE, k: int = 3, **settings) -> str:
        shape = (channels, k, k, self.tensors[x].shape[3])
        given = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 0} | settings
        return self.weighted("CONV_2D", x, shape, 0, channels, (1, side, side, channels), "Conv2D", **given)

    def like(self, x: str, *shape: int) -> str:
        """An activation with the scale of another."""
        return self.activation(shape, self.tensors[x].scale[0], self.tensors[x].zero_point[0])

    def moved(
        self, name: str, x: str, shape: tuple[int, ...], *parameters: object, options: str = "", **settings
    ) -> str:
        """An operator that moves values: its parameters are constants of int32."""
        fixed = [self.constant(np.array(values), "int32") for values in parameters]
        return self.add(name, (x, *fixed), self.like(x, *shape), options, **settings)

    def write(self, folder: Path, output: str, any_batch: bool = True) -> Path:
        return write(folder / "net.tflite", self.tensors, self.ops, "x", output, any_batch)


def transposed(net: Network, x: str, side: int, channels: int, k: int, **settings: int) -> str:
    """A transposed convolution, whose first input is the shape of its output."""
    out = net.weighted(
        "TRANSPOSE_CONV", x, (channels, k, k, net.tensors[x].shape[3]), 0, channels, (1, side, side, channels),
        "TransposeConv", **settings,
    )  # fmt: skip
    op = net.ops.pop()
    shape = net.constant(np.array([1, side, side, channels]), "int32")
    _, weights, bias = op.inputs
    net.ops.append(op._replace(inputs=(shape, weights, x, bias)))
    return out


def _conv(net: Network) -> str:
    return net.conv()


def _conv_strided(net: Network) -> str:
    return net.conv(net.conv(side=5, strideH=2, strideW=2), side=5, k=1, fusedActivationFunction=1)


def _conv_dilated(net: Network) -> str:
    return net.conv(side=SIZE, dilationHFactor=2, dilationWFactor=2, fusedActivationFunction=3)


def _conv_valid(net: Network) -> str:
    return net.conv(side=7, padding=1)


def _depthwise(net: Network) -> str:
    x = net.conv(channels=16)
    settings = {"strideH": 2, "strideW": 2, "padding": 0, "dilationHFactor": 1, "dilationWFactor": 1}
    return net.weighted(
        "DEPTHWISE_CONV_2D", x, (1, 3, 3, 32), 3, 32, (1, 5, 5, 32), "DepthwiseConv2D", depthMultiplier=2, **settings
    )


def _depthwise_wide(net: Network) -> str:
    x = net.conv()
    settings = {"strideH": 1, "strideW": 1, "padding": 0, "dilationHFactor": 1, "dilationWFactor": 1}
    return net.weighted(
        "DEPTHWISE_CONV_2D", x, (1, 3, 3, WIDE), 3, WIDE, (1, SIZE, SIZE, WIDE), "DepthwiseConv2D",
        depthMultiplier=1, **settings,
    )  # fmt: skip


def _flat(net: Network, x: str) -> str:
    spec = net.tensors[x]
    n = int(np.prod(spec.shape))
    shape = net.constant(np.array([-1, n]), "int32")
    return net.add(
        "RESHAPE", (x, shape), net.activation((1, n), spec.scale[0], spec.zero_point[0]), "Reshape", newShape=[-1, n]
    )


def _dense(net: Network) -> str:
    x = _flat(net, net.conv(channels=4))
    return net.weighted("FULLY_CONNECTED", x, (10, 4 * SIZE**2), 0, 10, (1, 10), "FullyConnected")


def _dense_per_tensor(net: Network) -> str:
    x = _flat(net, net.conv(channels=4))
    return net.weighted("FULLY_CONNECTED", x, (10, 4 * SIZE**2), 0, 10, (1, 10), "FullyConnected", per_channel=False)


def _two(net: Network, name: str, activation: int) -> str:
    a, b = net.conv(), net.conv(k=1)
    scales = net.tensors[a].scale[0], net.tensors[b].scale[0]
    scale = sum(scales) * 0.7 if name == "ADD" else scales[0] * scales[1] * 50
    out = net.activation((1, SIZE, SIZE, WIDE), float(np.float32(scale * net.scale())))
    return net.add(name, (a, b), out, name.title(), fusedActivationFunction=activation)


def _sum(net: Network) -> str:
    return _two(net, "ADD", 0)


def _sum_relu(net: Network) -> str:
    return _two(net, "ADD", 1)


def _clipped_between_steps(net: Network) -> str:
    """A fused activation's limits, 1 and -1, half a step from 0: of two integers XNNPACK takes the even one."""
    x, shape = net.conv(), (1, SIZE, SIZE, WIDE)
    wide = net.add("QUANTIZE", (x,), net.activation(shape, 2.0), "Quantize")
    out = net.activation(shape, 2.0, net.lowest + 100)
    return net.add("ADD", (wide, x), out, "Add", fusedActivationFunction=2)


def _sum_with_one_number(net: Network) -> str:
    """Scales at which the vectors that round, of sums of two tensors, and those that cut, of one number, differ."""
    shape = (1, SIZE, SIZE, WIDE)
    x = net.add("QUANTIZE", (net.conv(),), net.activation(shape, float(np.float32(0.02))), "Quantize")
    number = net.constant(np.full((1, 1, 1, 1), net.lowest + 183), net.dtype, [0.007], [net.lowest + 128])
    return net.add("ADD", (x, number), net.activation(shape, float(np.float32(0.03))), "Add")


def _product(net: Network) -> str:
    return _two(net, "MUL", 0)


def _product_relu6(net: Network) -> str:
    return _two(net, "MUL", 3)


def _normalised(net: Network) -> str:
    """A constant a channel, multiplied, and another added: the normalisation of our own files."""
    last, shape = "x", (1, SIZE, SIZE, 3)
    for name, scale in (("MUL", 0.02), ("ADD", 0.03)):
        values = net.random.integers(net.lowest, net.lowest + 256, (1, 1, 1, 3))
        zero_point = net.lowest + 128
        fixed = net.constant(values, net.dtype, [net.scale(0.01, 0.03)], [zero_point])
        last = net.add(name, (last, fixed), net.activation(shape, float(np.float32(scale))), name.title())
    return last


def _mean(net: Network, keep: bool) -> str:
    x = net.conv()
    axes = net.constant(np.array([1, 2]), "int32")
    scale = float(np.float32(net.tensors[x].scale[0] * 0.2))
    out = net.activation((1, 1, 1, WIDE) if keep else (1, WIDE), scale)
    return net.add("MEAN", (x, axes), out, "Reducer", keepDims=keep)


def _mean_kept(net: Network) -> str:
    return _mean(net, True)


def _mean_flat(net: Network) -> str:
    return _mean(net, False)


def _pool(net: Network, name: str, side: int, padding: int, activation: int = 0) -> str:
    x = net.conv()
    spec = net.tensors[x]
    out = net.activation((1, side, side, WIDE), spec.scale[0], spec.zero_point[0])
    return net.add(
        name, (x,), out, "Pool2D", padding=padding, strideH=2, strideW=2, filterHeight=3, filterWidth=4,
        fusedActivationFunction=activation,
    )  # fmt: skip


def _average(net: Network) -> str:
    return _pool(net, "AVERAGE_POOL_2D", 5, 0)


def _greatest(net: Network) -> str:
    return _pool(net, "MAX_POOL_2D", 5, 0, activation=1)


def _requantized(net: Network) -> str:
    x = net.conv()
    scale = float(np.float32(net.tensors[x].scale[0] * net.scale(0.6, 1.9)))
    return net.add("QUANTIZE", (x,), net.activation((1, SIZE, SIZE, WIDE), scale), "Quantize")


def _moved(net: Network) -> str:
    """Cut, padded, turned around and put together, as option-A shortcuts and fire modules do."""
    x = net.conv()
    (scale,), (zero_point,) = net.tensors[x].scale, net.tensors[x].zero_point

    def like(*shape: int) -> str:
        return net.activation(shape, scale, zero_point)

    numbers = [net.constant(np.array(v), "int32") for v in ([0, 0, 0, 0], [1, 0, 0, WIDE], [1, 2, 2, 1])]
    half = net.add(
        "STRIDED_SLICE", (x, *numbers), like(1, 5, 5, WIDE), "StridedSlice", beginMask=7, endMask=7,
    )  # fmt: skip
    wide = net.constant(np.array([[0, 0], [1, 0], [0, 1], [2, 2]]), "int32")
    padded = net.add("PAD", (half, wide), like(1, 6, 6, WIDE + 4), "Pad")
    begin, size = (net.constant(np.array(v), "int32") for v in ([0, 1, 2, 0], [-1, 5, 4, WIDE + 4]))
    part = net.add("SLICE", (padded, begin, size), like(1, 5, 4, WIDE + 4), "Slice")
    order = net.constant(np.array([0, 2, 1, 3]), "int32")
    turned = net.add("TRANSPOSE", (part, order), like(1, 4, 5, WIDE + 4), "Transpose")
    again = net.add("TRANSPOSE", (turned, order), like(1, 5, 4, WIDE + 4), "Transpose")
    return net.add("CONCATENATION", (part, again), like(1, 5, 8, WIDE + 4), "Concatenation", axis=2)


def _softmax(net: Network) -> str:
    """What a vendor's file ends in: a softmax, and sometimes other integers of it."""
    last = net.add("SOFTMAX", (_dense(net),), net.activation((1, 10), 1 / 256, net.lowest), "Softmax", beta=1.0)
    return net.add("QUANTIZE", (last,), net.activation((1, 10), 1 / 256, net.lowest), "Quantize")


OPERATORS = [
    _conv, _conv_strided, _conv_dilated, _conv_valid, _depthwise, _depthwise_wide, _dense, _dense_per_tensor, _sum,
    _sum_relu, _clipped_between_steps, _sum_with_one_number, _product, _product_relu6, _normalised, _mean_kept,
    _mean_flat, _average, _greatest, _softmax, _requantized, _moved,
]  # fmt: skip
