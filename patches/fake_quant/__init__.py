"""Fake quantization: a network that rounds and clips in float what an INT8 file, or one of fewer bits, has as integers.

The very tensors and ranges of the exporters' files; at 8 bits the integers agree but for a kernel's own rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backends.device.artifact import Pixels, QuantSpec

if TYPE_CHECKING:
    from torch import nn

    from patches.fake_quant.network import Trained


class Source(NamedTuple):
    """What a fake-quantized network is made of; ``pixels`` are the calibration images."""

    network: nn.Module
    quant: QuantSpec
    pixels: Pixels
    trained: Trained | None = None
