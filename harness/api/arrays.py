"""Check the arrays that a caller passes; where they do not fit, name the mend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.errors import UserError


def check_images(images: object) -> Pixels:
    """Return images if they are uint8 ``(n, h, w, 3)``; else raise a `UserError` that says how to make them so."""
    fits = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    if not fits:
        raise UserError(f"images: expected a numpy array, uint8 (n, h, w, 3) RGB, got {told(images)}{_mend(images)}")
    assert isinstance(images, np.ndarray)
    if not images.size:
        raise UserError(f"images: expected at least one image of at least one pixel, got {images.shape}")
    return images


def check_labels(labels: object, n: int) -> NDArray[np.int64]:
    """Return labels as int64 ``(n,)``; anything but one class for each image is a `UserError`."""
    found = np.asarray(labels)
    if found.shape != (n,) or not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise UserError(
            f"labels: expected a class, from 0, for each of {n} images: integers ({n},), got {told(labels)}"
        )
    return found.astype(np.int64)


def told(array: object) -> str:
    """Return an array's type, dtype and shape in a few words."""
    kind = type(array)
    if not hasattr(array, "shape"):
        return f"a {kind.__name__}"
    named = "" if kind is np.ndarray else f"a {kind.__module__}.{kind.__name__}, "
    return f"{named}{getattr(array, 'dtype', '')} {tuple(array.shape)}"


def _mend(images: object) -> str:
    """Return the expression that makes pixels of images that are float, tensors, single or channels first."""
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) not in (3, 4):
        return ""
    array: Any = images
    steps = "" if isinstance(array, np.ndarray) else ".cpu().numpy()"
    if len(shape) == 3:
        shape = (1, *shape)
        steps += "[None]"
    if shape[3] != 3 and shape[1] == 3:
        shape = (shape[0], shape[2], shape[3], 3)
        steps += ".transpose(0, 2, 3, 1)"
    if shape[3] != 3:
        return ""
    name = "images"
    if "float" in str(array.dtype):
        name = "(images * 255).round()" if float(array.max()) <= 1 else "images.round()"
        steps += '.astype("uint8")'
    return f"; try {name}{steps}" if steps else ""
