"""Defences: transformations of the pixels on the device, before its network. Named ``jpeg:75`` or ``median:3``.

- ``jpeg:QUALITY`` saves and loads the image as a JPEG, by Pillow with its default subsampling (Dziugaite et al. 2016,
  "A study of the effect of JPG compression on adversarial images").
- ``median:SIDE`` takes the median of the square of that odd side around each pixel, channel by channel, the image's
  edges repeated (Xu et al. 2018, "Feature Squeezing").
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import numpy as np

from backends.device.artifact import Pixels
from backends.device.errors import UserError

QUALITIES = range(1, 101)
SIDES = range(3, 32, 2)


class Defence(NamedTuple):
    """A kind of defence, and its quality or side in pixels."""

    kind: Literal["jpeg", "median"]
    setting: int


def parse_defence(word: str) -> Defence:
    """Parse a defence such as ``jpeg:75``; an unknown one is a `UserError`."""
    kind, _, text = word.partition(":")
    settings = {"jpeg": QUALITIES, "median": SIDES}.get(kind, range(0))
    for setting in settings:
        if text == str(setting):
            return Defence(cast(Literal["jpeg", "median"], kind), setting)
    raise UserError(
        f"defence {word!r}: expected jpeg:QUALITY from 1 to {QUALITIES[-1]}, or median:SIDE, odd, from 3 to {SIDES[-1]}"
    )


def defend(word: str, pixels: Pixels) -> Pixels:
    """Return images ``(n, h, w, 3)`` after a defence; a missing Pillow is a `UserError`."""
    kind, setting = parse_defence(word)
    return _jpeg(pixels, setting) if kind == "jpeg" else _median(pixels, setting)


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError(
            "the defence jpeg needs Pillow, which this device's Python lacks: pip install pillow"
        ) from error
    out: Pixels = np.empty_like(pixels)
    for image, coded in zip(pixels, out):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        coded[...] = Image.open(stream, formats=("JPEG",))
    return out


def _median(pixels: Pixels, side: int) -> Pixels:
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
