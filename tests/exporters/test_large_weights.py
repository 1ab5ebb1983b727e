from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_networks import PIXELS, SPEC, file_logits, torch_logits, write
from torch import Tensor, nn

from exporters.files import describe


class Wide(nn.Module):
    """A convolution with 36 MiB of weights, between two small ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 1024, 4, 4)
        self.wide = nn.Conv2d(1024, 1024, 3, padding=1)
        self.linear = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.wide(self.first(x).relu()).mean((2, 3)))


@pytest.mark.parametrize("per_channel", [True, False])
def test_large_weights_are_quantized_channel_by_channel(tmp_path: Path, per_channel: bool) -> None:
    network = Wide().eval()
    file = write(tmp_path, network, "tflite", replace(SPEC, per_channel=per_channel))
    wanted = torch_logits(network, PIXELS)
    assert np.abs(file_logits(file, PIXELS) - wanted).max() < 0.1 * wanted.std()
    weights = next(t for o in describe(file).operators for t in o.inputs if t.shape == (1024, 3, 3, 1024))
    floats = network.wide.weight.detach().permute(0, 2, 3, 1).numpy()
    scales = np.array(weights.scale, np.float32).reshape(-1, 1, 1, 1)
    assert weights.values is not None
    assert np.abs(weights.values * scales - floats).max() <= 0.5001 * scales.max()
