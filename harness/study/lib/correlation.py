"""How far two measures go together, with an interval."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FEWEST = 4  # pairs that a correlation is made of, groups that an interval is
RESAMPLES = 4000


class Correlation(NamedTuple):
    """A coefficient with its 95 % interval, over ``n`` pairs; NaN where there are too few, or one side never varies.

    The interval alone is NaN where there are enough pairs, but of too few groups.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return f"none to be had of {self.n} pairs"
        if np.isnan(self.low):
            return f"{self.value:.2f} over {self.n} pairs, of too few networks for an interval"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] over {self.n} pairs"


def correlation(
    x: ArrayLike, y: ArrayLike, kind: Literal["spearman", "pearson"] = "spearman", groups: ArrayLike | None = None
) -> Correlation:
    """Spearman's rho or Pearson's r over the pairs without a NaN, with a bootstrap's interval.

    It is over pairs or, where pairs of a group depend on each other (patches before one network), over whole `groups`.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    a, b = a[known], b[known]
    of = np.arange(len(a)) if groups is None else np.unique(np.asarray(groups)[known], return_inverse=True)[1]
    members = [np.flatnonzero(of == group) for group in range(of.max(initial=-1) + 1)]
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(np.nan, np.nan, np.nan, len(a))

    def coefficient(drawn: NDArray[np.int64]) -> float:
        rows = np.concatenate([members[group] for group in drawn])
        values = (a[rows], b[rows])
        if min(map(np.ptp, values)) == 0:  # a draw that repeats one pair has no correlation; it is left out
            return np.nan
        return float(np.corrcoef(*(map(stats.rankdata, values) if kind == "spearman" else values))[0, 1])

    everything = np.arange(len(members))
    if len(members) < FEWEST:
        return Correlation(coefficient(everything), np.nan, np.nan, len(a))
    drawn = np.random.default_rng(0).choice(everything, (RESAMPLES, len(members)))
    low, high = np.nanquantile([coefficient(one) for one in drawn], [0.025, 0.975])
    return Correlation(coefficient(everything), float(low), float(high), len(a))
