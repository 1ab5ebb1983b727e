"""How far two representations of the same images resemble each other: linear CKA, cosine, relative norm.

A representation is float ``(images, features)``. An interval is 95 % and says what other images, as many, would give.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.results.stats import CONFIDENCE

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value with its interval; NaN where nothing counts."""

    value: float
    low: float
    high: float


def gram(features: NDArray[Any]) -> Floats:
    """The inner products of centred features, float64 ``(images, images)``; rows and columns sum to zero."""
    x = np.asarray(features, np.float32)
    x = x - x.mean(axis=0)
    out = (x @ x.T).astype(np.float64)
    out -= out.mean(axis=0)  # what float32 left of the centring
    return np.asarray(out - out.mean(axis=1, keepdims=True))


def cka(k: Floats, l: Floats) -> Estimate:  # noqa: E741
    """Linear CKA of two centred Gram matrices (Kornblith et al. 2019, eq. 4 with the linear kernel, biased HSIC).

    The interval is Tukey's jackknife: t over the pseudo-values of leaving out each image. A bootstrap would draw images
    twice, which resemble themselves in both representations: with far more features than images that alone pulls CKA
    towards 1. NaN where either side is the same for all images.
    """
    n = len(k)
    value = _ratio(*((a * b).sum() for a, b in ((k, l), (k, k), (l, l))))
    without = _ratio(*(_left_out(a, b) for a, b in ((k, l), (k, k), (l, l))))
    pseudo = n * value - (n - 1) * without
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(pseudo.std(ddof=1)) / np.sqrt(n)
    return Estimate(float(value), max(0.0, float(value) - half), min(1.0, float(value) + half))


def _ratio(both: Any, first: Any, second: Any) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(both) / np.sqrt(np.asarray(first) * np.asarray(second))


def _left_out(k: Floats, l: Floats) -> Floats:  # noqa: E741
    """HSIC, but for its factor, without each image in turn: ``tr(KHLH)`` of what is left, centred anew.

    With ``sum(K * L) - 2/m sum(r_K * r_L) + s_K s_L / m^2`` for row sums r and sums s, all zero before.
    """
    m, mutual, own = len(k) - 1, (k * l).sum(axis=1), np.diag(k) * np.diag(l)
    return np.asarray((k * l).sum() - 2 * mutual + own - 2 / m * (mutual - own) + own / m**2)


def mean(values: NDArray[Any]) -> Estimate:
    """A mean over images with its t interval, NaN of fewer than two; images that have no value are left out."""
    known = np.asarray(values, np.float64)[~np.isnan(values)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else np.nan, np.nan, np.nan)
    half = float(stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2)) * float(known.std(ddof=1)) / np.sqrt(len(known))
    return Estimate(float(known.mean()), float(known.mean()) - half, float(known.mean()) + half)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """The cosine between each image's two representations, ``(images,)``; NaN where one is zero."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return _over(np.einsum("if,if->i", a, b), norms)


def relative_norms(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """``||a - b|| / ||b||`` of each image, ``(images,)``; NaN where b is zero."""
    return _over(np.linalg.norm(a - b, axis=1), np.linalg.norm(b, axis=1))


def _over(top: Floats, bottom: Floats) -> Floats:
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    return np.asarray(np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0))
