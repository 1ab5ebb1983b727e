"""Intervals and tests for rates: of one patch, over patches and images, and of differences on the same images.

Patches and images are crossed: every patch lies on every image. The target class is a fixed factor: patches are drawn
anew within their class, classes are not. Matrices are ``(patches, images)``; ``among`` says which images count.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Over = Literal["images", "patches and images"]  # what was drawn at random, so what an interval generalises to

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10  # patches; a bootstrap over fewer is too narrow: over 3 it covers 87 % where it says 95
BOOTSTRAP_TO = 200  # patches; the mean of more is as good as normal, and resampling them takes long
RESAMPLES = 10_000
# Of more patches, or of a larger matrix, fewer are drawn: an interval's ends then vary by 3 % of its half.
FEW_RESAMPLES = 2000
MOST_PATCHES, LARGEST = 30, 50_000
GRID = 100  # steps between nothing and the greatest score of a sign-flip test


class Estimate(NamedTuple):
    """A rate with its interval, and what the interval generalises to; NaN where no image counts."""

    value: float
    low: float
    high: float
    over: Over


class Difference(NamedTuple):
    """``b - a`` on the same images with its interval, and the p of a test that it is zero (one-sided: above zero)."""

    value: float
    low: float
    high: float
    p: float
    p_above: float
    over: Over


def wilson(hits: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Return the score interval (low, high) of ``hits`` of ``n``, elementwise; NaN where n is 0 (Wilson 1927, JASA 22).

    ``n`` may be an effective size that is no integer (Dean and Pagano 2015, J. Surv. Stat. Methodol. 3).
    """
    k, size = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    z = float(ndtri((1 + confidence) / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(size > 0, np.clip(k / size, 0, 1), np.nan)
        middle = (rate + z * z / (2 * size)) / (1 + z * z / size)
        half = z / (1 + z * z / size) * np.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size))
    low, high = np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
    return np.where(rate == 0, 0.0, low), np.where(rate == 1, 1.0, high)


def mean_over_patches(values: Bools | Floats, among: Bools) -> float:
    """Return the mean over patches of their means over the images that count; NaN where none do."""
    n = among.sum(axis=1)
    counting = n > 0
    means = (values * among).sum(axis=1)[counting] / n[counting]
    return float(means.mean()) if len(means) else np.nan


