"""Which tensor has which range: the rules of both formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.calibration import SMALLEST_SPAN, Floats, Range, activation_affine, weight_scales
from exporters.files.description import Description, Operator, Tensor

# The output has the input's scale: no kernel rescales here.
AS_INPUT = {
    "AveragePool", "DepthToSpace", "Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze", "AVERAGE_POOL_2D", "DEPTH_TO_SPACE", "GATHER", "MAX_POOL_2D", "PAD", "RESHAPE",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
}  # fmt: skip
# An input that goes nowhere else has the output's scale: an activation is folded, or parts are joined.
AS_OUTPUT = {"Clip", "Concat", "LeakyRelu", "Relu", "CONCATENATION", "PACK", "PADV2", "SELECT", "SELECT_V2"}
# TFLite's kernels prescribe these; both formats get them.
FIXED: dict[str, Range] = {
    **dict.fromkeys(("Sigmoid", "LOGISTIC", "Softmax", "SOFTMAX"), (0.0, 255 / 256)),
    **dict.fromkeys(("Tanh", "TANH"), (-1.0, 127 / 128)),
}
PIXELS: Range = (0.0, 1.0)
WEIGHTED = {"Conv", "Gemm", "MatMul", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}  # their input 1 is the weights
ARITHMETIC = {"Add", "Div", "Mul", "Sub", "ADD", "DIV", "MUL", "SUB"}
SMALLEST_SCALE = 1e-9 / 127
INT32 = 2**31 - 1


def sources(network: Description) -> dict[str, str]:
    """Map each activation of a float file to the one whose range it shares, mostly itself."""
    of = {t.name: t.name for t in network.inputs}
    for operator in network.operators:
        for tensor in _activations(operator.outputs):
            of[tensor.name] = operator.inputs[0].name if operator.name in AS_INPUT else tensor.name
    for name, joined in _joined(network).items():
        if len(joined) == 1:
            of[name] = joined[0]
    return {name: _follow(of, name) for name in of}


def to_collect(network: Description) -> list[str]:
    """List the activations to calibrate, in order of execution."""
    if not network.operators:
        raise UserError(
            "the network's output is the same for every image, so there is nothing to export: is it trained?"
        )
    fixed = _pixels(network) | _prescribed(network)
    return [name for name in dict.fromkeys(sources(network).values()) if name not in fixed]


def resolve(network: Description, collected: Mapping[str, Range]) -> dict[str, Range]:
    """Return the range of every activation and constant operand, from those collected.

    Pixels have [0, 1], unless they are among those.
    """
    known = {**_pixels(network), **collected, **_prescribed(network)}
    ranges = {name: known[source] for name, source in sources(network).items()}
    for name, joined in _joined(network).items():
        # Parts of several joins keep their own scale and are rescaled, except where the joins agree.
        spans = {ranges[other] for other in joined}
        if len(spans) == 1:
            ranges[name] = spans.pop()
    return ranges | _constants(network)


def with_vanishing_means(network: Description, collected: Mapping[str, Range]) -> dict[str, Range]:
    """Return the ranges, but for a mean that is always 0, as that of a normalised tensor is, the range of that tensor.

    Litert-torch writes layer normalisation operator by operator; the products of such a mean get its range too.
    """
    of, ranges = sources(network), dict(collected)
    vanishing = set()
    for operator in network.operators:
        inputs = [of[tensor.name] for tensor in _activations(operator.inputs)]
        out = of[operator.outputs[0].name] if operator.name in ("MEAN", "MUL", "SUB") else ""
        of_mean = [name for name in inputs if operator.name == "MEAN" or name in vanishing]
        if out in ranges and of_mean and ranges[out][1] - ranges[out][0] <= SMALLEST_SPAN:
            ranges[out] = ranges[of_mean[0]]
            vanishing.add(out)
    return ranges


class Weights(NamedTuple):
    """Symmetric quantization of a weight tensor: one scale per channel along ``axis``, or a single one."""

    scales: NDArray[np.float64]
    axis: int | None


Learned = Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]  # weights, output channels first, and their scales


def weights(
    network: Description, ranges: Mapping[str, Range], spec: QuantSpec, learned: Learned = ()
) -> dict[str, Weights]:
    """Return the scales of every weight tensor of a float file: ``max |w| / (2^(bits - 1) - 1)``, or learned ones.

    A channel whose weights almost vanish beside its bias, as in pruned or long-trained networks, gets the larger scale
    at which the bias, whose scale is the product of the input's and the weights', fits 32 bits.
    """
    found = {}
    for operator in network.operators:
        if operator.name not in WEIGHTED:
            continue
        data, weight, *bias = operator.inputs
        if weight.values is None:
            continue
        constant = bias[0].values if bias else None
        unit = 1.0 if constant is None else activation_affine(data.name, ranges[data.name], spec).scale
        found[weight.name] = quantized_weights(weight.values, channels(operator), constant, unit, spec, learned)
    return found


def quantized_weights(
    values: Floats, axis: int, bias: Floats | None, unit: float, spec: QuantSpec, learned: Learned = ()
) -> Weights:
    """Return the scales of a weight tensor, whose output channels lie along `axis`; `unit` is its input's scale."""
    along = axis if spec.per_channel else None
    scales = _known(values, axis, learned) if learned else weight_scales(values, along, spec.weight_bits)
    scales = np.maximum(scales, SMALLEST_SCALE)
    if bias is not None:
        largest = np.abs(bias.astype(np.float64))
        scales = np.maximum(scales, (largest if spec.per_channel else largest.max()) * 1.0001 / INT32 / unit)
    return Weights(scales, along)


