"""Fake quantization against the exporters' files, their runtimes, and torch's own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers.cifar import cifar_resnet
from helpers.scales import CONVOLUTIONS, scales_of, weights_in, weights_of
from helpers.small_networks import FORMATS, PIXELS, SPEC
from torch import nn
from torch.nn import functional

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.export import export
from exporters.files import describe
from exporters.ranges import sources
from harness.networks.victims import logits
from patches.fake_quant import Source
from patches.fake_quant.graph import describe as describe_graph
from patches.fake_quant.graph import layers
from patches.fake_quant.learned import _first_step
from patches.fake_quant.network import fake_quantized, folded, multiplied
from patches.fake_quant.rounding import rounded
from patches.surrogates import build


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 3), (-8, 7)])
def test_rounding_and_its_gradients_are_torchs(low: int, high: int) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(0)) * 3
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    step, scale = (torch.tensor([0.37], requires_grad=True) for _ in range(2))
    weight = torch.randn(200, generator=torch.Generator().manual_seed(1))
    (rounded(ours, step, low, high) * weight).sum().backward()
    reference = torch._fake_quantize_learnable_per_tensor_affine(theirs, scale, torch.zeros(1), low, high, 1.0)
    (reference * weight).sum().backward()
    assert torch.allclose(rounded(ours, step, low, high), reference)
    assert torch.equal(ours.grad, theirs.grad)
    assert torch.allclose(step.grad, scale.grad, rtol=1e-4)
    assert 0 < (ours.grad == 0).float().mean() < 1 or high == 7


def test_a_first_step_is_that_of_the_least_error() -> None:
    normal = np.random.default_rng(0).normal(size=(2, 100_000)).astype(np.float32)
    for levels, best in (((-1, 1), 1.224), ((-2, 2), 0.843)):  # Max 1960, "Quantizing for Minimum Distortion", table II
        assert _first_step(normal, *levels).numpy() == pytest.approx(best, abs=0.06)


def test_the_bits_of_float_round_nothing() -> None:
    network = small.branches()
    float_logits = logits(network, PIXELS)
    same = logits(fake_quantized(network, QuantSpec(32, 32, calibration_images=16), PIXELS), PIXELS)
    assert np.abs(same - float_logits).max() < 1e-4
    errors = []
    for bits in (8, 6, 4, 2):
        quant = QuantSpec(bits, bits, calibration_images=16)
        errors.append(np.abs(logits(build("fake_quant", Source(network, quant, PIXELS)), PIXELS) - float_logits).mean())
    assert errors == sorted(errors)


@pytest.mark.parametrize("signed", [True, False])
def test_what_weights_are_multiplied_with_has_few_levels_and_the_rest_has_many(signed: bool) -> None:
    network = small.resnet()
    quant = QuantSpec(3, 3, activation_signed=signed, calibration_images=16)
    graph = fake_quantized(network, quant, PIXELS)
    few = multiplied(describe_graph(folded(network)))
    assert len(few) == 7  # six convolutions and the linear layer, of the first convolution's input nothing
    seen: dict[str, set[float]] = {}
    for name, module in graph.named_children():
        if name.endswith("_quantizer"):
            module.register_forward_hook(
                lambda _, __, out, name=name: seen.update({name: set(out.unique().tolist())})  # type: ignore[misc]
            )
    logits(graph, PIXELS)
    assert {name.removesuffix("_quantizer") for name, values in seen.items() if len(values) <= 8} >= set(few)
    assert all(len(values) > 8 for name, values in seen.items() if name.removesuffix("_quantizer") not in few)
    for layer in layers(graph).values():
        assert all(len(channel.unique()) <= 7 for channel in layer.weight)


def test_gradients_pass_but_for_what_is_clipped() -> None:
    network = small.resnet()
    x = small.as_input(PIXELS[:8]).requires_grad_()
    for bits, least in ((8, 0.9), (4, 0.3)):
        graph = fake_quantized(network, QuantSpec(bits, bits, calibration_images=16), PIXELS)
        (quantized,) = torch.autograd.grad(graph(x).logsumexp(1).sum(), x)
        (plain,) = torch.autograd.grad(network(x).logsumexp(1).sum(), x)
        assert functional.cosine_similarity(quantized.flatten(), plain.flatten(), dim=0) > least


def test_an_operator_that_is_unknown_is_named() -> None:
    with pytest.raises(UserError, match=r"operator hardswish .* cannot be fake-quantized"):
        fake_quantized(small.Around(functional.hardswish).eval(), SPEC, PIXELS)
    with pytest.raises(UserError, match="is called 2 times"):
        fake_quantized(nn.Sequential(layer := nn.Conv2d(3, 3, 1), layer), SPEC, PIXELS)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["resnet", "branches"])
@pytest.mark.parametrize("quant", [SPEC, replace(SPEC, per_channel=False, calibration="moving_average")])
def test_at_eight_bits_the_scales_are_the_files_and_so_are_the_answers(
    exported: Callable[..., Path], format: str, name: str, quant: QuantSpec
) -> None:
    network = getattr(small, name)()
    path = exported(name, format, quant)
    graph = fake_quantized(network, quant, PIXELS)
    # each converter folds batch normalisation with roundings of its own, which can move a weight that lies halfway
    assert np.isclose(weights_of(path), weights_of(graph), rtol=0, atol=1e-6).mean() > 0.995
    outputs = [o.outputs[0] for o in describe(path).operators if o.name in (*CONVOLUTIONS, "Add", "ADD", "Gemm")]
    source = sources(inner := describe_graph(folded(network)))
    names = [source[o.outputs[0].name] for o in inner.operators if o.name in ("Conv", "Add", "Gemm")]
    steps = [float(getattr(graph, f"{name}_quantizer").step) for name in names]
    scales = [t.scale[0] for t in outputs] if format == "onnx" else None
    if scales:
        assert sorted(scales) == pytest.approx(sorted(steps), rel=1e-4)
    assert all(np.isclose(scales_of(path), step, rtol=1e-4).any() for step in steps)
    found, given = small.file_logits(path, PIXELS), logits(graph, PIXELS)
    assert np.abs(found - given).max() <= 4.01 * scales_of(path)[-1]
    assert (found.argmax(1) == given.argmax(1)).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bits", [6, 3, 2])
def test_few_bits_lie_exactly_in_an_int8_file(tmp_path: Path, format: str, bits: int) -> None:
    network, quant = small.resnet(), replace(SPEC, weight_bits=bits)
    path = small.write(tmp_path, network, format, quant)
    integers = [values for values, _ in weights_in(path)]
    assert len(integers) == 8
    assert {values.dtype for values in integers} == {np.dtype(np.int8)}
    assert {np.abs(values.astype(int)).max() for values in integers} == {2 ** (bits - 1) - 1}
    graph = fake_quantized(network, quant, PIXELS)
    assert weights_of(path) == pytest.approx(weights_of(graph), abs=1e-6)
    assert np.abs(small.file_logits(path, PIXELS) - logits(graph, PIXELS)).max() <= 4.01 * scales_of(path)[-1]


def test_no_file_has_activations_of_few_bits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected w2a8 to w8a8, got w4a4"):
        small.write(tmp_path, small.resnet(), "onnx", replace(SPEC, weight_bits=4, activation_bits=4))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("format", FORMATS)
def test_a_cifar_resnet_answers_as_its_file(cifar, data_dir: Path, tmp_path: Path, format: str) -> None:
    network, images = cifar_resnet(data_dir, 20), cifar["x_test"]
    victim = small.victim("resnet20", 32)
    for bits in (8, 4):
        quant, ranged = QuantSpec(bits), cifar["x_train"][:128]
        made = export(
            network, name=f"w{bits}", victim=victim, format=format, quant=quant, calibration_pixels=ranged,
            folder=tmp_path,
        )  # fmt: skip
        given = logits(fake_quantized(network, quant, ranged), images)
        same = (small.file_logits(tmp_path / made.file, images).argmax(1) == given.argmax(1)).mean()
        assert same >= (0.99 if bits == 8 else 0.98)
        assert (given.argmax(1) == cifar["y_test"]).mean() > (0.905 if bits == 8 else 0.88)
