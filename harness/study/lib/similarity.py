"""Similarity of two representations of the same images: linear CKA, cosine, relative norm.

A representation is float ``(images, features)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.study.lib.estimates import Estimate, half_width

Floats = NDArray[np.float64]


def gram(features: NDArray[Any]) -> Floats:
    """Return the inner products of centred features, float64 ``(images, images)``; rows and columns sum to zero."""
    x = np.asarray(features, np.float32)
    x = x - x.mean(axis=0)
    out = (x @ x.T).astype(np.float64)
    out -= out.mean(axis=0)  # what float32 left of the centring
    return np.asarray(out - out.mean(axis=1, keepdims=True))


def cka(k: Floats, l: Floats) -> Estimate:  # noqa: E741
    """Return the linear CKA of two centred Gram matrices (Kornblith et al. 2019, eq. 4, linear kernel, biased HSIC).

    The 95 % interval says what as many other images would give. It is Tukey's jackknife: t over the pseudo-values of
    leaving out each image. A bootstrap would draw images twice, and these resemble themselves in both representations:
    with far more features than images that alone pulls CKA towards 1. NaN where one side is the same for all images.
    """
    n = len(k)
    value = _ratio((k * l).sum(), (k * k).sum(), (l * l).sum())
    pseudo = n * value - (n - 1) * _ratio(_left_out(k, l), _left_out(k, k), _left_out(l, l))
    half = half_width(pseudo)
    return Estimate(float(value), max(0.0, float(value) - half), min(1.0, float(value) + half))


def _ratio(both: Any, first: Any, second: Any) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.asarray(both) / np.sqrt(np.asarray(first) * np.asarray(second)))


def _left_out(k: Floats, l: Floats) -> Floats:  # noqa: E741
    """Return HSIC, up to its factor, without each image in turn: ``tr(KHLH)`` of the others, centred anew.

    That is ``sum(K * L) - 2/m sum(r_K * r_L) + s_K s_L / m^2`` with row sums r and sums s, all zero beforehand.
    """
    m = len(k) - 1
    mutual = (k * l).sum(axis=1)
    own = np.diag(k) * np.diag(l)
    return np.asarray((k * l).sum() - 2 * mutual + own - 2 / m * (mutual - own) + own / m**2)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Return the cosine between each image's two representations, ``(images,)``; NaN where one is zero."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return _over(np.einsum("if,if->i", a, b), norms)


def relative_norms(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Return ``||a - b|| / ||b||`` for each image, ``(images,)``; NaN where b is zero."""
    return _over(np.linalg.norm(a - b, axis=1), np.linalg.norm(b, axis=1))


def _over(top: NDArray[Any], bottom: NDArray[Any]) -> Floats:
    denominator = np.asarray(bottom, np.float64)
    nothing = np.full(len(denominator), np.nan)
    return np.asarray(np.divide(np.asarray(top, np.float64), denominator, out=nothing, where=denominator > 0))
