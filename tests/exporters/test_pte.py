"""Files for ExecuTorch: what XNNPACK takes of a network, with the scales of its spec, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import executorch
from helpers import small_networks as small
from helpers.tiny_torch import pte_file
from torch import nn

from backends.conformance import networks
from backends.device.errors import UserError
from backends.device.runtimes import engine
from exporters.calibration import activation_affine
from exporters.files import describe, require_integer
from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

SPEC = replace(small.SPEC, calibration="moving_average", calibration_batch=4)


@pytest.fixture(scope="module", autouse=True)
def _executorch():
    executorch.require()


@pytest.fixture(scope="module")
def network():
    return executorch.mixed()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    return small.write(tmp_path_factory.mktemp("pte"), network, "pte", SPEC)


@pytest.mark.slow
def test_all_of_a_network_is_integer_in_one_delegate(file):
    found = require_integer(file)
    assert found.signature == "s8s8"
    assert {t.name.partition(".")[0] for o in found.operators for t in o.outputs} == {"delegate", "value"}
    assert found.counts == {
        "StaticReshape": 5, "Convert": 4, "StaticTranspose": 4, "Conv2d": 3, "Add": 2, "StaticSlice": 2,
        "Multiply": 1, "DepthwiseConv2d": 1, "StaticConstantPad": 1, "Concatenate2": 1, "MaxPooling2d": 1,
        "GlobalAvgPooling2d": 1, "FullyConnected": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_scales_are_those_that_the_moving_average_implies(network, file):
    """Of the images and the logits, both computed here: a range begins with the first batch."""
    found = describe(file)
    assert found.inputs[0].scale == pytest.approx((1 / 255,))
    assert found.inputs[0].zero_point == (-128,)
    batches = np.split(small.torch_logits(network, small.PIXELS[: SPEC.calibration_images]), 4)
    low, high = batches[0].min(), batches[0].max()
    for batch in batches[1:]:
        low, high = 0.95 * low + 0.05 * batch.min(), 0.95 * high + 0.05 * batch.max()
    expected = activation_affine("logits", (low, high), SPEC)
    assert found.outputs[0].scale == pytest.approx((expected.scale,), rel=1e-4)
    assert found.outputs[0].zero_point == (expected.zero_point,)


@pytest.mark.slow
def test_its_twin_computes_every_integer(file):
    """Of constants that the program keeps, of what is padded in float, of clips, shortcuts and parts."""
    found = compare_in_batches(twin(file), small.PIXELS, (1, len(small.PIXELS)))
    assert [(one.equal, one.largest) for one in found] == [(1.0, 0), (1.0, 0)]


@pytest.mark.slow
def test_it_computes_nearly_what_torch_does_on_the_steps_of_its_output(network, file):
    found, expected = executorch.logits(file, small.PIXELS), small.torch_logits(network, small.PIXELS)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    steps = found / describe(file).outputs[0].scale[0]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


@pytest.mark.slow
def test_the_order_of_its_input_in_memory_does_not_matter(file):
    runtime, x = engine("executorch")(), np.ascontiguousarray(small.as_input(small.PIXELS[:4]).numpy())
    runtime.load(file, {}, 1)
    np.testing.assert_array_equal(runtime.run(np.asfortranarray(x)), runtime.run(x))


@pytest.mark.slow
def test_what_computes_in_float_is_refused_by_name_or_allowed(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    with pytest.raises(UserError, match=r"1 operator computes in float: 1 Sigmoid .* allow_float = \[\"Sigmoid\"\]"):
        small.write(tmp_path, network.eval(), "pte")
    assert not (tmp_path / "net.pte").exists()


def test_unsigned_integers_are_refused(tmp_path):
    with pytest.raises(UserError, match="XNNPACK's integers are signed, got u8s8"):
        small.write(tmp_path, nn.Identity().eval(), "pte", replace(SPEC, activation_signed=False))


@pytest.mark.slow
def test_the_file_of_conformance_is_that_which_the_constants_make(tmp_path):
    assert networks.file("pte").read_bytes() == pte_file(tmp_path / "tiny.pte").read_bytes()


@pytest.mark.slow
def test_a_network_that_torch_cannot_capture_is_one_line(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if x.sum() > 0 else torch.zeros(1, 3)

    with pytest.raises(UserError, match="small: ExecuTorch cannot take this network: ") as raised:
        small.write(tmp_path, Branching().eval(), "pte", None)
    assert "\n" not in str(raised.value)
