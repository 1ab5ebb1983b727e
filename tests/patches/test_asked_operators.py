"""Operators that a twin lets onnxruntime compute: forward its very numbers, backward the real function's derivative."""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.onnx_networks import Network
from helpers.twin_networks import SIZE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from backends.device.errors import UserError
from exporters.files import describe
from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

IMAGES = 4
BATCHES = (1, IMAGES)
DRAWS = settings(
    max_examples=3, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
CHANNELS = 5
PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)


def channels(net: Network, shape: tuple[int, ...]) -> str:
    return net.constant(net.random.uniform(0.1, 1.5, shape).astype(np.float32))


OPERATORS: dict[str, Callable[[Network, str], str]] = {
    "Elu": lambda net, x: net.node("Elu", x, alpha=0.7),
    "Erf": lambda net, x: net.node("Erf", x),
    "Exp": lambda net, x: net.node("Exp", x),
    "HardSigmoid, Mul": lambda net, x: net.node("HardSwish", x),
    "LayerNormalization": lambda net, x: net.node(
        "LayerNormalization", x, channels(net, (SIZE,)), channels(net, (SIZE,)), axis=-1, epsilon=1e-6
    ),
    "PRelu": lambda net, x: net.node("PRelu", x, channels(net, (CHANNELS, 1, 1))),
    "Softplus": lambda net, x: net.node("Softplus", x),
    "Softplus, Tanh": lambda net, x: net.node("Tanh", net.node("Softplus", x)),
    "Pow": lambda net, x: net.node("Pow", x, net.constant(np.float32(2))),
    "Sub": lambda net, x: net.node("Sub", channels(net, ()), x),
    "Tanh": lambda net, x: net.node("Tanh", x),
    "ConvTranspose": lambda net, x: net.node(
        "ConvTranspose", x, channels(net, (CHANNELS, 2, 3, 3)), strides=[2, 2], pads=[1, 0, 0, 1],
        output_padding=[1, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("kind", [*OPERATORS, "Softmax"])
@DRAWS
@given(seed=st.integers(0, 2**32 - 1), ratio=st.floats(1 / 4, 3, width=32))
def test_a_twin_computes_what_onnxruntime_does(activations: str, kind: str, seed: int, ratio: float) -> None:
    net = Network(activations, "int8", seed, SIZE)
    x = net.conv(channels=CHANNELS)
    out = net.node("Softmax", x, axis=-1) if kind == "Softmax" else OPERATORS[kind](net, x)
    with tempfile.TemporaryDirectory() as folder:
        file = net.write(Path(folder), net.quantized(out, ratio / (256 if kind == "Softmax" else 20)))
        assert describe(file).but_for == ("" if kind == "Softmax" else ", ".join(f"1 {k}" for k in kind.split(", ")))
        found = compare_in_batches(twin(file), PIXELS, BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES), found


@pytest.mark.parametrize("kind", OPERATORS)
def test_gradients_are_those_of_the_real_function(tmp_path: Path, kind: str) -> None:
    """Against differences of a smooth stretch of the operator alone, which the runtime computes in float."""
    net = Network("int8", "int8", 3, SIZE)
    file = net.write(tmp_path, net.quantized(OPERATORS[kind](net, net.conv(channels=CHANNELS)), 1 / 20))
    made = copy.deepcopy(twin(file))
    inner = [layer for layer in made.layers if hasattr(layer, "ask")]
    x = (0.3 + 0.8 * torch.rand(1, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(0))).requires_grad_()
    for layer in inner:
        alone = partial(_with_itself, layer)
        out = alone(x)
        towards = torch.cos(torch.arange(float(out.numel()))).reshape(out.shape)
        (gradient,) = torch.autograd.grad((out * towards).sum(), x)
        step = 0.003 * torch.sin(torch.arange(float(x.numel()))).reshape(x.shape)
        change = ((alone(x + step) - alone(x - step)) * towards).sum().item() / 2
        assert change == pytest.approx((gradient * step).sum().item(), rel=0.02, abs=1e-3)


def _with_itself(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return layer(*[x] * len(layer.quants))


def test_what_mixes_images_is_refused(tmp_path: Path) -> None:
    net = Network("int8", "int8", 0, SIZE)
    mixed = net.node("Softmax", net.node("Tanh", net.conv(channels=CHANNELS)), axis=0)
    made = twin(net.write(tmp_path, net.quantized(mixed, 1 / 256)))
    with pytest.raises(UserError, match=r"operator .*Softmax \(number \d+\) has no twin in this use: along the axis"):
        made(torch.zeros(2, 3, SIZE, SIZE))
