"""What ONNX operators compute on reals: what a twin differentiates where it lets onnxruntime compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Given = dict[str, Any]  # an operator's attributes
Real = Callable[..., Tensor]


class Function(NamedTuple):
    """A function of an operator's inputs, given its attributes; and the axes along which it mixes values."""

    of: Callable[[Given], Real]
    axes: Callable[[Given], tuple[int, ...]] = lambda _: ()


def _layer_norm(given: Given) -> Real:
    axis, epsilon = given.get("axis", -1), given.get("epsilon", 1e-5)

    def normalised(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        out = functional.layer_norm(x, x.shape[axis:], eps=epsilon) * scale
        return out if shift is None else out + shift

    return normalised


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(low, high)


def _conv_transpose(given: Given) -> Real:
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    more = given.get("output_padding", (0, 0))

    def transposed(x: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
        out = functional.conv_transpose2d(
            x, weights, bias, given.get("strides", 1), 0, 0, given.get("group", 1), given.get("dilations", 1)
        )
        out = functional.pad(out, (0, more[1], 0, more[0]))
        return out[:, :, top : out.shape[2] - bottom, left : out.shape[3] - right]

    return transposed


def _always(function: Real) -> Function:
    return Function(lambda _: function)


def _axis(default: int) -> Callable[[Given], tuple[int, ...]]:
    return lambda given: (given.get("axis", default),)


def _gelu(given: Given) -> Real:
    approximate = "tanh" if given.get("approximate") == b"tanh" else "none"
    return lambda x: functional.gelu(x, approximate=approximate)


FUNCTIONS: dict[str, Function] = {
    "Add": _always(torch.add), "Sub": _always(torch.sub), "Mul": _always(torch.mul), "Div": _always(torch.div),
    "Pow": _always(torch.pow), "Abs": _always(torch.abs), "Neg": _always(torch.neg), "Exp": _always(torch.exp),
    "Log": _always(torch.log), "Sqrt": _always(torch.sqrt), "Reciprocal": _always(torch.reciprocal),
    "Erf": _always(torch.erf), "Tanh": _always(torch.tanh), "Sigmoid": _always(torch.sigmoid),
    "Relu": _always(torch.relu), "Softplus": _always(functional.softplus), "Mish": _always(functional.mish),
    "HardSwish": _always(functional.hardswish), "PRelu": _always(_prelu), "Clip": _always(_clip),
    "Greater": _always(torch.gt), "Where": _always(torch.where), "MatMul": _always(torch.matmul),
    "Elu": Function(lambda given: lambda x: functional.elu(x, given.get("alpha", 1.0))),
    "LeakyRelu": Function(lambda given: lambda x: functional.leaky_relu(x, given.get("alpha", 0.01))),
    "HardSigmoid": Function(
        lambda given: lambda x: (given.get("alpha", 0.2) * x + given.get("beta", 0.5)).clamp(0, 1)
    ),
    "Gelu": Function(_gelu),
    "FastGelu": _always(lambda x, bias=None: functional.gelu(x if bias is None else x + bias, approximate="tanh")),
    "BiasGelu": _always(lambda x, bias: functional.gelu(x + bias)),
    "QuickGelu": Function(lambda given: lambda x: x * torch.sigmoid(given.get("alpha", 1.702) * x)),
    "Softmax": Function(lambda given: lambda x: torch.softmax(x, given.get("axis", -1)), _axis(-1)),
    "QLinearSoftmax": Function(lambda given: lambda x: torch.softmax(x, given.get("axis", -1)), _axis(-1)),
    "LayerNormalization": Function(_layer_norm, _axis(-1)),
    "ConvTranspose": Function(_conv_transpose),
}  # fmt: skip
