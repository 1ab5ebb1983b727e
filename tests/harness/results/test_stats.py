"""Intervals and tests against scipy, numbers of statsmodels 0.15, textbook mean squares, and slow plain loops."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results.stats import crossed_bootstrap, difference, holm, mean_rate, ratio, sign_flip, wilson

ONE = np.zeros(1, np.int64)


def step(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return b.astype(float) - a.astype(float)


def crossed(
    rng: np.random.Generator, patches: int, images: int, rate: float = 0.3, patch_sd: float = 0.1, image_sd: float = 0.2
) -> np.ndarray:
    """Hits of crossed patches and images: each has an effect of its own on the chance."""
    chance = rate + rng.normal(0, patch_sd, (patches, 1)) + rng.normal(0, image_sd, images)
    return rng.random((patches, images)) < chance


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.995]))
def test_wilson_is_scipys(n: int, share: float, confidence: float) -> None:
    hits = round(share * n)
    known = scipy.stats.binomtest(hits, n).proportion_ci(confidence, "wilson")
    assert np.allclose(wilson(hits, n, confidence), (known.low, known.high), atol=1e-12)


def test_wilson_of_nothing_is_nothing() -> None:
    assert np.isnan(wilson([0], [0])).all()


@pytest.mark.parametrize(  # statsmodels: mcnemar([[5, b], [c, 9]], exact=True).pvalue
    ("b", "c", "p"),
    [(22, 0, 4.76837e-07), (12, 20, 0.215327149723), (3, 19, 0.000855445862), (20, 7, 0.019157290459)],
)
def test_one_patch_is_mcnemars_exact_test(b: int, c: int, p: float) -> None:
    first = np.array([[True] * b + [False] * c + [True] * 5 + [False] * 9])
    second = np.array([[False] * b + [True] * c + [True] * 5 + [False] * 9])
    found = difference(step(first, second), np.ones_like(first), ONE)
    assert found.p == pytest.approx(p, rel=1e-4)
    assert found.value == (c - b) / (b + c + 14)
    assert found.p_above == pytest.approx(scipy.stats.binomtest(c, b + c, alternative="greater").pvalue)


def test_bonett_and_prices_interval_is_the_published_one() -> None:
    """Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness before and after: 1, 1, 7, 12."""
    before = np.array([[True, True, *[False] * 19]])
    after = np.array([[True, False, *[True] * 7, *[False] * 12]])
    found = difference(step(after, before), np.ones_like(before), ONE)
    assert (found.low, found.high) == pytest.approx((-0.508, -0.013), abs=0.001)


@pytest.mark.parametrize(  # statsmodels: multipletests(p, method="holm")
    ("p", "adjusted"),
    [
        ([0.0166, 0.0882, 0.1284, 0.1696, 0.9866, 0.498], [0.0996, 0.441, 0.5136, 0.5136, 0.996, 0.996]),
        ([0.2408, 0.9672, 0.01, 0.0041, 0.2298, 0.0001], [0.6894, 0.9672, 0.04, 0.0205, 0.6894, 0.0006]),
        ([], []),
    ],
)
def test_holm_is_that_of_statsmodels(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(np.array(adjusted))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-100, 100), min_size=1, max_size=9))
def test_sign_flip_is_the_permutation_test(scores: list[int]) -> None:
    scores = [*scores, 100]  # so that no score is rounded
    wanted = [
        scipy.stats.permutation_test(
            (scores,), np.sum, permutation_type="samples", alternative=side, n_resamples=np.inf
        ).pvalue
        for side in ("two-sided", "greater")
    ]
    assert sign_flip(scores) == pytest.approx(wanted)


def test_many_patches_on_one_image_are_one_observation() -> None:
    """Nine patches that all gain the same 8 images say no more than one of them."""
    before = np.zeros((1, 400), bool)
    after = before.copy()
    after[0, :8] = True
    one = difference(step(before, after), np.ones_like(before), ONE)
    nine = difference(
        *(np.repeat(m, 9, axis=0) for m in (step(before, after), np.ones_like(before))), np.zeros(9, np.int64)
    )
    assert (nine.value, nine.p, nine.p_above) == (one.value, one.p, one.p_above)
    assert one.p_above == 2**-8


def test_t_adds_the_images_share_of_the_variance() -> None:
    """Against the mean squares of a two-way layout."""
    hits = crossed(np.random.default_rng(3), 6, 500)
    p, n = hits.shape
    grand, rows, columns = hits.mean(), hits.mean(axis=1), hits.mean(axis=0)
    ms_patch = n * ((rows - grand) ** 2).sum() / (p - 1)
    ms_image = p * ((columns - grand) ** 2).sum() / (n - 1)
    rest = hits - rows[:, None] - columns + grand
    ms_rest = (rest**2).sum() / (p - 1) / (n - 1)
    found = mean_rate(hits, np.ones_like(hits), np.zeros(p, np.int64))
    parts = np.array([ms_patch, ms_image - ms_rest]) / (p * n)
    df = parts.sum() ** 2 / (parts**2 / [p - 1, n - 1]).sum()
    half = scipy.stats.t.ppf(0.975, df) * np.sqrt(parts.sum())
    assert found.value == pytest.approx(grand)
    assert (found.low, found.high) == pytest.approx((grand - half, grand + half), rel=3e-3)  # n for n - 1


def test_alike_patches_of_unlike_classes_are_no_variance() -> None:
    """The class is fixed: two classes, 20 % and 80 %, give a narrow interval, and one patch each one over images."""
    rng = np.random.default_rng(0)
    hits = rng.random((6, 1000)) < np.repeat([0.2, 0.8], 3)[:, None]
    everywhere, classes = np.ones_like(hits), np.repeat([0, 1], 3)
    within, blind = mean_rate(hits, everywhere, classes), mean_rate(hits, everywhere, np.zeros(6, np.int64))
    assert within.high - within.low < 0.06 < 0.5 < blind.high - blind.low
    single = mean_rate(hits[::3], everywhere[::3], classes[::3])
    assert single.over == "images"
    assert 0.02 < single.high - single.low < 0.06


def test_one_patch_is_wilson_and_none_is_nothing() -> None:
    hits = np.array([[True, False, True, True]])
    among = np.array([[True, True, True, False]])
    assert mean_rate(hits, among, ONE)[:3] == pytest.approx((2 / 3, *np.array(wilson(2, 3))))
    assert np.isnan(mean_rate(hits, among & False, ONE).value)
    assert np.isnan(difference(step(hits, hits), among & False, ONE).p)


def test_no_success_anywhere_is_not_certainty() -> None:
    nothing = np.zeros((4, 300), bool)
    found = mean_rate(nothing, ~nothing, np.array([0, 0, 1, 1]))
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(float(wilson(0, 300)[1]))


def test_the_bootstrap_draws_what_a_plain_loop_draws() -> None:
    rng = np.random.default_rng(1)
    hits, among, classes = crossed(rng, 12, 60), rng.random((12, 60)) < 0.8, np.repeat([0, 1, 2], 4)
    plain = []
    for _ in range(4000):
        images = rng.integers(60, size=60)
        rates = []
        for group in range(3):
            for patch in rng.choice(np.flatnonzero(classes == group), 3):
                counted = [image for image in images if among[patch, image]]
                rates.append(np.mean([hits[patch, image] for image in counted]))
        plain.append(np.mean(rates))
    found = crossed_bootstrap(hits, among, classes, 4000, seed=2)
    assert found.mean() == pytest.approx(np.mean(plain), abs=0.004)
    assert found.std() == pytest.approx(np.std(plain), rel=0.06)


def test_ten_thousand_resamples_of_thirty_patches_take_no_five_seconds() -> None:
    rng = np.random.default_rng(0)
    hits = crossed(rng, 30, 1000)
    started = time.perf_counter()
    found = mean_rate(hits, rng.random(hits.shape) < 0.85, np.repeat([0, 1, 2], 10))
    assert time.perf_counter() - started < 5
    assert found.over == "patches and images"


@pytest.mark.parametrize(("patches", "over"), [(1, "images"), (6, "patches and images"), (12, "patches and images")])
def test_ninety_five_percent_cover_ninety_five_times(patches: int, over: str) -> None:
    rng, covered, times = np.random.default_rng(patches), 0, 200
    for _ in range(times):
        hits = crossed(rng, patches, 120, patch_sd=0.05 * (patches > 1), image_sd=0.05)
        found = mean_rate(hits, np.ones_like(hits), np.zeros(patches, np.int64))
        covered += found.low <= 0.3 <= found.high
        assert found.over == over
    assert 0.904 < covered / times < 0.996  # 95 % and three standard errors; benchmarks/gate_power.py has more


def test_paired_differences_cover_and_alarm_as_they_say() -> None:
    """Over images with fixed patches: a 4-point rise is inside the interval, and without one alarms are rare enough."""
    rng, times = np.random.default_rng(5), 400
    covered = alarms = 0
    for _ in range(times):
        images = rng.random(300)
        before = rng.random((3, 300)) < 0.6 * images
        up, down = (rng.random(300) < share for share in (0.06, 0.02))
        after = (before | up) & ~down
        truth = 0.06 * 0.98 * 0.7 - 0.02 * 0.3
        found = difference(step(before, after), np.ones_like(before), np.zeros(3, np.int64))
        covered += found.low <= truth <= found.high
        swapped = rng.random(300) < 0.5
        a, b = np.where(swapped, before, after), np.where(swapped, after, before)
        alarms += difference(step(a, b), np.ones_like(a), np.zeros(3, np.int64)).p_above < 0.05
    assert 0.915 < covered / times < 0.985
    assert alarms / times < 0.085


def test_over_patches_a_paired_difference_is_a_paired_t() -> None:
    """On images that are all alike."""
    before = np.zeros((5, 100), bool)
    after = before.copy()
    for patch, hits in enumerate((3, 8, 5, 9, 4)):
        after[patch, np.random.default_rng(patch).permutation(100)[:hits]] = True
    found = difference(step(before, after), np.ones_like(before), np.zeros(5, np.int64), "patches and images")
    known = scipy.stats.ttest_rel(after.mean(axis=1), before.mean(axis=1))
    assert found.p == pytest.approx(known.pvalue, rel=0.3)
    assert (found.low, found.high) == pytest.approx(known.confidence_interval(0.95), abs=0.004)


def test_no_difference_at_all_is_not_certainty() -> None:
    still = difference(np.zeros((4, 200)), np.ones((4, 200), bool), np.array([0, 0, 1, 1]), "patches and images")
    assert (still.value, still.p, still.p_above, still.over) == (0, 1, 1, "images")
    assert still.low < 0 < still.high < 0.02


def test_a_ratio_of_one_patch_agrees_with_a_plain_bootstrap() -> None:
    """Within a tenth of its width: resampled images, both rates on the same ones."""
    rng = np.random.default_rng(3)
    bottom = rng.random((1, 600)) < 0.5
    top = bottom & (rng.random((1, 600)) < 0.6)
    found = ratio(top.astype(float), bottom.astype(float), np.ones((1, 600), bool), ONE)
    assert np.isclose(found.value, top.sum() / bottom.sum())
    drawn = rng.integers(600, size=(4000, 600))
    ends = np.quantile(top[0][drawn].sum(axis=1) / bottom[0][drawn].sum(axis=1), [0.025, 0.975])
    assert np.allclose([found.low, found.high], ends, atol=0.1 * np.ptp(ends))


@pytest.mark.parametrize(("patches", "times", "least"), [(3, 200, 181), (12, 50, 43)])  # 95 %, less three errors
def test_ninety_five_percent_of_ratios_cover(patches: int, times: int, least: int) -> None:
    """Patches and images drawn anew each time; the truth is the ratio of the chances, one half."""
    covered = 0
    for seed in range(times):
        rng = np.random.default_rng(seed)
        bottom = crossed(rng, patches, 150, rate=0.5)
        top = bottom & (rng.random(bottom.shape) < 0.5)
        found = ratio(top.astype(float), bottom.astype(float), np.ones_like(bottom), np.zeros(patches, np.int64))
        covered += found.low <= 0.5 <= found.high
    assert covered >= least


def test_a_ratio_to_nothing_is_nothing() -> None:
    none = np.zeros((2, 50))
    assert np.isnan(ratio(none + 1, none, none == 0, np.zeros(2, np.int64)).value)


def test_equal_answers_are_not_certainty() -> None:
    hits = np.random.default_rng(0).random((1, 80)) < 0.3
    found = ratio(hits.astype(float), hits.astype(float), np.ones_like(hits), ONE)
    assert found.value == 1
    assert 0.8 < found.low < 1 < found.high
