"""Functions of one tensor as tables over its 256 integers, filled by the runtime's own kernels.

Forward they are exact for whatever a kernel does; backward they have the slope of the real function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError
from backends.device.runtimes import Option, engine
from exporters.files import onnx_cut, tflite_cut
from exporters.files.description import Operator
from patches.twins.network import Quant
from patches.twins.straight_through import looked_up
from patches.twins.uses import no_twin

Real = Callable[[Tensor], Tensor]
TFLITE_REALS: dict[str, Callable[[dict[str, Any]], Real]] = {  # what operators of given attributes compute
    "ABS": lambda _: torch.abs,
    "GELU": lambda given: lambda x: functional.gelu(x, approximate="tanh" if given.get("approximate") else "none"),
    "HARD_SWISH": lambda _: functional.hardswish,
    "LEAKY_RELU": lambda given: lambda x: functional.leaky_relu(x, given["alpha"]),
    "LOGISTIC": lambda _: torch.sigmoid,
    "NEG": lambda _: torch.neg,
    "RELU": lambda _: functional.relu,
    "RELU6": lambda _: functional.relu6,
    "RELU_N1_TO_1": lambda _: functional.hardtanh,
    "RSQRT": lambda _: torch.rsqrt,
    "TANH": lambda _: torch.tanh,
}
REALS = TFLITE_REALS | {"QLinearSigmoid": TFLITE_REALS["LOGISTIC"]}


class Table(nn.Module):
    """A function of one tensor of steps; ``integers`` are its outputs for all integers of the input's type."""

    def __init__(self, integers: NDArray[np.integer], x: Quant, out: Quant, real: Real) -> None:
        super().__init__()
        self.lowest = x.bounds[0]
        reals = (torch.arange(x.bounds[0], x.bounds[1] + 1) * x.scale).requires_grad_()
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(real(reals).sum(), reals)
        self.values: Tensor
        self.slopes: Tensor
        self.register_buffer("values", torch.from_numpy(integers.astype(np.float32)) - out.zero_point)
        slopes = slopes.nan_to_num(0, 0, 0)  # where the function has a pole, or is not defined
        self.register_buffer("slopes", (slopes * x.scale / out.scale).to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return steps of the output."""
        return looked_up(self.values, self.slopes, self.lowest, x)


def table(operator: Operator, x: Quant, out: Quant, path: Path, kernels: str) -> Table:
    """Return an operator's table; one that these kernels do not run by itself has no twin."""
    if parts := operator.attributes.get("parts"):
        raise no_twin(operator, path, f"of {parts} outputs")
    integers = np.arange(x.lowest, x.highest + 1).astype("int8" if x.lowest < 0 else "uint8")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        options: dict[str, Option] = {}
        if kernels == "onnxruntime":
            runtime = engine("onnxruntime")()
            onnx_cut.alone(operator, integers.size, file)
        else:
            runtime = engine("litert")()
            options["kernels"] = kernels
            tflite_cut.alone(path, operator.index, integers.size, file)
        try:
            runtime.load(file, options, 1)
        except UserError as error:
            raise no_twin(operator, path, f"by {kernels}, which do not run it by itself,") from error
        answers = runtime.run(integers[None])
    return Table(answers.ravel(), x, out, REALS[operator.name](operator.attributes))
