"""Records: what logits say of an image, and what they don't."""

import numpy as np
import pytest

from harness.results.records import Answers, judge

LABELS = np.array([0, 1, 2])


def answers(logits: list[list[float]]) -> Answers:
    return Answers(np.array(logits, np.float32), "", {}, {})


def test_prediction_and_margin_by_hand() -> None:
    got = judge(answers([[3, 1, 0], [4, 1, 2], [0, 0, 0]]), LABELS)
    assert got["pred"].tolist() == [0, 0, 0]  # a tie goes to the lower class
    assert got["margin"].tolist() == [2, -3, 0]
    assert got["status"].tolist() == ["ok"] * 3


def test_what_is_not_finite_is_an_error_and_no_prediction() -> None:
    got = judge(answers([[3, 1, 0], [np.nan, 9, 0], [np.inf, 0, 0]]), LABELS)
    assert got["status"].tolist() == ["ok", "nan logits", "nan logits"]
    assert got["pred"].tolist() == [0, -1, -1]
    assert np.isnan(got["margin"][1:]).all()


def test_classes_are_found_behind_an_offset() -> None:
    got = judge(answers([[9, 3, 1, 0], [9, 0, 1, 0], [9, 0, 0, 1]]), LABELS, class_offset=1)
    assert got["pred"].tolist() == [0, 1, 2]
    assert (got["margin"] > 0).all()


def test_an_error_and_missing_rows_are_errors_of_every_image() -> None:
    crashed = judge(Answers(None, "crash: SIGSEGV", {}, {}), LABELS)
    assert crashed["status"].tolist() == ["crash: SIGSEGV"] * 3
    short = judge(answers([[1, 0, 0]]), LABELS)
    assert set(short["pred"]) == {-1}
    assert short["status"][0] == "expected logits of 3 images, got 1"


@pytest.mark.parametrize("seed", range(5))
def test_margin_is_below_zero_exactly_where_the_prediction_is_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(200, 7)).astype(np.float32), rng.integers(0, 7, 200)
    got = judge(Answers(logits, "", {}, {}), labels)
    assert ((got["margin"] < 0) == (got["pred"] != labels)).all()
    label_logit = logits[np.arange(200), labels]
    best_other = np.array([np.delete(row, label).max() for row, label in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(got["margin"], label_logit - best_other, rtol=1e-6)
