"""How far two measures go together, with an interval."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FEWEST = 4  # pairs that a correlation is made of
RESAMPLES = 4000


class Correlation(NamedTuple):
    """A coefficient with its 95 % interval, over ``n`` pairs; NaN where there are too few, or one side never varies."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return f"none to be had of {self.n} pairs"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] over {self.n} pairs"


def correlation(x: ArrayLike, y: ArrayLike, kind: Literal["spearman", "pearson"] = "spearman") -> Correlation:
    """Spearman's rho or Pearson's r over the pairs without a NaN; the interval is a bootstrap's, over pairs."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(np.nan, np.nan, np.nan, len(a))

    def coefficient(a: NDArray[np.float64], b: NDArray[np.float64], axis: int = -1) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            if kind == "spearman":
                a, b = stats.rankdata(a, axis=axis), stats.rankdata(b, axis=axis)
            a, b = (v - v.mean(axis=axis, keepdims=True) for v in (a, b))
            return (a * b).sum(axis=axis) / np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))

    with warnings.catch_warnings():
        # A draw that repeats one pair has no correlation, of which scipy warns; it is left out.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (a, b), coefficient, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution  # fmt: skip
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Correlation(float(coefficient(a, b)), float(low), float(high), len(a))
