"""Median: each pixel becomes the median of the square around it, channel by channel, the image's edges repeated.

Xu et al. 2018, "Feature squeezing: detecting adversarial examples in deep neural networks", section III-B.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backends.device.artifact import Pixels

SETTING = "SIDE"
SETTINGS = range(3, 32, 2)


def transform(pixels: Pixels, side: int) -> Pixels:
    """Filter by whole shifted planes: sorting along an axis takes many times as long."""
    height, width = pixels.shape[1:3]
    reach = side // 2
    wide = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    return _middle([wide[:, r : r + height, c : c + width] for r in range(side) for c in range(side)])


def _middle(planes: Sequence[Pixels]) -> Pixels:
    """Return the elementwise median of an odd number of arrays.

    Among half of them plus two, neither the least nor the greatest can be the median: drop both, add another, and
    repeat until three are left (McGuire 2008, "A fast, small-radius GPU median filter").
    """
    coming = list(planes)
    kept = [coming.pop() for _ in range(len(planes) // 2 + 2)]
    while True:
        last = len(kept) - 1
        for i in range(len(kept) // 2):
            _order(kept, i, last - i)
        for i in range(1, (last + 2) // 2):
            _order(kept, 0, i)
        for i in range((last + 1) // 2, last):
            _order(kept, i, last)
        kept = kept[1:-1]
        if not coming:
            return kept[0]
        kept.append(coming.pop())


def _order(planes: list[Pixels], low: int, high: int) -> None:
    one, other = planes[low], planes[high]
    planes[low], planes[high] = np.minimum(one, other), np.maximum(one, other)
