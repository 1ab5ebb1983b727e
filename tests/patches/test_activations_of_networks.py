"""Functions between a convolution and a linear layer, exported: their twins compute every integer, in float or not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import small_networks as small
from helpers.small_networks import PIXELS, SPEC
from torch import Tensor, nn
from torch.nn import functional

from exporters.files import describe
from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

ALLOWED = ("Elu", "Gelu", "Greater", "LayerNormalization", "PRelu", "Softplus", "Tanh")
ALLOWED += ("EXP", "GREATER", "GREATER_EQUAL", "LOG")  # of LiteRT


class Normalised(nn.LayerNorm):
    """Layer normalisation over the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape).permute(0, 3, 1, 2)


FUNCTIONS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {  # and what onnxruntime and LiteRT compute in float
    "PReLU": (lambda: nn.PReLU(8, 0.2), "1 PRelu", ""),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), "", ""),
    "GELU": (nn.GELU, "1 Gelu", ""),
    "Tanh": (nn.Tanh, "1 Tanh", ""),
    "ELU": (nn.ELU, "1 Elu", "1 EXP, 1 GREATER_EQUAL"),
    "Mish": (nn.Mish, "1 Softplus, 1 Tanh", "1 EXP, 1 LOG, 1 GREATER"),
    "Softplus": (nn.Softplus, "1 Softplus, 1 Greater", "1 EXP, 1 LOG, 1 GREATER"),
    "LayerNorm": (lambda: Normalised(8), "1 LayerNormalization", ""),
    "Softmax": (lambda: nn.Softmax(1), "", ""),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(8, 8, 2, 2), "", ""),
}
CASES = [
    pytest.param(
        name, format, marks=[] if (name, format) in (("Mish", "tflite"), ("ELU", "onnx")) else pytest.mark.slow
    )
    for name in FUNCTIONS
    for format in small.FORMATS
]


class Flattened(nn.Module):
    """A function whose values are moved before they are quantized."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, 2, 1)
        self.function = function
        self.linear = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(self.convolution(x)).flatten(1))


@pytest.mark.parametrize("function", [nn.ELU(), nn.GELU()])
def test_what_is_moved_after_a_float_operator_is_quantized(tmp_path: Path, function: nn.Module) -> None:
    file = small.write(tmp_path, Flattened(function).eval(), "onnx", replace(SPEC, allow_float=ALLOWED))
    (found,) = compare_in_batches(twin(file), PIXELS, (7,))
    assert found.equal == 1.0


@pytest.mark.parametrize(("name", "format"), CASES)
def test_twins_compute_every_integer_around_them(tmp_path: Path, name: str, format: str) -> None:
    make, onnx, tflite = FUNCTIONS[name]
    file = small.write(tmp_path, small.Around(make()).eval(), format, replace(SPEC, allow_float=ALLOWED))
    assert describe(file).but_for == (onnx if format == "onnx" else tflite)
    for kernels in ("xnnpack", "builtin", "reference") if format == "tflite" else (None,):
        found = compare_in_batches(twin(file, kernels), PIXELS, (1, 7))
        assert [one.equal for one in found] == [1.0] * 2
