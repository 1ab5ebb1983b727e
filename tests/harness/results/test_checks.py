"""Self-checks: each passes on a good run, fails on the fault that it is for, and marks the cells that it touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.edited_runs import facts_of
from helpers.made_run import FILES, make_run

from harness.report.page import build
from harness.results.checks import checks, doubts
from harness.results.gathering import gathered
from harness.results.judged import judged
from harness.results.metrics import cells, summarise
from harness.results.run_directory import RunFacts

GOOD: dict[str, Any] = {
    "again": [{"artifact": "net-onnx-w8a8-s8s8-minmax", "target": "ort", "images": 32, "equal": 32}],
    "arithmetic": [
        {"artifact": "net-onnx-w8a8-u8s8-minmax", "target": "ort", "signature": "u8s8", "images": 32, "outputs": 320,
         "top1": 1.0, "equal": 0.46, "within_one": 0.9, "largest": 6},
    ],
    "elsewhere": [
        {"artifact": "net-onnx-w8a8-u8s8-minmax", "target": "ort", "against": "onnxruntime here", "images": 32,
         "flips": 1, "correlation": 0.999},
    ],
    "twins": [
        {"artifact": "net-onnx-w8a8-s8s8-minmax", "kernels": "onnxruntime", "patches": ["net-gap-t3-s0"], "images": 8,
         "batches": [1, 8, 5], "integers": 240, "equal": 1.0},
    ],
    "outputs": [
        {"artifact": "net-torch-fp32", "target": "torch", "declared": "logits", "least": -3.0, "most": 9.0,
         "furthest_sum_from_one": 7.0},
        {"artifact": "net-onnx-fp32", "target": "ort", "declared": "softmax", "least": 0.0, "most": 1.0,
         "furthest_sum_from_one": 0.01},
    ],
    "cases": [{"patch": "net-gap-t3-s0", "pixels_sha256": "ab", "others": []}],
}  # fmt: skip


def typed(run: dict[str, Any]) -> RunFacts:
    return RunFacts.model_validate({"schema": 2} | run)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pd.DataFrame, Path]:
    root = make_run(tmp_path_factory.mktemp("run"), victims=("net",), images=1000, seeds=1, files=FILES[:4])
    run = facts_of(root) | GOOD
    run["data"]["copies"] = 0
    for artifact in run["artifacts"]:
        artifact["quant"] = {"calibration_images": 128} if artifact["signature"] else None
    table = cells(pd.read_parquet(root / "records.parquet"))
    run["victims"][0]["float_accuracy"] = float(table["clean_accuracy"].iloc[0])
    return run, table, root


def test_a_good_run_passes_all(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    run, table, _ = made
    found = checks(typed(run), table)
    assert {check.name: check.status for check in found} == dict.fromkeys([c.name for c in found], "passed")
    assert len(found) == 14
    assert set(doubts(table, found)) == {""}


def test_a_defence_that_no_patch_expects_marks_what_it_met(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    """Per artifact: an adaptive patch on one file says nothing of the defence before another."""
    run, table, _ = made
    behind = table.assign(defence="jpeg:75")
    one = behind["artifact"] == "net-onnx-fp32"
    adaptive = behind[one & (behind["attack"] == "gap")].assign(surrogate="float with defence jpeg:75")
    other = behind[~one & (behind["attack"] == "gap")].assign(surrogate="float with defence jpeg:60")
    whole = pd.concat([table, behind, adaptive, other], ignore_index=True)
    found = checks(typed(run), whole)
    (check,) = (check for check in found if check.name == "attacked adaptively")
    assert check.status == "failed"
    assert "jpeg:75 before net-onnx-w8a8-u8s8-minmax on ort" in check.says
    marked = whole[["adaptively" in text for text in doubts(whole, found)]]
    assert set(marked["defence"]) == {"jpeg:75"}
    assert set(marked["artifact"]) == set(table["artifact"]) - {"net-onnx-fp32"}
    found = checks(typed(run), whole[whole["artifact"] == "net-onnx-fp32"])
    assert {check.status for check in found if check.name == "attacked adaptively"} == {"passed"}


def test_a_run_that_recorded_nothing_is_not_said_to_pass(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    status = {c.name: c.status for c in checks(typed({"data": {}}), made[1].iloc[:0])}
    assert set(status.values()) == {"unknown"}


FAULTS: list[tuple[str, str, str, Any]] = [  # check, what it says, cells it touches, what goes wrong
    ("twice equal", "1 of 32 differ", "artifact == 'net-onnx-w8a8-u8s8-minmax'",
     {"again": [GOOD["again"][0] | {"equal": 31, "artifact": "net-onnx-w8a8-u8s8-minmax"}]}),
    ("twice equal", "hang", "artifact == 'net-onnx-fp32'",
     {"again": [{"artifact": "net-onnx-fp32", "target": "ort", "error": "hang"}]}),
    ("twins", "net-onnx-w8a8-s8s8-minmax (onnxruntime): 72.0% differ, by up to 9 steps", "patch == 'net-gap-t3-s0'",
     {"twins": [GOOD["twins"][0] | {"equal": 0.28, "largest": 9}]}),
    ("arithmetic", "up to 50 steps, 86% of the integers differ", "artifact == 'net-onnx-w8a8-u8s8-minmax'",
     {"arithmetic": [GOOD["arithmetic"][0] | {"largest": 50, "equal": 0.14}]}),
    ("as elsewhere", "net-onnx-w8a8-u8s8-minmax on ort: it begins at Conv", "artifact == 'net-onnx-w8a8-u8s8-minmax'",
     {"elsewhere": [GOOD["elsewhere"][0] | {"differs": "it begins at Conv"}]}),
    ("kind of outputs", "softmax, logits declared", "artifact == 'net-onnx-fp32'",
     {"outputs": [GOOD["outputs"][1] | {"declared": "logits"}]}),
    ("kind of outputs", "logits, softmax declared", "artifact == 'net-torch-fp32'",
     {"outputs": [GOOD["outputs"][0] | {"declared": "softmax", "artifact": "net-torch-fp32"}]}),
    ("pixels as crafted", "net-gap-t3-s0 on ort", "patch == 'net-gap-t3-s0' and artifact == 'net-onnx-fp32'",
     {"cases": [{"patch": "net-gap-t3-s0", "others": [{"artifact": "net-onnx-fp32", "target": "ort"}]}]}),
    ("calibration", "net-onnx-fp32: 8; give more", "artifact == 'net-onnx-fp32'",
     {"artifacts": [{"name": "net-onnx-fp32", "victim": "net", "quant": {"calibration_images": 8}}]}),
    ("accuracy as claimed", "80.0% claimed", "artifact == 'net-onnx-fp32'",
     {"artifacts": [{"name": "net-onnx-fp32", "victim": "net", "claimed_accuracy": 0.8}]}),
    ("accuracy as claimed", "50.0% claimed", "artifact == 'net-torch-fp32'",
     {"victims": [{"name": "net", "claimed_accuracy": 0.5}]}),
    ("accuracy as claimed", "are mean, std, divisor and channel_order the model's?", "index == index",
     {"class_names": ["one"], "victims": [], "artifacts": []}),
    ("accuracy as claimed", "no claimed_accuracy: preprocessing sends -2 to 2", "artifact == 'net-onnx-fp32'",
     {"victims": [], "artifacts": [{"name": "net-onnx-fp32", "input_doubt": "preprocessing sends -2 to 2"}]}),
    ("no copies", "2 of the evaluation images are", "index == index", {"data": {"copies": 2}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "says", "touched", "fault"), FAULTS)
def test_a_fault_fails_its_check_and_marks_its_numbers(
    made: tuple[dict[str, Any], pd.DataFrame, Path], name: str, says: str, touched: str, fault: dict[str, Any]
) -> None:
    run, table, _ = made
    found = checks(typed(run | fault), table)
    failed = [check for check in found if check.status == "failed"]
    assert [check.name for check in failed] == [name]
    assert says in failed[0].says
    marked = table[[bool(text) for text in doubts(table, found)]]
    assert len(marked) > 0
    pd.testing.assert_frame_equal(marked, table.query(touched))


def test_a_target_that_is_silently_wrong_is_found_by_its_clean_answers(
    made: tuple[dict[str, Any], pd.DataFrame, Path],
) -> None:
    """Half of its answers are another image's; a tenth of them are within what 8 bits may change."""
    run, _, root = made
    for share, expected in ((0.5, "failed"), (0.1, "passed")):
        records = pd.read_parquet(root / "records.parquet")
        images = sorted(records["image"].unique())
        here = (records["precision"] == "w8a8") & (records["attack"] == "none")
        wrong = here & records["image"].isin(images[: int(share * len(images))])
        records.loc[wrong, "pred"] = (records["pred"][wrong] + 1) % 10
        table = cells(records)
        (check,) = (one for one in checks(typed(run), table) if one.name == "clean as in float")
        assert check.status == expected
        assert all(where["artifact"] == "net-onnx-w8a8-u8s8-minmax" for where in check.where)


