"""ESP-DL's kernels of 8-bit integers in numpy, by the rules of its C sources for the ESP32-P4.

Sums are exact; they are shifted to the scale of the output, half to even, and saturate (``dl_tool.cpp``). Additions
take integers as they are (``dl_base_add.cpp``); a mean is the sum times a float32 (``dl_base_avg_pool2d.cpp``).
"""

import numpy as np

from backends.device.esp_ppq import Graph, Node

BLOCK = 16  # output channels whose weights lie together


def executed(graph: Graph, images: np.ndarray) -> np.ndarray:
    """What the integers of a file give for those of images ``(n, 3, h, w)``."""
    rows = []
    axes = (0, 1, 2, 3) if graph.values[graph.inputs[0]].shape[1] == 3 else (0, 2, 3, 1)
    for image in images:
        values = {graph.inputs[0]: image[None].transpose(axes).astype(np.int64)}
        for value in graph.values.values():
            if value.content is not None:
                values[value.name] = np.frombuffer(value.content, value.dtype).reshape(value.shape)
        for node in graph.nodes:
            values[node.outputs[0]] = KERNELS[node.operator](Call(graph, node, values))
        rows.append(values[graph.outputs[0]])
    return np.concatenate(rows).astype(np.int8)


class Call:
    """A node with its values and their exponents."""

    def __init__(self, graph: Graph, node: Node, values: dict[str, np.ndarray]) -> None:
        self.node = node
        self.given = [values[name] for name in node.inputs]
        self.exponents = [np.array(graph.values[name].exponents) for name in (*node.inputs, *node.outputs)]

    def rescaled(self, integers: np.ndarray, exponents: np.ndarray) -> np.ndarray:
        """Shift integers of these exponents to the output's, activate and saturate."""
        shifted = np.rint(integers * 2.0 ** (exponents - self.exponents[-1])).astype(np.int64)
        if self.node.attributes.get("activation") == "Relu":
            shifted = np.maximum(shifted, 0)
        return shifted.clip(-128, 127)


def convolution(call: Call) -> np.ndarray:
    x, weights, *bias = call.given
    h, w, c, n = weights.shape
    whole = n // BLOCK * BLOCK
    blocks = weights.ravel()[: whole * h * w * c].reshape(-1, h, w, c, BLOCK).transpose(0, 4, 1, 2, 3)
    rest = weights.ravel()[whole * h * w * c :].reshape(-1, h, w, c)
    filters = np.concatenate([blocks.reshape(-1, h, w, c), rest]).astype(np.int64)
    if call.node.operator == "Gemm":
        sums = x @ filters.reshape(n, c).T
    else:
        top, left, bottom, right = call.node.attributes["pads"]
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
        down, across = call.node.attributes["strides"]
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), (1, 2))[:, ::down, ::across]
        sums = np.einsum("nyxchw,ohwc->nyxo", windows, filters)
    return call.rescaled(sum(bias, sums), call.exponents[0] + call.exponents[1])


def addition(call: Call) -> np.ndarray:
    a, b = call.given
    return (a.astype(np.int64) + b).clip(-128, 127)


def product(call: Call) -> np.ndarray:
    a, b = call.given
    return call.rescaled(a.astype(np.int64) * b, call.exponents[0] + call.exponents[1])


def rescaling(call: Call) -> np.ndarray:
    return call.rescaled(call.given[0], call.exponents[0])


def relu(call: Call) -> np.ndarray:
    return np.maximum(rescaling(call), 0)


def mean(call: Call) -> np.ndarray:
    (x,) = call.given
    area = np.float32(1) / np.float32(x.shape[1] * x.shape[2])
    scale = np.float32(2.0 ** call.exponents[0]) * area * np.float32(2.0 ** -call.exponents[-1])
    return np.rint(x.sum((1, 2), keepdims=True).astype(np.float32) * scale).astype(np.int64).clip(-128, 127)


def sliced(call: Call) -> np.ndarray:
    x, starts, ends, axes, steps = call.given
    cuts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return x[tuple(cuts)]


def pad(call: Call) -> np.ndarray:
    x, pads, *_ = call.given
    return np.pad(x, list(zip(pads[: x.ndim], pads[x.ndim :], strict=True)))


KERNELS = {
    "Add": addition,
    "Conv": convolution,
    "Gemm": convolution,
    "GlobalAveragePool": mean,
    "Mul": product,
    "Pad": pad,
    "Relu": relu,
    "RequantizeLinear": rescaling,
    "Reshape": lambda call: call.given[0].reshape(call.given[1]),
    "Slice": sliced,
    "Transpose": lambda call: call.given[0].transpose(call.node.attributes["perm"]),
}
