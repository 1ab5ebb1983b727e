"""Convert the operators that LiteRT computes in float, elementwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.files import tflite_cut
from exporters.files.description import Operator
from patches.twins.asked import Asked, TfliteKernel
from patches.twins.network import REALS
from patches.twins.uses import no_twin, of_one

Real = Callable[..., Tensor]
FLOATS: dict[str, Callable[[dict[str, Any]], Real]] = {
    "ELU": lambda _: functional.elu,
    "EXP": lambda _: torch.exp,
    "GREATER": lambda _: torch.gt,
    "GREATER_EQUAL": lambda _: torch.ge,
    "LEAKY_RELU": lambda given: lambda x: functional.leaky_relu(x, given["alpha"]),
    "LESS": lambda _: torch.lt,
    "LESS_EQUAL": lambda _: torch.le,
    "LOG": lambda _: torch.log,
    "SELECT": lambda _: torch.where,
    "SELECT_V2": lambda _: torch.where,
}


def asked(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert an operator that LiteRT itself computes for the twin: on tensors of one shape, and numbers."""
    constants = {i: t.values for i, t in enumerate(operator.inputs) if t.values is not None}
    taken = [tensor for tensor in operator.inputs if tensor.values is None]
    if {of_one(tensor) for tensor in taken} != {of_one(operator.outputs[0])}:
        raise no_twin(operator, path, "on tensors of different shapes")
    if any(values.size != 1 for values in constants.values()):
        raise no_twin(operator, path, "with a constant tensor")
    real = FLOATS[operator.name](operator.attributes)
    model = tflite_cut.rows(path, operator.index)
    return Asked(TfliteKernel(model, kernels), real, [REALS] * (len(taken) + 1), constants)
