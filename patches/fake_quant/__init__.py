"""Fake quantization: a float network that rounds and clips what a file of 8 or fewer bits holds as integers.

Its tensors and ranges are those of the exporters' files; at 8 bits the integers agree except for a kernel's rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backends.device.artifact import Pixels, QuantSpec

if TYPE_CHECKING:
    from torch import nn

    from patches.fake_quant.network import Trained


class Source(NamedTuple):
    """A network, its quantization and the calibration images ``pixels``; ``trained`` if it was trained to it."""

    network: nn.Module
    quant: QuantSpec
    pixels: Pixels
    trained: Trained | None = None
