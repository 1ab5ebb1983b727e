"""How like the float network what a toolchain computes is: numpy alone, for programs in its own environment too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIKE_FLOAT = 0.8  # the cosine that tpu-mlir's own deployment asks of each layer by default


def cosine(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the cosine of two arrays of as many values."""
    x, y = (one.ravel().astype(np.float64) for one in (found, expected))
    return float(x @ y) / max(float(np.sqrt((x @ x) * (y @ y))), 1e-30)
