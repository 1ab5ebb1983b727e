"""Quantize and dequantize: the only place in the project that does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def quantize(x: NDArray[np.floating[Any]], scale: ArrayLike, zero_point: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
    """Return ``x / scale + zero_point`` as integers: round half to even, clip to `dtype`, then cast.

    `x` has any shape and is not modified; `scale` and `zero_point` broadcast against it. The division is done in the
    precision of `x`, as ONNX's QuantizeLinear and TFLite's Quantize do it for float32.
    """
    x = np.asarray(x)
    limits = np.iinfo(dtype)
    q = x / np.asarray(scale, x.dtype)
    if limits.bits > 16:  # float32 cannot hold the bounds of int32
        q = q.astype(np.float64)
    np.rint(q, out=q)
    q += np.asarray(zero_point, q.dtype)
    np.clip(q, limits.min, limits.max, out=q)
    return q.astype(dtype)


def dequantize(q: NDArray[np.integer[Any]], scale: ArrayLike, zero_point: ArrayLike) -> NDArray[np.float32]:
    """Return ``(q - zero_point) * scale`` in float32; `scale` and `zero_point` broadcast."""
    steps = np.asarray(q).astype(np.int64) - np.asarray(zero_point, np.int64)
    return steps.astype(np.float32) * np.asarray(scale, np.float32)
