"""How alike two answers to the same clean images are, and what can be more than kernels of one file differ by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc

from harness.results.agreement import Floats
from harness.results.entries import Check
from harness.results.measured import ElsewhereEntry
from harness.results.success import top1
from harness.results.verdicts import Fault, place, unknown, verdict

CHANCE = 1e-3  # of a right target being refused for its flips, were its kernels the worst that are known


class Limits(NamedTuple):
    """The share of flipped predictions that can be, and the least correlation of the outputs."""

    flips: float
    correlation: float


KERNELS = Limits(0.06, 0.95)  # of one file: the worst that are right flip 1 of 32, at a correlation of 0.9994
SATURATED = Limits(0.125, 0.8)  # sums in 16 bits: 7 of 32, at 0.87
QUANTIZED = Limits(0.2, 0.8)  # an 8-bit file and its float network


class Alike(NamedTuple):
    """Of so many images, how many predictions differ, and the correlation of all outputs, 0 where one side has none."""

    images: int
    flips: int
    correlation: float

    def is_within(self, limits: Limits) -> bool:
        """Whether the outputs correlate enough, and the flips may be chance (one-sided binomial test)."""
        chance = bdtrc(self.flips - 1, self.images, limits.flips) if self.flips else 1.0
        return bool(self.correlation >= limits.correlation and chance >= CHANCE)


def alike(a: Floats, b: Floats) -> Alike:
    """Compare outputs ``(n, outputs)``; of the images that both have."""
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    return Alike(n, int((top1(a) != top1(b)).sum()), correlation(a, b))


def correlation(a: Floats, b: Floats) -> float:
    """Return Pearson's correlation of all values: 1 of equal ones, 0 where one side is constant or of another shape."""
    if np.array_equal(a, b):
        return 1.0
    if a.shape != b.shape:
        return 0.0
    x, y = (side.astype(np.float64).ravel() - side.mean(dtype=np.float64) for side in (a, b))
    length = np.sqrt(float(x @ x)) * np.sqrt(float(y @ y))
    return float(x @ y) / length if length else 0.0


def elsewhere(entries: Sequence[ElsewhereEntry]) -> Check:
    """Ask whether each file answers clean images on its targets as it does elsewhere."""
    name = "as elsewhere"
    asks = "does each file answer clean images on every target as on the runtime of its format here, up to kernels?"
    held = [one for one in entries if not one.unknown]
    if not held:
        reasons = dict.fromkeys(one.unknown for one in entries)
        return unknown(name, asks, "; ".join(reasons)) if reasons else unknown(name, asks)
    bad: list[Fault] = [
        (f"{one.artifact} on {one.target}: {one.differs}", place(one.artifact, one.target))
        for one in held
        if one.differs
    ]
    least = min(one.correlation for one in held)
    good = f"correlation {least:.3f} or more over {len(held)} pairs of artifact and target"
    if len(held) < len(entries):
        good += f"; {len(entries) - len(held)} more were held against nothing"
    return verdict(name, asks, good, bad)
