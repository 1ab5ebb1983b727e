"""Functions that the exporters write with other operators compute what torch's own do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_networks import FORMATS, PIXELS, SPEC, Around, file_logits, torch_logits, write
from torch import Tensor, nn
from torch.nn import functional

from exporters import pooling
from exporters.files import describe
from exporters.pooling import adaptive_avg_pool2d, avg_pool2d, rewritten
from exporters.sub_pixel import sub_pixel
from harness.run.arithmetic import compare_in_batches
from patches.twins import KERNELS, twin


@pytest.mark.parametrize(("side", "pooled"), [(1, 6), (2, 7), (5, 3), (7, 7), (6, 3), (8, 5)])
def test_adaptive_pooling_of_any_side(side: int, pooled: int) -> None:
    x = torch.rand(2, 3, side, side + 1)
    for size in (pooled, (pooled, 4)):
        torch.testing.assert_close(adaptive_avg_pool2d(x, size), functional.adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_transposed_convolutions(window: int, stride: int) -> None:
    x = torch.rand(2, 4, 5, 6)
    for padding, more, bias in ((0, 0, True), (1, min(1, stride - 1), True), (0, min(1, stride - 1), False)):
        if padding < window:
            own = nn.Sequential(nn.ConvTranspose2d(4, 6, window, stride, padding, more, bias=bias))
            torch.testing.assert_close(sub_pixel(own)(x), own(x))
            assert isinstance(own[0], nn.ConvTranspose2d)


@pytest.mark.parametrize("kept", [{"groups": 2}, {"dilation": 2}, {"stride": (1, 2)}])
def test_other_transposed_convolutions_stay(kept: dict) -> None:
    own = nn.ConvTranspose2d(4, 6, 3, **kept)
    assert sub_pixel(own) is own


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 2, 1), ((3, 2), (1, 2), (1, 0)), (2, None, 1)])
def test_average_pooling_that_does_not_count_its_padding(window, stride, padding, ceil: bool) -> None:
    x = torch.rand(2, 3, 9, 8)
    given = window, stride, padding, ceil, False
    torch.testing.assert_close(avg_pool2d(x, *given), functional.avg_pool2d(x, *given))


def test_torchs_functions_are_back_after_a_failure() -> None:
    before = functional.avg_pool2d
    with pytest.raises(ZeroDivisionError), rewritten(pooling.avg_pool2d):
        1 / (functional.avg_pool2d is before)
    assert functional.avg_pool2d is before


class Reshaped(nn.Module):
    """Pools to a side that does not divide the image's, doubles it, halves and doubles it again, joins both."""

    def __init__(self) -> None:
        super().__init__()
        self.doubling = nn.ConvTranspose2d(8, 4, 3, 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        doubled = self.doubling(functional.adaptive_avg_pool2d(functional.relu(x), 7))
        halved = functional.avg_pool2d(doubled, 3, 2, 1, count_include_pad=False)
        return torch.cat([doubled, functional.interpolate(halved, scale_factor=2, mode="nearest")], 1)


@pytest.mark.slow
def test_one_pixel_is_no_sum(tmp_path: Path) -> None:
    layers = [nn.Conv2d(3, 8, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    path = write(tmp_path, nn.Sequential(*layers).eval(), "tflite", SPEC)
    assert {operator.name for operator in describe(path).operators}.isdisjoint({"SUM", "MEAN"})
    (found,) = compare_in_batches(twin(path, "reference"), PIXELS, (1,))
    assert found.equal == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_network_of_them_is_integer_and_has_a_twin(tmp_path: Path, format: str) -> None:
    network = Around(Reshaped()).eval()
    logits = torch_logits(network, PIXELS)
    path = write(tmp_path, network, format, replace(SPEC, calibration_images=len(PIXELS)))
    assert np.abs(file_logits(path, PIXELS) - logits).max() < 0.05 * np.ptp(logits)
    for kernels in KERNELS[path.suffix]:
        found = compare_in_batches(twin(path, kernels), PIXELS, (1, len(PIXELS)))
        assert [one.equal for one in found] == [1.0, 1.0], kernels