def test_noise_that_misleads(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), images=100, files=FILES[:2])
    records = pd.read_parquet(root / "records.parquet")
    noisy = (records["attack"] == "noise") & (records["target"] == "ort") & (records.index % 2 == 0)
    table = cells(records.assign(pred=records["pred"].where(~noisy, (records["label"] + 1) % 10)))
    found = {c.name: c for c in checks(typed({}), table)}
    assert found["noise is harmless"].status == "failed"
    assert "net-onnx-fp32 on ort, 8 px" in found["noise is harmless"].says
    marked = table[[("noise" in text) for text in doubts(table, found.values())]]
    assert set(marked["target"]) == {"ort"}


def test_accuracy_that_nobody_claims_is_not_known(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    table = made[1][made[1]["format"] == "onnx"]
    claimed = [{"name": "net-onnx-fp32", "claimed_accuracy": float(table["clean_accuracy"].iloc[0])}]

    def found(artifacts: list[dict[str, Any]]) -> tuple[str, str]:
        run = typed({"class_names": ["a", "b"], "artifacts": artifacts})
        (check,) = (check for check in checks(run, table) if check.name == "accuracy as claimed")
        return check.status, check.says

    assert found([]) == ("unknown", "not known: no claimed_accuracy")
    assert found(claimed)[0] == "passed"
    assert found(claimed)[1].startswith("on 1 pairs of artifact and target; not known of net-onnx-w8a8-u8s8-minmax")
    doubted = [claimed[0] | {"input_doubt": "preprocessing sends 0 to 1"}]
    assert found(doubted)[0] == "passed", "the accuracy shows that the doubt is none"


def test_zero_gradients_fail_where_the_patch_does_not_work(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    table = made[1]
    blind = {"name": "net-gap-t3-s0", "attack": "gap", "checks": {"zero_gradient_share": 0.81}}
    works = {c.name: c for c in checks(typed({"patches": [blind]}), table)}["gradients"]
    assert works.status == "passed"
    assert "at most 81.0% of 1 patches' were zero; the 1 above 50% do better than noise all the same" in works.says
    nothing = table.assign(**dict.fromkeys(ENDS, 0.0))
    fails = {c.name: c for c in checks(typed({"patches": [blind]}), nothing)}["gradients"]
    assert fails.status == "failed"
    assert "net-gap-t3-s0: 81% zero; craft it on another surrogate" in fails.says


ENDS = [f"targeted_excess_over_noise{end}" for end in ("", "_low", "_high")]


@pytest.mark.parametrize(
    ("beyond", "status"),
    [
        ((0.28, 0.10, 0.46), "passed"),  # wide, and nothing is open
        ((0.01, -0.02, 0.04), "passed"),
        ((0.03, -0.01, 0.07), "failed"),
        ((-0.02, -0.12, 0.08), "failed"),
    ],
)
def test_images_are_enough_where_they_decide_whether_a_patch_beats_noise(
    made: tuple[dict[str, Any], pd.DataFrame, Path], beyond: tuple[float, float, float], status: str
) -> None:
    table = made[1].copy()
    cell = table.index[table["attack"] == "gap"][0]
    table.loc[cell, ENDS] = beyond
    found = {c.name: c for c in checks(typed({}), table)}["enough images"]
    assert found.status == status
    if status == "failed":
        value, low, high = beyond
        needed = int(found.says.rpartition("data.evaluate = ")[2].split()[0])
        half = (high - low) / 2 * (table.loc[cell, "n_clean"] / needed) ** 0.5
        assert value - half > 0 or value + half < 0.05
        assert list(table.index[[bool(d) for d in doubts(table, [found])]]) == [cell]


def test_the_report_begins_with_what_failed_and_marks_it(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    run, table, root = made
    bad = run | {"outputs": [GOOD["outputs"][1] | {"declared": "logits"}]}
    records = pd.read_parquet(root / "records.parquet")
    page = build(root, typed(bad), judged(typed(bad), gathered([records]))).read_text()
    assert page.index("1 failed. A dagger (†) marks") < page.index("Success and clean accuracy by target")
    assert 'title="kind of outputs">†' in page
    summary = summarise(table.assign(doubts=doubts(table, checks(typed(bad), table))), records)
    assert set(summary.loc[summary["doubts"] != "", "artifact"]) == {"net-onnx-fp32"}


def test_what_a_check_says_fits_how_patches_were_made(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    asked = {"name": "s", "attack": "sparse_rs", "checks": {"zero_gradient_share": None, "queries": 64}}
    brought = {"name": "i", "attack": "imported", "checks": {"queries": None}}
    each = {"name": "e", "attack": "pgd", "per_image": True, "checks": {"zero_gradient_share": 0.25, "queries": None}}
    grey = {"name": "g", "attack": "grey", "checks": {}}

    def says(name: str, *patches: dict[str, Any]) -> tuple[str, str]:
        found = checks(typed({"patches": [grey, *patches], "data": {"copies": 0}}), made[1].iloc[:0])
        (check,) = (c for c in found if c.name == name)
        return check.status, check.says

    assert says("gradients", asked, brought) == ("unknown", "no attack of this run follows gradients")
    assert (
        says("gradients", asked, each)[1]
        == "at most 25.0% of 1 patches' were zero; 1 more were crafted without gradients"
    )
    assert says("gradients") == ("unknown", "not recorded by this run")
    assert says("no copies", asked) == ("passed", "none is")
    assert "1 patches were crafted on the evaluation images themselves" in says("no copies", each)[1]


@pytest.mark.parametrize(("classes", "status"), [(1001, "passed"), (10, "failed")])
def test_an_int8_softmax_of_many_classes_need_not_sum_to_one(
    made: tuple[dict[str, Any], pd.DataFrame, Path], classes: int, status: str
) -> None:
    """What MobileNetV2's file gives: a thousand classes rounded to 0."""
    output = {"artifact": "net-onnx-fp32", "target": "ort", "declared": "softmax", "least": 0.0, "most": 0.98}
    run = made[0] | {"outputs": [output | {"furthest_sum_from_one": 0.34, "classes": classes}]}
    (found,) = (check for check in checks(typed(run), made[1]) if check.name == "kind of outputs")
    assert found.status == status


HASWELL = {"name": "ort", "runtime": "onnxruntime", "emulated": True, "features": ["avx2", "avx512_vnni"],
           "machine": {"arch": "x86_64", "detected": "AVX AVX2 FMA3"}}  # fmt: skip


OTHER_SIGNATURE = "on onnxruntime: export with signature s8s8 or u8u8"
OTHER_CPU = "on openvino: use a CPU with VNNI"


@pytest.mark.parametrize(
    ("signature", "change", "expected"),
    [
        ("u8s8", {}, OTHER_SIGNATURE),
        ("s8s8", {}, ""),
        ("s8s8", {"runtime": "openvino"}, OTHER_CPU),
        ("u8s8", {"runtime": "openvino"}, OTHER_CPU),
        ("s8s8", {"runtime": "openvino", "emulated": False, "info": {"instructions": "Intel AVX2"}}, OTHER_CPU),
        ("s8s8", {"runtime": "openvino", "info": {"instructions": "Intel AVX2 with Intel DL Boost"}}, ""),
        ("u8s8", {"runtime": "litert"}, ""),
        ("u8s8", {"runtime": "from_a_package_that_is_not_here"}, ""),
        ("u8s8", {"emulated": False}, ""),  # the kernel's features are then this CPU's own: it has VNNI
        ("u8s8", {"machine": {"arch": "aarch64", "detected": "ASIMD"}}, ""),
        ("u8s8", {"machine": {"arch": "x86_64", "detected": "AVX2 AVX512VNNI"}}, ""),
    ],
)
def test_saturation_is_blamed_on_the_cpu_that_saturates(
    made: tuple[dict[str, Any], pd.DataFrame, Path], signature: str, change: dict[str, Any], expected: str
) -> None:
    entry = GOOD["arithmetic"][0] | {"largest": 50, "equal": 0.14, "signature": signature}
    run = typed(made[0] | {"arithmetic": [entry], "targets": [HASWELL | change]})
    (check,) = (c for c in checks(run, made[1]) if c.name == "arithmetic")
    assert check.status == "failed"
    assert ("no VNNI" in check.says) == bool(expected)
    assert expected in check.says


def test_arithmetic_without_a_twin_is_unknown(made: tuple[dict[str, Any], pd.DataFrame, Path]) -> None:
    entry = {"artifact": "a", "target": "ort", "unknown": "no twin of LSTM"}
    (check,) = (c for c in checks(typed({"arithmetic": [entry]}), made[1]) if c.name == "arithmetic")
    assert (check.status, check.says) == ("unknown", "no twin of LSTM")
