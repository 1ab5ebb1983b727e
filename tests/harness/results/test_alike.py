"""How alike two answers are: the limits refuse what was seen to be wrong, and no kernels that were seen to be right."""

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.results.alike import CHANCE, KERNELS, QUANTIZED, SATURATED, Alike, Limits, alike, correlation

LOGITS = np.random.default_rng(0).normal(size=(32, 10)).astype(np.float32)


def test_the_same_answers_on_another_scale_are_alike() -> None:
    found = alike(LOGITS, 3 * LOGITS + 7)
    assert (found.images, found.flips) == (32, 0)
    assert found.correlation == pytest.approx(1)
    assert alike(LOGITS[:20], LOGITS) == (20, 0, 1.0)


def test_a_side_that_says_nothing_is_not_alike() -> None:
    for silent in (np.zeros_like(LOGITS), np.full_like(LOGITS, np.nan)):
        assert not alike(silent, LOGITS).is_within(QUANTIZED)
    assert correlation(np.zeros_like(LOGITS), np.zeros_like(LOGITS)) == 1.0
    assert correlation(-LOGITS, LOGITS) == pytest.approx(-1)


def test_outputs_of_another_number_are_not_alike() -> None:
    assert alike(LOGITS[:, :9], LOGITS).correlation == 0


@pytest.mark.parametrize("limits", [KERNELS, SATURATED, QUANTIZED])
@pytest.mark.parametrize("images", [1, 6, 32, 100])
def test_flips_are_held_against_chance(limits: Limits, images: int) -> None:
    for flips in range(images + 1):
        p = binomtest(flips, images, limits.flips, alternative="greater").pvalue
        assert Alike(images, flips, 1.0).is_within(limits) == (p >= CHANCE)


@pytest.mark.parametrize(
    ("seen", "limits", "is_right"),
    [
        (
            Alike(32, 1, 0.9994),
            KERNELS,
            True,
        ),  # OpenVINO with VNNI, LiteRT's kernels, TFLite Micro: the worst 32 of 500
        (Alike(32, 7, 0.8733), SATURATED, True),  # OpenVINO without VNNI: the worst 32
        (Alike(6, 4, 0.53), KERNELS, False),  # OpenVINO on a CPU with SME
        (Alike(6, 4, 1.0), KERNELS, False),  # its flips alone
        (Alike(32, 6, 0.90), KERNELS, False),  # red and blue swapped
        (Alike(32, 29, 0.37), SATURATED, False),  # 0 to 255 for 0 to 1
    ],
)
def test_what_was_measured_is_on_the_right_side(seen: Alike, limits: Limits, is_right: bool) -> None:
    assert seen.is_within(limits) == is_right