def mean_rate(hits: Bools, among: Bools, classes: Ints, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean over patches of their rates ``sum(hits & among) / sum(among)``; ``classes`` int ``(patches,)``.

    One patch: Wilson. No class with two patches: over images alone, by Wilson's interval with the effective size of
    images as clusters. Below `BOOTSTRAP_FROM` patches: t over the patches' rates within their classes, to whose
    variance that of drawing images is added. From there to `BOOTSTRAP_TO` the crossed bootstrap, its percentiles
    widened to t's (Hesterberg 2015, Am. Stat. 69, "expanded percentile interval") and scaled to that same variance,
    since resampling both counts the residual three times (Owen 2007). Above, t again.
    """
    hit, among, classes = _counting(hits & among, among, classes)
    if not len(hit):
        return Estimate(np.nan, np.nan, np.nan, "images")
    n = among.sum(axis=1)
    rates = hit.sum(axis=1) / n
    value, df = float(rates.mean()), len(rates) - len(np.unique(classes))
    if df == 0 or value in (0, 1):
        spread = _image_variance(hit, among) if len(rates) > 1 else 0.0
        effective = value * (1 - value) / spread if spread > 0 else n.mean()
        least, most = wilson(value * effective, effective, confidence)
        return Estimate(value, float(least), float(most), "images" if df == 0 else "patches and images")
    error, freedom = _two_way(hit - rates[:, None] * among, rates, n, classes)
    t = float(stdtrit(freedom, (1 + confidence) / 2))
    low, high = value - t * error, value + t * error
    if BOOTSTRAP_FROM <= len(rates) <= BOOTSTRAP_TO:
        draws, tail = crossed_bootstrap(hit > 0, among, classes, _resamples(among)), float(ndtr(-t))
        low, high = value + (np.quantile(draws, [tail, 1 - tail]) - value) * error / max(float(draws.std()), 1e-12)
    return Estimate(value, max(0.0, float(low)), min(1.0, float(high)), "patches and images")


def ratio(top: Floats, bottom: Floats, among: Bools, classes: Ints) -> Estimate:
    """Return the mean over patches of `top` over that of `bottom`, on the same images ``among``; all as `mean_rate`.

    Its interval is that of the `difference` ``top - value * bottom``, whose mean is zero, in units of the mean of
    `bottom` (the delta method). From `BOOTSTRAP_FROM` to `BOOTSTRAP_TO` patches the crossed bootstrap gives its shape:
    how far it reaches below and above. NaN where the mean of `bottom` is not above zero.
    """
    top, counting, classes_counting = _counting(top, among, classes)
    bottom, _, _ = _counting(bottom, among, classes)
    n = counting.sum(axis=1)
    mean = float(((bottom * counting).sum(axis=1) / n).mean()) if len(n) else 0.0
    if mean <= 0:
        return Estimate(np.nan, np.nan, np.nan, "images")
    value = float(((top * counting).sum(axis=1) / n).mean()) / mean
    spread = difference(top - value * bottom, counting, classes_counting, "patches and images")
    low, high = spread.low / mean, spread.high / mean
    if BOOTSTRAP_FROM <= len(n) <= BOOTSTRAP_TO and spread.over != "images":
        resamples = _resamples(counting)
        tops, bottoms = (crossed_bootstrap(part, counting, classes_counting, resamples) for part in (top, bottom))
        ends = np.quantile(tops / bottoms, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) - value
        low, high = ends * (high - low) / max(float(np.ptp(ends)), 1e-12)
    return Estimate(value, value + float(low), value + float(high), spread.over)


def _resamples(among: Bools) -> int:
    return RESAMPLES if len(among) <= MOST_PATCHES and among.size <= LARGEST else FEW_RESAMPLES


def crossed_bootstrap(
    hits: Bools | Floats, among: Bools, classes: Ints, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float32]:
    """Return mean rates ``(resamples,)`` over resampled images and, within classes, patches ("pigeonhole" bootstrap).

    Owen 2007, Ann. Appl. Stat. 1. Of k patches k - 1 are drawn, which makes the variance unbiased (Rao and Wu 1988,
    JASA 83); a class's only patch stays. Weights times matrices: nothing is copied or looped over. Calls of the same
    size draw the same images and patches, so that their rates are paired.
    """
    weights = image_weights(hits.shape[1], resamples, seed)
    counted = hits * among
    # Patches of a class count the same images on a place: a few rows, many times.
    row_of: dict[bytes, int] = {}
    which = [row_of.setdefault(row.tobytes(), len(row_of)) for row in np.packbits(among, axis=1)]
    first = [which.index(row) for row in range(len(row_of))]
    sums = weights @ np.concatenate([counted, among[first]]).T.astype(np.float32)
    top, bottom = sums[:, : len(hits)], sums[:, len(hits) :][:, which]
    mean = counted.sum(axis=1) / np.maximum(among.sum(axis=1), 1)
    rates = np.divide(top, bottom, out=np.tile(mean.astype(np.float32), (resamples, 1)), where=bottom > 0)
    share = patch_weights(tuple(np.unique(classes, return_inverse=True)[1].tolist()), resamples, seed)
    out: NDArray[np.float32] = (share * rates).mean(axis=1, dtype=np.float32)
    return out


def difference(
    steps: NDArray[np.float64], among: Bools, classes: Ints, over: Over = "images", confidence: float = CONFIDENCE
) -> Difference:
    """Return the mean over patches of a change on the images ``among``; ``steps`` is ``b - a``, one row per patch.

    ``over`` "images": the patches are fixed. The test is `sign_flip` by image, for one patch McNemar's exact one; the
    interval is `paired_interval` over images as clusters. "patches and images": t over the patches' own differences
    within their classes; where no class has two patches, or nothing differs at all, over images.
    """
    rise, among, classes = _counting(steps, among, classes)
    if not len(rise):
        return Difference(np.nan, np.nan, np.nan, np.nan, np.nan, "images")
    rise = rise * among
    n = among.sum(axis=1)
    rises = rise.sum(axis=1) / n
    value, df = float(rises.mean()), len(rises) - len(np.unique(classes))
    if over == "images" or df == 0 or not rise.any():
        scores = (rise / n[:, None]).mean(axis=0)
        images = scores * n.mean()
        low, high = paired_interval(images.sum(), (images**2).sum(), n.mean(), confidence, patches=len(rise))
        return Difference(value, float(low), float(high), *sign_flip(scores), "images")
    error, freedom = _two_way(rise - rises[:, None] * among, rises, n, classes)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    above = float(stdtr(freedom, -value / error)) if error > 0 else float(value <= 0)
    least, most = max(-1.0, value - half), min(1.0, value + half)
    return Difference(value, least, most, min(1.0, 2 * min(above, 1 - above)), above, "patches and images")


def paired_interval(
    total: ArrayLike, squares: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE, patches: int = 1
) -> tuple[Floats, Floats]:
    """Return the interval of a mean of n numbers in [-1, 1], from their sum and sum of squares, elementwise.

    Two pseudo-observations, -1 and 1, keep the interval valid when nearly all numbers are 0; for differences of two
    answers it is the adjusted Wald interval of Bonett and Price (2012, J. Educ. Behav. Stat. 37). Where each number is
    a mean over ``patches``, they weigh less in proportion. NaN where n is 0.
    """
    extra = 2 / patches
    size = np.asarray(n, np.float64) + extra
    middle = np.asarray(total) / size
    square = np.maximum(np.asarray(squares) + extra - size * middle**2, 0)
    half = float(ndtri((1 + confidence) / 2)) * np.sqrt(square) / size
    low, high = (np.where(size > extra, np.clip(end, -1, 1), np.nan) for end in (middle - half, middle + half))
    return low, high


def sign_flip(scores: ArrayLike) -> tuple[float, float]:
    """Return the exact p (two-sided, above zero) of a sum of scores whose signs are equally likely either way.

    A score an image, so an image counts once however many patches lie on it: under the null a and b could be swapped
    on each image. Scores are rounded to `GRID` steps, which leaves the test exact. Fisher 1935; the whole distribution
    by the shift algorithm of Streitberg and Röhmel (1986, Stat. Softw. Newsl. 12). Equal scores give McNemar's exact
    test.
    """
    values = np.asarray(scores, np.float64)
    largest = np.abs(values).max(initial=0.0)
    steps = np.rint(values / largest * GRID).astype(np.int64) if largest > 0 else np.zeros(0, np.int64)
    steps = steps[steps != 0]
    if not len(steps):
        return 1.0, 1.0
    steps //= np.gcd.reduce(steps)
    total = int(np.abs(steps).sum())
    chance = np.zeros(total + 1)  # of the sum of those that are above zero
    chance[0], reach = 1.0, 0
    for step in np.abs(steps):
        chance[: reach + step + 1] /= 2
        chance[step : reach + step + 1] += chance[: reach + 1].copy()
        reach += int(step)
    positive = int(steps[steps > 0].sum())
    above, below = float(chance[positive:].sum()), float(chance[: positive + 1].sum())
    return min(1.0, 2 * min(above, below)), min(1.0, above)


def holm(p: ArrayLike) -> Floats:
    """Return adjusted p values, to compare with the alpha of the whole family (Holm 1979, Scand. J. Stat. 6)."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    out = np.empty_like(values)
    out[order] = np.minimum(adjusted, 1)
    return out


def _counting(values: NDArray[Any], among: Bools, classes: Ints) -> tuple[Floats, Bools, Ints]:
    """Drop the patches that no image counts for."""
    some = among.any(axis=1)
    if not some.all():
        values, among, classes = values[some], among[some], np.asarray(classes)[some]
    return np.ascontiguousarray(values, np.float64), np.ascontiguousarray(among), np.asarray(classes)


def _image_variance(hits: Floats, among: Bools) -> float:
    """Return the variance of the mean rate over other images and the same patches: images are clusters."""
    n, images = among.sum(axis=1, keepdims=True), int(among.any(axis=0).sum())
    parts = ((hits - hits.sum(axis=1, keepdims=True) / n * among) / n).mean(axis=0)
    return float((parts**2).sum()) * images / max(images - 1, 1)


def _two_way(residuals: Floats, rates: Floats, n: Ints, classes: Ints) -> tuple[float, float]:
    """Return the standard error of the mean of ``rates``, over patches within classes and images, and its freedom.

    With patch, image and residual components A, B, E over P patches and N images it estimates A/P + B/N + E/PN; the
    first term alone, s^2/P, gives A/P + E/PN (Searle, Casella and McCulloch 1992, "Variance Components").
    The degrees of freedom are Satterthwaite's (1946, Biometrics Bull. 2): few where patches, many where images decide.
    """
    patches = len(rates)
    groups, group = np.unique(classes, return_inverse=True)
    middles = np.array([rates[classes == c].mean() for c in groups])[group]
    df = patches - len(groups)
    between = float(((rates - middles) ** 2).sum()) / df / patches
    parts = np.divide(residuals, n[:, None], out=residuals)
    counting = int(parts.any(axis=0).sum())
    mean = parts.mean(axis=0)
    apart = np.subtract(parts, mean, out=parts)
    interaction = float(np.square(apart, out=apart).sum()) / (patches * (patches - 1))
    images = max(0.0, float((mean**2).sum()) - interaction)
    whole = between + images
    spread = between**2 / df + images**2 / max(counting - 1, 1)
    return math.sqrt(whole), whole**2 / spread if spread > 0 else float(df)


@lru_cache(maxsize=2)
def image_weights(images: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """Return how often each image is drawn, ``(resamples, images)``; cached, since all groups share their images."""
    rng = np.random.default_rng([seed, 0])
    out = np.empty((resamples, images), np.float32)
    for row in out:
        row[:] = np.bincount(rng.integers(images, size=images), minlength=images)
    return out


@lru_cache(maxsize=2)
def patch_weights(groups: tuple[int, ...], resamples: int, seed: int) -> NDArray[np.float32]:
    """Return how much each patch counts where patches are drawn within their groups, ``(resamples, patches)``; cached.

    Most series of a run have the same classes and seeds.
    """
    of = np.array(groups)
    out = np.empty((resamples, len(of)), np.float32)
    rng = np.random.default_rng([seed, 1])
    for group in np.unique(of):
        here = np.flatnonzero(of == group)
        drawn = rng.multinomial(max(len(here) - 1, 1), np.full(len(here), 1 / len(here)), resamples)
        out[:, here] = drawn * (len(here) / max(len(here) - 1, 1))
    return out