def _known(weight: Floats, axis: int, learned: Learned) -> NDArray[np.float64]:
    """Find the learned scales of a weight tensor by its values: names and order differ between formats."""
    wanted = by_channel(weight, axis)
    for values, scales in learned:
        found = by_channel(values, 0)
        if found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-4, atol=1e-6):
            return scales
    raise UserError(f"the file has weights {weight.shape} without learned scales: is it another network's?")


def by_channel(weight: Floats, axis: int) -> Floats:
    """Sort each channel into a row, which no layout changes."""
    return np.sort(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1), axis=1)


def channels(operator: Operator) -> int:
    """Return the axis of the output channels of an operator's weights."""
    if operator.name == "DEPTHWISE_CONV_2D":
        return 3
    if operator.name == "MatMul" or (operator.name == "Gemm" and not operator.attributes.get("transB")):
        return 1
    return 0


def _constants(network: Description) -> dict[str, Range]:
    """Return the ranges of constant operands; all zeros fit any range."""
    found = {}
    for operator in network.operators:
        if operator.name in ARITHMETIC:
            for tensor in operator.inputs:
                if tensor.values is not None:
                    low, high = float(tensor.values.min()), float(tensor.values.max())
                    found[tensor.name] = (low, high) if low or high else PIXELS
    return found


def _activations(tensors: Iterable[Tensor]) -> Iterable[Tensor]:
    return (t for t in tensors if t.is_float and t.values is None)


def _joined(network: Description) -> dict[str, list[str]]:
    """Map activations that feed only operators of `AS_OUTPUT` to their outputs, unless a scale is imposed on them."""
    imposed = {t.name for t in (*network.inputs, *network.outputs)}
    imposed |= {t.name for o in network.operators if o.name in AS_INPUT or o.name in FIXED for t in o.outputs}
    joined: dict[str, list[str]] = {}
    for operator in network.operators:
        for tensor in _activations(operator.inputs):
            if operator.name in AS_OUTPUT and operator.attributes.get("alpha", 0.0) == 0:  # a leaky ReLU is no ReLU
                joined.setdefault(tensor.name, []).append(operator.outputs[0].name)
            else:
                imposed.add(tensor.name)
    return {name: outputs for name, outputs in joined.items() if name not in imposed}


def _follow(of: Mapping[str, str], name: str) -> str:
    while of.get(name, name) != name:
        name = of[name]
    return name


def _prescribed(network: Description) -> dict[str, Range]:
    return {t.name: FIXED[o.name] for o in network.operators if o.name in FIXED for t in o.outputs}


def _pixels(network: Description) -> dict[str, Range]:
    return {t.name: PIXELS for t in network.inputs}
