"""Levels of activations: what they clip, how far they are narrowed, and the rates that follow."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers.scales import activation_ranges
from helpers.small_networks import PIXELS, SPEC
from scipy import stats
from torch import nn

from backends.device.artifact import QuantSpec
from exporters.ranges import sources
from harness.networks.victims import logits
from harness.study import saturation, strength
from patches.fake_quant.network import Grid, calibrated, fake_quantized, folded, grids_of, on_grids


class Of(NamedTuple):
    """The part of a case's patch that rates read."""

    name: str
    target_class: int | None
    label: str = ""
    attack: str = "gap"


class Case(NamedTuple):
    patch: Of
    px: int = 8
    place: str = "random"
    split: str = "evaluate"


class Signed(nn.Module):
    """Pass red, negate green and drop blue; then a ReLU and a layer of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.linear = nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Linear(12, 2)
        self.conv.weight.data = torch.diag(torch.tensor([1.0, -1.0, 0.0])).reshape(3, 3, 1, 1)
        self.linear.weight.data.fill_(1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.relu(self.conv(x)).flatten(1))


def test_clipped_activations_are_those_that_round_beyond_the_ends_and_no_zero_of_a_relu():
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[0, ..., 0] = [[0, 140], [141, 255]]  # .549, which rounds to the end, and .553, which does not
    images[0, ..., 1] = [[63, 64], [0, 255]]  # .247 and .251
    network = folded(Signed().eval())
    levels = {"conv": Grid(0.1, -2, 5), "relu": Grid(0.1, 0, 5)}
    found = saturation.clipped(network, levels, images)
    assert found["conv"].tolist() == pytest.approx([(2 + 2) / 12, 0])
    assert found["relu"].tolist() == pytest.approx([2 / 12, 0])


@pytest.mark.parametrize("make", [small.resnet, small.branches])
def test_levels_are_those_of_the_tensors_that_a_file_keeps(make):
    network = make()
    known = calibrated(network, SPEC, PIXELS)
    own = grids_of(known.described, known.ranges, SPEC)
    found = saturation.grids(fake_quantized(network, SPEC, PIXELS))
    assert found
    assert not {t.name for t in known.described.inputs} & set(found)
    assert sources(known.described)[known.described.outputs[0].name] == list(found)[-1]
    for name, grid in found.items():
        assert (grid.low, grid.high) == (own[name].low, own[name].high)
        assert grid.step == pytest.approx(own[name].step)


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["minmax", "moving_average", "percentile"])
def test_ranges_are_those_that_the_file_has(tmp_path, calibration):
    """Every grid ends where the range of some tensor of the TFLite file ends."""
    network, quant = small.resnet(), QuantSpec(calibration_images=16, calibration=calibration)
    held = np.array(list(activation_ranges(small.write(tmp_path, network, "tflite", quant)).values()))
    for name, (step, low, high) in saturation.grids(fake_quantized(network, quant, PIXELS)).items():
        assert np.abs(held - (low * step, high * step)).max(axis=1).min() < 0.02 * step, name


@pytest.mark.parametrize("make", [small.resnet, small.branches])
def test_the_whole_range_in_256_levels_is_the_network_of_eight_bits(make):
    network = make()
    known = calibrated(network, SPEC, PIXELS)
    ours = on_grids(known, strength.narrowed(known, 1.0, 256, SPEC), SPEC)
    assert np.array_equal(logits(ours, PIXELS), logits(fake_quantized(network, SPEC, PIXELS), PIXELS))
    other = on_grids(known, strength.narrowed(known, 0.5, 256, SPEC), SPEC)
    assert not np.array_equal(logits(ours, PIXELS), logits(other, PIXELS))


def test_range_and_step_are_independent():
    rng = np.random.default_rng(0)
    for low, high in zip(-rng.uniform(0, 4, 50), rng.uniform(0.1, 4, 50), strict=True):
        for levels in (256, 64, 16):
            whole = strength.narrow((low, high), 1.0, levels)
            assert whole.step == pytest.approx((high - low) / (levels - 1))
            for clip in (0.8, 0.45, 0.2):
                grid = strength.narrow((low, high), clip, levels)
                assert grid.step == whole.step
                assert (grid.low * grid.step, grid.high * grid.step) == pytest.approx(
                    (clip * low, clip * high), abs=1.01 * grid.step
                )
                assert grid.high - grid.low == round(clip * (levels - 1))


def test_logits_keep_their_levels_where_they_are_only_reshaped():
    known = calibrated(small.branches(), SPEC, PIXELS)
    (logits_,) = known.described.outputs
    assert known.described.operators[-1].name == "Flatten"
    pooled = sources(known.described)[logits_.name]
    assert not {logits_.name, pooled} & set(strength.inner(known.described))


def test_pixels_and_logits_keep_their_levels():
    known = calibrated(small.resnet(), SPEC, PIXELS)
    changed = strength.inner(known.described)
    pixels = {t.name for t in known.described.inputs} | {o.outputs[0].name for o in known.described.operators[:2]}
    assert {o.name for o in known.described.operators[:2]} == {"Mul", "Add"}  # the normalisation
    assert not (pixels | {t.name for t in known.described.outputs}) & set(changed)
    assert {o.outputs[0].name for o in known.described.operators[2:-1]} == set(changed)


def test_success_is_over_images_right_without_the_patch_and_of_another_class():
    labels, clean = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 0])
    cases = {
        Case(Of("a", 2)): np.array([2, 2, 2, 0, 2, 2]),  # among 0, 2 and 3: right, and not of class 2
        Case(Of("b", None)): np.array([0, 0, 0, 0, 0, 0]),  # among 0, 2, 3 and 4: any wrong answer
    }
    found = strength.rates(labels, clean, cases).set_index("patch")
    assert found.loc["a", ["success", "n"]].tolist() == pytest.approx([2 / 3, 3])
    assert found.loc["b", ["success", "n"]].tolist() == pytest.approx([3 / 4, 4])
    assert found.loc[strength.ALL, ["success", "n"]].tolist() == pytest.approx([(2 / 3 + 3 / 4) / 2, 7])
    exact = stats.binomtest(2, 3).proportion_ci(method="wilson")
    assert found.loc["a", ["success_low", "success_high"]].tolist() == pytest.approx(list(exact))
    assert found["clean_accuracy"].tolist() == pytest.approx([4 / 6] * 3)
