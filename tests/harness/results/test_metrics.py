"""Rates against a slow reference in plain Python, a case worked by hand, and the refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.records import FLOAT, GAP, NOISE, frame, one

from backends.device.errors import UserError
from harness.results.columns import CELL_COLUMNS
from harness.results.metrics import RATES, cells, summarise

LABELS = [0, 0, 0, 2, 2, 1, 1, 2]
CLEAN_PREDS = [0, 0, 0, 2, 2, 1, 1, 1]  # all right but the last


def test_worked_by_hand() -> None:
    table = cells(
        frame(
            ({}, LABELS, CLEAN_PREDS),
            (GAP, LABELS, [1, 1, 0, 1, 0, 1, 2, 1]),
            (NOISE | {"patch": "noise-0"}, LABELS, [1, 0, 0, 2, 2, 1, 1, 1]),
            (NOISE | {"patch": "noise-1", "seed": 1}, LABELS, [0, 0, 0, 2, 2, 1, 1, 1]),
            (FLOAT, LABELS, LABELS),
            (GAP | FLOAT, LABELS, [1, 1, 1, 1, 1, 1, 1, 1]),
        )
    )
    clean = one(table, attack="none", target="ort")
    assert (clean.n_clean, clean.clean_accuracy, clean.n_targeted, clean.n_untargeted) == (8, 7 / 8, 0, 0)
    assert np.isnan(clean.targeted_success)
    assert np.isnan(clean.untargeted_success)
    gap = one(table, attack="gap", target="ort")
    # aimed at: the right ones (0 to 6) that are not of class 1 (0 to 4); reached on 0, 1, 3. The last image is wrong
    # without the patch already and counts nowhere, although its prediction is the target class.
    assert (gap.n_targeted, gap.targeted_success) == (5, 3 / 5)
    assert (gap.n_untargeted, gap.untargeted_success) == (7, 5 / 7)
    assert gap.targeted_excess_over_noise == pytest.approx(3 / 5 - (1 / 5 + 0) / 2)
    assert (gap.n_float, gap.equal_to_float) == (8, 5 / 8)
    assert gap.clean_accuracy == 7 / 8
    lab = one(table, attack="gap", target="torch")
    assert (lab.n_targeted, lab.targeted_success, lab.equal_to_float) == (6, 1.0, 1.0)
    assert np.isnan(lab.targeted_excess_over_noise)


def test_an_untargeted_patch_has_no_targeted_success() -> None:
    gap = one(cells(frame(({}, LABELS, CLEAN_PREDS), (GAP | {"target_class": -1}, LABELS, [1] * 8))), attack="gap")
    assert gap.n_targeted == 0
    assert np.isnan(gap.targeted_success)
    assert (gap.n_untargeted, gap.untargeted_success) == (7, 5 / 7)


@pytest.mark.parametrize(
    ("clean", "patched", "n_error", "error"),
    [
        (CLEAN_PREDS, [1, 1, "crash: SIGSEGV", "nan logits", 1, 1, 1, 1], 2, "crash: SIGSEGV"),
        (["nan logits", *CLEAN_PREDS[1:]], [1] * 8, 1, "no clean prediction"),
        (CLEAN_PREDS[:6], [1] * 8, 2, "no clean prediction"),
        (CLEAN_PREDS, [1] * 5, 3, "images missing"),
        ([], [1] * 8, 8, "no clean prediction"),
    ],
)
def test_an_error_is_no_misclassification(clean: list[Any], patched: list[Any], n_error: int, error: str) -> None:
    records = frame(({}, LABELS, clean), (GAP, LABELS, patched), (NOISE | {"patch": "n0"}, LABELS, CLEAN_PREDS[:8]))
    gap = one(cells(records), attack="gap")
    assert (gap.status, gap.n_error, gap.error) == ("error", n_error, error)
    assert all(np.isnan(gap[rate]) for rate in RATES)
    assert gap[["n_clean", "n_targeted", "n_untargeted", "n_float"]].sum() == 0
    summary = one(summarise(cells(records), records), attack="gap")
    assert (summary.status, summary.n_patches, summary.n_failed) == ("error", 0, 1)


def test_a_failed_draw_leaves_no_excess() -> None:
    records = frame(
        ({}, LABELS, CLEAN_PREDS),
        (GAP, LABELS, [1] * 8),
        (NOISE | {"patch": "n0"}, LABELS, CLEAN_PREDS),
        (NOISE | {"patch": "n1", "seed": 1}, LABELS, ["nan logits", *CLEAN_PREDS[1:]]),
    )
    assert np.isnan(one(cells(records), attack="gap").targeted_excess_over_noise)


def test_what_is_no_table_of_records_is_refused() -> None:
    records = frame(({}, LABELS, CLEAN_PREDS))
    with pytest.raises(UserError, match="image 'i0' twice in the cell net-onnx / ort"):
        cells(pd.concat([records, records.iloc[:1]]))
    with pytest.raises(UserError, match="expected columns pred"):
        cells(records.drop(columns="pred"))
    with pytest.raises(UserError, match="two cells without a patch"):
        cells(frame(({}, LABELS, CLEAN_PREDS), ({"threads": 2}, LABELS, CLEAN_PREDS)))


def test_controls_are_those_of_the_same_class_and_chosen_place() -> None:
    """Two attacks that choose places, one class each: each has its own noise."""
    parts = [({}, LABELS, CLEAN_PREDS)]
    for goal, hits in ((1, 0), (2, 1)):
        patch = {"target_class": goal, "patch": f"gap-t{goal}", "attack": f"gap{goal}", "placement": "best"}
        parts += [(GAP | patch, LABELS, CLEAN_PREDS)]
        noise = {"target_class": goal, "patch": f"noise-0@gap-t{goal}", "placement": "best"}
        parts += [(NOISE | noise, LABELS, [2 if hits else CLEAN_PREDS[0], *CLEAN_PREDS[1:]])]
        other = {"target_class": 3 - goal, "patch": f"noise-0@gap-t{goal}", "placement": "best"}
        parts += [(NOISE | other, LABELS, [3 - goal] * 8)]  # judged for the other's class: nobody's control
    summary = summarise(cells(frame(*parts)), frame(*parts))
    assert one(summary, attack="gap1").noise == 0
    assert one(summary, attack="gap2").noise == pytest.approx(1 / 5)
    table = cells(frame(*parts))
    assert one(table, attack="gap2").targeted_excess_over_noise == pytest.approx(-1 / 5)


def test_every_control_stands_beside_its_own() -> None:
    """A sticker beside each attack on its class, a patch of another class beside its own attack alone."""
    parts = [({}, LABELS, CLEAN_PREDS)]
    for attack, hit in (("gap", 1), ("lavan", 0)):
        for goal in (1, 2):
            own = {"attack": attack, "target_class": goal, "patch": f"{attack}-t{goal}"}
            parts += [(GAP | own, LABELS, CLEAN_PREDS)]
            other = GAP | own | {"attack": "other_class", "target_class": 3 - goal}
            parts += [(other, LABELS, [(3 - goal) * hit, *CLEAN_PREDS[1:]])]
    parts += [(NOISE | {"attack": "sticker", "patch": "sticker-t1"}, LABELS, [1, 1, *CLEAN_PREDS[2:]])]
    summary = summarise(cells(frame(*parts)), frame(*parts))
    gap, lavan = one(summary, attack="gap"), one(summary, attack="lavan")
    assert (gap.sticker, lavan.sticker) == (2 / 5, 2 / 5)
    assert gap.other_class == pytest.approx((1 / 5 + 1 / 5) / 2)
    assert lavan.other_class == 0
    assert np.isnan(gap.noise)


def test_a_simulation_is_no_place_where_all_are_right() -> None:
    simulated = {"precision": "w4a4", "format": "torch", "artifact": "net-torch-w4a4", "target": "torch"}
    wrong = [0, 0, 1, 2, 2, 1, 1, 2]  # on the third image
    places = [({}, LABELS, CLEAN_PREDS), (FLOAT, LABELS, LABELS), (simulated, LABELS, wrong)]
    table = cells(frame(*places, *((GAP | place, LABELS, [1] * 8) for place, _, _ in places)))
    for place in ({"artifact": "net-onnx"}, FLOAT):
        assert one(table, attack="gap", **place).n_in_common == 5
    assert one(table, attack="gap", **simulated).n_in_common == 4


def test_no_records_are_no_cells() -> None:
    table = cells(frame())
    assert len(table) == 0
    assert {*CELL_COLUMNS, "status", *RATES} <= {*table.columns}
    assert len(summarise(table, frame())) == 0


def test_summary_is_over_patches() -> None:
    parts = [({}, LABELS, CLEAN_PREDS)]
    for goal, preds in ((1, [1, 1, 0, 1, 0, 1, 2, 1]), (2, [2, 0, 0, 2, 2, 1, 1, 1])):
        parts += [(GAP | {"target_class": goal, "patch": f"gap-t{goal}"}, LABELS, preds)]
        parts += [(NOISE | {"target_class": goal, "patch": "noise-0"}, LABELS, [2, *CLEAN_PREDS[1:]])]
    parts += [(GAP | {"seed": 1, "patch": "gap-t1-s1", "cpu": "unknown to the dead"}, LABELS, ["nan logits"] * 8)]
    summary = summarise(cells(frame(*parts)), frame(*parts))
    gap = one(summary, attack="gap")
    assert (gap.status, gap.n_patches, gap.n_failed, gap.error) == ("ok", 2, 1, "nan logits")
    # class 1: 3 of 5; class 2: the right ones not of class 2 are 0, 1, 2, 5, 6, reached on the first
    assert (gap.targeted_success_min, gap.targeted_success_max) == (1 / 5, 3 / 5)
    assert gap.targeted_success == pytest.approx(2 / 5)
    assert gap.n_targeted == 10
    assert gap.noise == pytest.approx((0 + 1 / 5) / 2)
    assert np.isnan(gap.grey)
    assert (one(summary, attack="noise").n_patches, one(summary, attack="none").clean_accuracy) == (1, 7 / 8)


def test_text_columns_may_be_categories() -> None:
    records = frame(({}, LABELS, CLEAN_PREDS), (GAP, LABELS, [1] * 8), (GAP | FLOAT, LABELS, [1] * 8))
    text = [c for c in records.columns if not pd.api.types.is_numeric_dtype(records[c])]
    pd.testing.assert_frame_equal(
        cells(records),
        cells(records.astype(dict.fromkeys(text, "category"))),
        check_dtype=False,
        check_categorical=False,
    )
