"""Estimates with 95 % intervals: a mean over images, and the correlation of two measures."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import stdtrit

from harness.results.stats import CONFIDENCE

FEWEST = 4  # pairs for a correlation, groups for its interval
RESAMPLES = 4000


class Estimate(NamedTuple):
    """A value with its interval; NaN where nothing counts."""

    value: float
    low: float
    high: float


class Correlation(NamedTuple):
    """A coefficient with its interval, over ``n`` pairs; NaN where there are too few, or one side never varies.

    The interval alone is NaN where there are enough pairs, but in too few groups.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return f"not available from {self.n} pairs"
        if np.isnan(self.low):
            return f"{self.value:.2f} over {self.n} pairs, in too few groups for an interval"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] over {self.n} pairs"


def half_width(values: NDArray[np.float64]) -> float:
    """Return half of the t interval of a mean."""
    n = len(values)
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)


def mean(values: ArrayLike) -> Estimate:
    """Return a mean over images with its t interval, NaN from fewer than two; images without a value are left out."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else np.nan, np.nan, np.nan)
    value = float(known.mean())
    half = half_width(known)
    return Estimate(value, value - half, value + half)


def correlation(
    x: ArrayLike, y: ArrayLike, kind: Literal["spearman", "pearson"] = "spearman", groups: ArrayLike | None = None
) -> Correlation:
    """Return Spearman's rho or Pearson's r over the pairs without a NaN, with a bootstrap interval.

    The bootstrap draws pairs or, where pairs depend on each other (patches on one network), whole ``groups``.
    """
    pairs = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)])
    known = np.flatnonzero(np.isfinite(pairs).all(axis=0))
    pairs = pairs[:, known]
    n = len(known)
    if n < FEWEST or min(np.ptp(pairs, axis=1)) == 0:
        return Correlation(np.nan, np.nan, np.nan, n)
    group = np.arange(n) if groups is None else np.unique(np.asarray(groups)[known], return_inverse=True)[1]
    members = [np.flatnonzero(group == one) for one in range(group.max() + 1)]
    value = _coefficient(pairs, kind)
    if len(members) < FEWEST:
        return Correlation(value, np.nan, np.nan, n)
    drawn = np.random.default_rng(0).choice(np.arange(len(members)), (RESAMPLES, len(members)))
    resampled = [_coefficient(pairs[:, np.concatenate([members[one] for one in draw])], kind) for draw in drawn]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Correlation(value, float(low), float(high), n)


def _coefficient(pairs: NDArray[np.float64], kind: str) -> float:
    if min(np.ptp(pairs, axis=1)) == 0:  # a draw that repeats one pair has no correlation
        return np.nan
    if kind == "spearman":
        pairs = np.stack([stats.rankdata(side) for side in pairs])
    return float(np.corrcoef(*pairs)[0, 1])
