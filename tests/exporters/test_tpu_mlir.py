"""Files for Sophgo's chips: the scales of their spec, what the chip's model answers, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import small_networks as small
from helpers import toolchains
from helpers.tiny_torch import cvimodel_file
from torch import nn

from backends.conformance import networks
from backends.device import tpu_mlir
from backends.device.errors import UserError
from backends.device.toolchains import TPU_MLIR
from exporters import tpu_mlir as exporter
from exporters.files import describe, require_integer
from exporters.toolchains import require_answers
from exporters.tpu_mlir_proof import require_scales
from harness.networks.architectures import build
from harness.networks.victims import Normalised
from harness.networks.weights import load_weights, read_weights

SPEC = replace(small.SPEC, symmetric_activations=True)
TINY = networks.file("cvimodel")


@pytest.fixture(scope="module")
def network():
    return small.resnet()


@pytest.fixture(scope="module", params=["bmodel", "cvimodel"])
def file(network, tmp_path_factory, request):
    toolchains.require(TPU_MLIR)
    return small.write(tmp_path_factory.mktemp("sophgo"), network, request.param, SPEC)


@pytest.mark.slow
def test_all_of_a_network_is_integer(file):
    found = require_integer(file)
    assert {name: found.counts[name] for name in ("Conv2D", "Add", "MatMul")} == {"Conv2D": 8, "Add": 3, "MatMul": 1}
    types = {output.dtype for operator in found.operators for output in operator.outputs if output.scale}
    assert types == ({"int8", "uint8"} if file.suffix == ".bmodel" else {"int8"})


@pytest.mark.slow
def test_its_logits_lie_on_the_steps_that_its_calibration_images_imply(network, file):
    """Of the largest logit of the calibration images, computed by torch here."""
    largest = np.abs(small.torch_logits(network, small.PIXELS[: SPEC.calibration_images])).max()
    steps = toolchains.logits(TPU_MLIR, file, small.PIXELS) / (largest / 127)
    share = 1e-4 if file.suffix == ".bmodel" else 2**-7  # CV181x gives bfloat16
    np.testing.assert_allclose(steps, np.rint(steps), rtol=share, atol=1e-4)
    assert np.abs(steps).max() <= 128


@pytest.mark.slow
def test_it_computes_nearly_what_torch_does(network, file):
    found, expected = toolchains.logits(TPU_MLIR, file, small.PIXELS), small.torch_logits(network, small.PIXELS)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.slow
def test_a_calibration_of_its_own_narrows_the_ranges(network, tmp_path):
    toolchains.require(TPU_MLIR)
    scales = [
        {o.outputs[0].name: o.outputs[0].scale[0] for o in describe(one).operators if o.outputs[0].scale}
        for one in (
            small.write(tmp_path / name, network, "cvimodel", replace(SPEC, calibration=name))
            for name in ("minmax", "kl")
        )
    ]
    assert scales[0].keys() == scales[1].keys()
    assert all(scales[1][name] <= scales[0][name] * 1.001 for name in scales[0])
    assert any(scales[1][name] < scales[0][name] * 0.9 for name in scales[0])


@pytest.mark.slow
@pytest.mark.data
def test_a_compiled_file_that_answers_otherwise_than_the_network_is_refused(data_dir, cifar, tmp_path, monkeypatch):
    """As a ResNet-20's for CV181x with layer groups, which Sophgo's model of the chip does not compute as compiled."""
    toolchains.require(TPU_MLIR)
    monkeypatch.setitem(exporter.CHIPS, "cvimodel", ("cv181x", []))
    file = data_dir / "cifar10" / "resnet20.th"
    inner = build("resnet20", 10, 0)
    load_weights(inner, read_weights(file), file)
    network = Normalised(inner, small.MEAN, small.STD).eval()
    images = {"victim": small.victim(size=32), "calibration_pixels": cifar["x_train"][:16]}
    with pytest.raises(UserError, match="model_deploy failed: 'logits_Gemm_f32' is not what the network"):
        small.write(tmp_path, network, "cvimodel", SPEC, **images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_network_that_it_cannot_take_is_one_line(tmp_path):
    toolchains.require(TPU_MLIR)
    with pytest.raises(UserError, match=r"small: tpu-mlir's model_deploy failed: Erf \(erf_Erf\): unimpl") as raised:
        small.write(tmp_path, small.Around(lambda x: x.erf()).eval(), "cvimodel", SPEC)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_the_file_of_conformance_is_that_which_the_constants_make(tmp_path):
    toolchains.require(TPU_MLIR)
    assert tpu_mlir.read(TINY).text == tpu_mlir.read(cvimodel_file(tmp_path / "tiny.cvimodel")).text


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "is asked for integers: give its files precision w8a8"),
        (small.SPEC, "symmetric_activations"),
        (replace(SPEC, weight_bits=4), "got w4a8 s8s4"),
        (replace(SPEC, per_channel=False), "per_channel"),
        (replace(SPEC, activation_signed=False), "got w8a8 u8s8"),
    ],
)
def test_what_its_quantizer_has_no_way_for_is_refused_before_it_is_installed(tmp_path, spec, says):
    with pytest.raises(UserError, match=says):
        small.write(tmp_path, nn.Identity().eval(), "bmodel", spec)


def test_a_file_is_read_without_its_toolchain():
    found = require_integer(TINY)
    assert found.counts == {"Conv2D": 1, "AvgPool2D": 1, "quant": 1, "Reshape": 1, "MatMul": 1, "Cast": 1}
    convolution = next(one for one in found.operators if one.name == "Conv2D")
    assert convolution.inputs[0].scale == pytest.approx((1 / 127,))
    held = networks.constants()["w"]
    scales = np.abs(held).reshape(5, -1).max(1) / 127
    np.testing.assert_allclose(convolution.inputs[1].scale, scales, rtol=1e-6)
    np.testing.assert_array_equal(convolution.inputs[1].values, np.rint(held / scales[:, None, None, None]))


def test_its_scales_are_held_against_the_table():
    found = describe(TINY)
    wanted = {o.outputs[0].name: (o.outputs[0].scale[0] * 127, -1.0) for o in found.operators if o.outputs[0].scale}
    wanted["pixels"] = (1.0, 0.0)
    require_scales(found, (), wanted)
    name = next(o.outputs[0].name for o in found.operators if o.name == "Conv2D")
    with pytest.raises(UserError, match=rf"tiny\.cvimodel: the scale of '{name}' is not what its QuantSpec implies"):
        require_scales(found, (), wanted | {name: (wanted[name][0] * 1.01, -1.0)})


def test_a_layer_unlike_the_float_network_is_named():
    layers = [("first", 0.99), ("second", 0.58), ("third", 0.4)]
    with pytest.raises(UserError, match=r"a\.bmodel: from 'second' on, .* \(cosine 0\.58\)"):
        require_answers(Path("a.bmodel"), TPU_MLIR, layers)
    with pytest.raises(UserError, match="from 'zeros' on"):
        require_answers(Path("a.bmodel"), TPU_MLIR, [("zeros", float("nan"))])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[: len(content) - 40], "has no network for tpu-mlir's interpreter behind it"),
        (lambda content: content[: content.index(b"PK\3\4")], "has no network for tpu-mlir's interpreter behind it"),
        (lambda content: b"", "has no network for tpu-mlir's interpreter behind it"),
    ],
    ids=["cut", "a vendor's", "empty"],
)
def test_a_file_without_what_the_interpreter_runs_is_refused(tmp_path, change, says):
    file = tmp_path / "theirs.cvimodel"
    file.write_bytes(change(TINY.read_bytes()))
    with pytest.raises(UserError, match=rf"theirs\.cvimodel: {says}"):
        describe(file)


def test_a_damaged_network_is_one_line(tmp_path):
    program = tpu_mlir.read(TINY)
    content = TINY.read_bytes()
    compiled = content[: content.index(b"PK\3\4")]
    for text in ("", program.text.replace("tensor<", "tensor "), program.text.replace("#loc", "#lok")):
        file = tmp_path / "damaged.cvimodel"
        file.write_bytes(compiled)
        tpu_mlir.append(file, text, program.weights)
        with pytest.raises(UserError, match=r"damaged\.cvimodel: its network") as raised:
            describe(file)
        assert "\n" not in str(raised.value)


def test_what_lies_before_the_archive_is_what_was_compiled(tmp_path):
    file = tmp_path / "a.cvimodel"
    file.write_bytes(b"compiled")
    tpu_mlir.append(file, 'module.weight_file = "x.npz" module.chip = "cv181x"', b"constants")
    assert file.read_bytes().startswith(b"compiledPK")
    text = 'module.weight_file = "weights.npz" module.chip = "cv181x"'
    assert tpu_mlir.read(file) == (text, b"constants", "cv181x")
