"""Rates against a slow reference in plain Python, a case worked by hand, and the refusals."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from backends.device.errors import UserError
from harness.results.columns import CELL_COLUMNS, RECORD_COLUMNS
from harness.results.metrics import CLEAN, RATES, cells, summarise

CELL = dict.fromkeys(CELL_COLUMNS, "") | {
    "victim": "net", "precision": "w8a8", "format": "onnx", "artifact": "net-onnx", "attack": "none", "target": "ort",
    "target_class": -1, "seed": 0, "patch_px": 0, "patch_area": 0.0, "threads": 1, "split": "evaluate",
}  # fmt: skip
GAP = {"attack": "gap", "surrogate": "float", "target_class": 1, "patch_px": 8, "patch": "gap-t1-s0"}
NOISE = {"attack": "noise", "target_class": 1, "patch_px": 8}
FLOAT = {"precision": "fp32", "format": "torch", "artifact": "net-torch", "target": "torch"}


def frame(*parts: tuple[dict[str, Any], list[int], list[int | str]]) -> pd.DataFrame:
    """Records of cells given as (columns, labels, predictions); a prediction that is text is an error's status."""
    rows = [
        CELL | cell | {"image": f"i{i}", "label": label, "status": "ok", "pred": pred, "margin": 0.0}
        if isinstance(pred, int)
        else CELL | cell | {"image": f"i{i}", "label": label, "status": pred, "pred": -1, "margin": 0.0}
        for cell, labels, preds in parts
        for i, (label, pred) in enumerate(zip(labels, preds, strict=False))
    ]
    return pd.DataFrame(rows, columns=[*CELL_COLUMNS, *RECORD_COLUMNS])


