"""ONNX QDQ files written operator by operator, with random weights and scales, for comparing kernels."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """A QDQ file in the making: ``activations`` and ``weights`` are int8 or uint8."""

    def __init__(self, activations: str, weights: str, seed: int, size: int) -> None:
        self.random, self.activations, self.weights = np.random.default_rng(seed), activations, weights
        self.image = size, size
        self.nodes, self.constants, self.scales, self.zero_points = [], [], {}, {}
        self.entry = self.quantized("pixels", 1 / 255, int(np.iinfo(activations).min))

    def name(self) -> str:
        return f"t{len(self.nodes)}_{len(self.constants)}"

    def constant(self, values) -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes) -> str:
        name = self.name()
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"node_{name}", **attributes))
        return name

    def quantized(self, real: str, scale: float, zero_point: int | None = None) -> str:
        """A real tensor, through integers."""
        centre = int(np.iinfo(self.activations).min) + int(self.random.integers(90, 160))
        zero = np.array(centre if zero_point is None else zero_point, self.activations)
        affine = self.constant(np.float32(scale)), self.constant(zero)
        back = self.node("DequantizeLinear", self.node("QuantizeLinear", real, *affine), *affine)
        self.scales[back], self.zero_points[back] = float(np.float32(scale)), int(zero)
        return back

    def fixed(
        self, shape: tuple[int, ...], per_channel: bool = True, scale: float = 0.02, axis: int = 0
    ) -> tuple[str, np.ndarray]:
        """A constant in integers, dequantized; and its scales."""
        limits = np.iinfo(self.weights)
        symmetric = self.weights == "int8"
        integers = self.random.integers(-127 if symmetric else 0, limits.max + 1, shape).astype(self.weights)
        n = shape[axis] if per_channel else ()
        scales = self.random.uniform(scale / 5, scale, n).astype(np.float32)
        zeros = np.full(n, 0 if symmetric else 128, self.weights)
        settings = {"axis": axis} if per_channel else {}
        parts = self.constant(integers), self.constant(scales), self.constant(zeros)
        return self.node("DequantizeLinear", *parts, **settings), scales

    def like_activations(self, shape: tuple[int, ...]) -> str:
        """A constant in the activations' integers, dequantized."""
        limits = np.iinfo(self.activations)
        integers = self.random.integers(limits.min, limits.max + 1, shape).astype(self.activations)
        zero = np.array(limits.min + 128, self.activations)
        parts = (
            self.constant(integers),
            self.constant(np.float32(self.random.uniform(0.005, 0.02))),
            self.constant(zero),
        )
        return self.node("DequantizeLinear", *parts)

    def bias(self, x: str, scales: np.ndarray, channels: int) -> str:
        steps = self.random.integers(-2000, 2000, channels).astype(np.int32)
        affine = (np.float32(self.scales[x]) * scales).astype(np.float32)
        zeros = np.zeros(affine.shape, np.int32)
        settings = {"axis": 0} if affine.ndim else {}
        return self.node(
            "DequantizeLinear", self.constant(steps), self.constant(affine), self.constant(zeros), **settings
        )

    def conv(
        self,
        x: str | None = None,
        inputs: int = 3,
        channels: int = 20,
        k: int = 3,
        groups: int = 1,
        relu=None,
        per_channel=True,
        **settings,
    ) -> str:
        x = x or self.entry
        weights, scales = self.fixed((channels, inputs // groups, k, k), per_channel)
        given = {"pads": [k // 2] * 4, "kernel_shape": [k, k], "group": groups} | settings
        out = self.node("Conv", x, weights, self.bias(x, scales, channels), **given)
        spread = self.scales[x] * 70 * float(scales.mean()) * 70 * np.sqrt(inputs // groups * k * k)
        if relu:
            out = self.node(*relu(self, out))
        return self.quantized(out, spread / 40, int(np.iinfo(self.activations).min) if relu else None)

    def write(self, folder: Path, output: str, batch: int | str = "n") -> Path:
        ends = [("pixels", [batch, 3, *self.image]), (output, None)]
        pixels, end = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
        graph = helper.make_graph(self.nodes, "net", [pixels], [end], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(model), folder / "net.onnx")
        return folder / "net.onnx"
