"""Local gradients smoothing (LGS): where an image changes quickly over a whole block, it is darkened.

Naseer et al. 2019, "Local gradients smoothing: defense against localized adversarial attacks", section 4: first-order
gradients are scaled to [0, 1], blocks whose mean is not above 0.1 are left alone, and in the others pixels are
multiplied by 1 - 2.3 g, not below 0. The setting is the side of a block, 15 for the 299 pixels of the paper; a third of
it overlaps, as there.

Ours: gradients are those of the grey image, and the last block ends at the image's border. All sums are of integers, so
that every device darkens the same blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.defences import starts

SETTING = "BLOCK"
SETTINGS = range(2, 65)
THRESHOLD_PERCENT = 10
SMOOTHING = 2.3
ONE = 1 << 16  # gradients of 1, as integers


def transform(pixels: Pixels, block: int) -> Pixels:
    """Darken where the gradients of a block are large."""
    gradients = _gradients(pixels)
    kept = gradients * _in_blocks(gradients, block)
    factor = np.clip(1 - SMOOTHING * kept / ONE, 0, 1)
    return np.rint(pixels * factor[..., None]).astype(np.uint8)


def darkened(pixels: Pixels, block: int) -> NDArray[np.bool_]:
    """Return which pixels of images lie in a block whose mean gradient is above the threshold, ``(n, h, w)``."""
    return _in_blocks(_gradients(pixels), block)


def _gradients(pixels: Pixels) -> NDArray[np.int64]:
    """Return the magnitudes of first differences, forward, in units of 1 / `ONE` between each image's extremes."""
    grey = pixels @ np.array([299, 587, 114], np.int64)
    squares = np.zeros_like(grey)
    squares[:, :-1] += np.diff(grey, axis=1) ** 2
    squares[:, :, :-1] += np.diff(grey, axis=2) ** 2
    size = np.sqrt(squares)  # rounded correctly everywhere
    least = size.min(axis=(1, 2), keepdims=True)
    span = size.max(axis=(1, 2), keepdims=True) - least
    scaled: NDArray[np.int64] = np.rint((size - least) * ONE / np.where(span == 0, 1, span)).astype(np.int64)
    return scaled


def _in_blocks(gradients: NDArray[np.int64], block: int) -> NDArray[np.bool_]:
    large = np.zeros(gradients.shape, bool)
    height, width = gradients.shape[1:]
    stride = block - block // 3
    for top in starts(height, block, stride):
        for left in starts(width, block, stride):
            here = np.s_[:, top : top + block, left : left + block]
            some = gradients[here]
            threshold = THRESHOLD_PERCENT * ONE * some[0].size
            large[here] |= 100 * some.sum(axis=(1, 2), keepdims=True) > threshold
    return large