def one(table: pd.DataFrame, **wanted: Any) -> pd.Series:
    rows = table.loc[np.logical_and.reduce([table[k] == v for k, v in wanted.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


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


@st.composite
def random_records(draw: st.DrawFn) -> pd.DataFrame:
    """Two victims' artifacts on several targets, any patches on any of them, images missing and failed at random."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    failing, missing = draw(st.sampled_from([(0, 0), (0.02, 0.02), (0, 0.05), (0.3, 0)]))
    classes, images = draw(st.integers(2, 4)), draw(st.integers(1, 12))
    labels = rng.integers(classes, size=images)
    places = [
        {"victim": v, "artifact": f"{v}-{f}-{p}", "format": f, "target": t, "precision": p}
        for v in ("a", "b")
        for f, t, p in (
            ("torch", "torch", "fp32"), ("torch", "torch", "w8a8"), ("onnx", "ort", "w8a8"), ("onnx", "ort2", "w8a8"),
            ("tflite", "litert", "w8a8"),
        )
    ]  # fmt: skip
    attacks = [{"attack": "none", "target_class": -1}] * 2 + [
        {"attack": a, "target_class": c, "seed": s, "patch_px": p, "surrogate": "float" if a == "gap" else "",
         "patch": f"{a}-{s}-{p}" + (f"-{c}" if a == "gap" else "")}
        for a in ("gap", "noise", "grey") for c in (-1, 0, 1) for s in (0, 1) for p in (4, 6)
    ]  # fmt: skip
    rows, seen = [], set()
    for place in places:
        for attack in (attacks[i] for i in rng.choice(len(attacks), 7)):
            cell = CELL | place | attack
            if tuple(cell.values()) in seen:
                continue
            seen.add(tuple(cell.values()))
            for i, label in enumerate(labels):
                if rng.random() < missing:
                    continue
                failed = rng.random() < failing
                right = int(label) if rng.random() < 0.6 else int(rng.integers(classes))
                record = {"image": f"i{i}", "label": int(label), "status": "crash: SIGSEGV" if failed else "ok"}
                rows.append(cell | record | {"pred": -1 if failed else right, "margin": 0.0})
    frame = pd.DataFrame(rows, columns=[*CELL_COLUMNS, *RECORD_COLUMNS])
    return frame.sample(frac=1, random_state=int(rng.integers(2**31)))


def reference(records: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, float]]:
    """The definitions of the README, image by image."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in records.to_dict("records"):
        groups[tuple(row[c] for c in CELL_COLUMNS)][row["image"]] = row
    named = {key: dict(zip(CELL_COLUMNS, key, strict=True)) for key in groups}

    def partner(cell: dict[str, Any], columns: tuple[str, ...], **fixed: Any) -> tuple[Any, ...] | None:
        same = {c: cell[c] for c in columns} | fixed
        return next((k for k, other in named.items() if all(other[c] == v for c, v in same.items())), None)

    out: dict[tuple[Any, ...], dict[str, float]] = {}
    for key, rows in groups.items():
        cell, clean = named[key], groups[k] if (k := partner(named[key], CLEAN, attack="none")) else {}
        wrong = {i for i in rows if rows[i]["status"] != "ok" or i not in clean or clean[i]["status"] != "ok"}
        out[key] = {"n_error": len(wrong | (set(clean) - set(rows)))} | dict.fromkeys(RATES, float("nan"))
        if out[key]["n_error"]:
            continue
        right = [i for i in rows if clean[i]["pred"] == rows[i]["label"]]
        out[key]["clean_accuracy"] = len(right) / len(rows)
        if cell["attack"] == "none":
            continue
        goal = cell["target_class"]
        aimed = [i for i in right if goal >= 0 and rows[i]["label"] != goal]
        if aimed:
            out[key]["targeted_success"] = sum(rows[i]["pred"] == goal for i in aimed) / len(aimed)
        if right:
            out[key]["untargeted_success"] = sum(rows[i]["pred"] != rows[i]["label"] for i in right) / len(right)
    ran = [k for k, cell in named.items() if cell["attack"] == "none" and not out[k]["n_error"]]
    judges = [k for k in ran if named[k]["format"] != "torch" or named[k]["precision"] == "fp32"]
    for key, rates in out.items():
        cell = named[key]
        own = [k for k in ran if k == partner(cell, CLEAN, attack="none")]  # a simulation is no judge but of itself
        mine = [groups[k] for k in {*judges, *own} if named[k]["victim"] == cell["victim"]]
        goal = cell["target_class"]
        common = [
            i
            for i, row in groups[key].items()
            if goal >= 0 and row["label"] != goal and all(i in m and m[i]["pred"] == row["label"] for m in mine)
        ]
        if common and cell["attack"] != "none" and not rates["n_error"]:
            hits = sum(groups[key][i]["pred"] == goal for i in common)
            rates["targeted_success_in_common"] = hits / len(common)
        same = {c: cell[c] for c in (*CLEAN, "patch_px", "shape", "placement", "target_class")} | {"attack": "noise"}
        draws = [out[k]["targeted_success"] for k, c in named.items() if all(c[n] == v for n, v in same.items())]
        if draws:
            rates["targeted_excess_over_noise"] = rates["targeted_success"] - sum(draws) / len(draws)
        columns = ("victim", "attack", "target_class", "seed", "patch_px", "patch")
        lab = partner(cell, columns, format="torch", precision="fp32")
        if lab and not out[lab]["n_error"] and not rates["n_error"]:
            both = set(groups[key]) & set(groups[lab])
            if both:
                equal = sum(groups[key][i]["pred"] == groups[lab][i]["pred"] for i in both)
                rates["equal_to_float"] = equal / len(both)
    return out


@settings(max_examples=60, deadline=None)
@given(random_records())
def test_against_the_reference(records: pd.DataFrame) -> None:
    table, wanted = cells(records), reference(records)
    assert len(table) == len(wanted)
    for rate, n in zip(RATES, ("n_clean", "n_targeted", "n_untargeted", "n_in_common"), strict=False):
        some = table[table[n] > 0]
        known = [
            binomtest(round(row[rate] * row[n]), row[n]).proportion_ci(0.95, "wilson")
            for row in some.to_dict("records")
        ]
        assert np.allclose(some[[f"{rate}_low", f"{rate}_high"]], np.array(known).reshape(-1, 2))
        assert table.loc[table[n] == 0, f"{rate}_low"].isna().all()
    for row in table.to_dict("records"):
        expected = wanted[tuple(row[c] for c in CELL_COLUMNS)]
        assert row["status"] == ("error" if expected["n_error"] else "ok")
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, nan_ok=True), (name, row)


def test_text_columns_may_be_categories() -> None:
    records = frame(({}, LABELS, CLEAN_PREDS), (GAP, LABELS, [1] * 8), (GAP | FLOAT, LABELS, [1] * 8))
    text = [c for c in records.columns if not pd.api.types.is_numeric_dtype(records[c])]
    pd.testing.assert_frame_equal(
        cells(records),
        cells(records.astype(dict.fromkeys(text, "category"))),
        check_dtype=False,
        check_categorical=False,
    )
