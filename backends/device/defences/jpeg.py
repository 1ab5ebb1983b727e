"""JPEG: each image is saved and loaded, by Pillow with its default subsampling.

Dziugaite et al. 2016, "A study of the effect of JPG compression on adversarial images".
"""

from __future__ import annotations

import io

import numpy as np

from backends.device.artifact import Pixels
from backends.device.errors import UserError

SETTING = "QUALITY"
SETTINGS = range(1, 101)


def transform(pixels: Pixels, quality: int) -> Pixels:
    """Save and load images; a missing Pillow is a `UserError`."""
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
