"""Whether preprocessing fits a file's input: the values that it sends, and those that scale and zero point can hold."""

from __future__ import annotations

import numpy as np

from backends.device.artifact import Preproc
from exporters.files.description import Description

Range = tuple[float, float]
MISFIT = 0.2  # of the span that an input holds; calibration cuts ranges, and rarely by more
NEAR = 0.02


def held(file: Description) -> Range | None:
    """Return the least and the largest value that a file's quantized input can hold; None where nothing says."""
    entry = file.inputs[0]
    integers = entry.integers or entry.dtype
    if len(entry.scale) != 1 or "int" not in integers:
        return None
    limits = np.iinfo(integers)
    scale = float(np.float32(entry.scale[0]))
    return scale * (int(limits.min) - entry.zero_point[0]), scale * (int(limits.max) - entry.zero_point[0])


def sent(preproc: Preproc) -> Range:
    """Return the least and the largest value that preprocessing makes of pixels, in any channel."""
    ends = [(p / preproc.divisor - m) / s for m, s in zip(preproc.mean, preproc.std, strict=True) for p in (0, 255)]
    return min(ends), max(ends)


def misfit(file: Description, preproc: Preproc) -> str:
    """Say that preprocessing sends other values than a file's input holds, and what would fit; empty if it fits.

    A symmetric input, of signed integers with zero point 0, holds as much below zero as above whatever it is sent:
    there the largest magnitudes are compared.
    """
    holds = held(file)
    if holds is None:
        return ""
    (low, high), (least, most) = holds, sent(preproc)
    entry = file.inputs[0]
    if entry.zero_point[0] == 0 and low < 0:
        off = abs(max(abs(least), abs(most)) - high) / high
    else:
        off = max(abs(least - low), abs(most - high)) / (high - low)
    if off <= MISFIT:
        return ""
    kept = f"scale {entry.scale[0]:.6g} and zero point {entry.zero_point[0]} hold {low:.3g} to {high:.3g}"
    return f"preprocessing sends {least:.3g} to {most:.3g}, but the input's {kept}; {_fitting(holds, preproc.divisor)}"


def _fitting(holds: Range, divisor: float) -> str:
    low, high = holds
    span = high - low
    for plain in (255, 1):
        if abs(low) <= NEAR * span and abs(high - 255 / plain) <= NEAR * span:
            return f"divisor = {plain} without mean and std would fit"
    std = 255 / divisor / span
    return f"mean = {-low * std:.3g} and std = {std:.3g} would fit, with divisor = {divisor:g}"
