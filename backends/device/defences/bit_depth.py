"""Bit depth: each channel keeps so many bits.

Xu et al. 2018, "Feature squeezing: detecting adversarial examples in deep neural networks", section III-A: a value is
scaled to 2^bits - 1 steps, rounded, and scaled back.
"""

from __future__ import annotations

import numpy as np

from backends.device.artifact import Pixels

SETTING = "BITS"
SETTINGS = range(1, 8)


def transform(pixels: Pixels, bits: int) -> Pixels:
    """Round to ``2**bits`` levels, the least and the greatest among them."""
    steps = 2**bits - 1
    levels = np.rint(np.rint(np.arange(256) * steps / 255) * 255 / steps).astype(np.uint8)
    seen: Pixels = levels[pixels]
    return seen
