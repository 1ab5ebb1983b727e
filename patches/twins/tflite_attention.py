"""Convert TFLite's operators of attention and normalisation: products of two tensors, softmax, squared differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from exporters.files import tflite_cut
from exporters.files.description import Operator
from patches.twins import tflite_kernels as kernel
from patches.twins.asked import Asked, TfliteKernel
from patches.twins.fixed_point import factor
from patches.twins.layers import Aligned, MatrixProducts, Rounded, Sequential
from patches.twins.network import Quant
from patches.twins.scaling import FixedPoint
from patches.twins.straight_through import rounded
from patches.twins.uses import no_twin, of_one, quant_of


def _matrix_product(operator: Operator, kernels: str, path: Path) -> nn.Module:
    a, b = (quant_of(tensor, path) for tensor in operator.inputs)
    out = quant_of(operator.outputs[0], path)
    ranks = {len(of_one(tensor)) for tensor in (*operator.inputs, *operator.outputs)}
    if len(ranks) > 1 or any(tensor.values is not None for tensor in operator.inputs):
        raise no_twin(operator, path, "of tensors of different ranks, or of a constant,")
    turned = bool(operator.attributes.get("adjX")), bool(operator.attributes.get("adjY"))
    scaled = kernel.scale_products(kernels, operator.name, a, [b.scale], out, of_one(operator.outputs[0]))
    largest = max(map(abs, a.bounds)) * max(map(abs, b.bounds))
    return Sequential(MatrixProducts(largest, turned), Rounded(scaled, out.bounds, (a.scale * b.scale / out.scale,)))


def _softmax(operator: Operator, kernels: str, path: Path) -> nn.Module:
    """Convert a softmax along the last axis, which the runtime itself computes for the twin."""
    if kernels == "tosa":
        raise no_twin(operator, path, "by tosa, before the end,")
    x, out = quant_of(operator.inputs[0], path), quant_of(operator.outputs[0], path)
    beta = operator.attributes.get("beta", 1.0)
    model = tflite_cut.rows(path, operator.index)
    return Asked(TfliteKernel(model, kernels), lambda real: torch.softmax(beta * real, -1), (x, out), axes=(-1,))


class SquaredDifference(nn.Module):
    """The square of the difference of two tensors of steps: TFLite scales both with 7 spare bits, then the square."""

    def __init__(self, a: Quant, b: Quant, out: Quant) -> None:
        super().__init__()
        twice = 2 * max(a.scale, b.scale)
        self.scales, self.quant = (a.scale, b.scale), out
        self.one, self.other, self.out = (
            FixedPoint(factor([real]), kernel.PORTABLE)
            for real in (a.scale / twice, b.scale / twice, twice * twice / ((1 << 14) * out.scale))
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return steps of the output."""
        real = a.detach() * self.scales[0] - b.detach() * self.scales[1]
        slopes = [2 * real * scale / self.quant.scale for scale in (self.scales[0], -self.scales[1])]
        return rounded(self._square, *self.quant.bounds, slopes, a, b)

    def _square(self, a: Tensor, b: Tensor) -> Tensor:
        difference = self.one(a.to(torch.int64) << 7) - self.other(b.to(torch.int64) << 7)
        square: Tensor = self.out(difference * difference)
        return square


def _squared_difference(operator: Operator, kernels: str, path: Path) -> nn.Module:
    if kernels == "xnnpack" or any(tensor.values is not None for tensor in operator.inputs):
        raise no_twin(operator, path, f"by {kernels}, or of a constant,")
    a, b, out = (quant_of(tensor, path) for tensor in (*operator.inputs, operator.outputs[0]))
    return Aligned(SquaredDifference(a, b, out), len(of_one(operator.outputs[0])) + 1)


ATTENTION: dict[str, Callable[[Operator, str, Path], nn.Module]] = {
    "BATCH_MATMUL": _matrix_product, "SOFTMAX": _softmax, "SQUARED_DIFFERENCE": _squared_difference,
}  # fmt: skip
