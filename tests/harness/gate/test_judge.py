"""The gate on runs whose truth is known: each change with the answer that it must get; each rendering as it stands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import ROOT
from helpers.edited_runs import (
    MOVING,
    NEW_PATCHES,
    NEW_VERSION,
    OTHER_FILES,
    OTHER_WEIGHTS,
    SOME,
    Edit,
    after,
    both,
    broken,
    facts_of,
    flip,
    relabelled,
    renamed,
    rewrite,
)
from helpers.made_run import make_run

from backends.device.errors import UserError
from harness.gate import render
from harness.gate.judge import check_origin, judge
from harness.gate.rules import DEFAULT, Rules
from harness.results.baseline import freeze, read

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("before"), victims=("net",), images=600, goals=(3, 5), files=SOME)


CASES: dict[str, tuple[Edit, int, str]] = {  # what happens, the exit code, what is said
    "nothing": (lambda records, run: None, 0, "no worse: 9 comparisons"),
    "success rises": (flip(0.15), 1, f"targeted_success of {MOVING} on ort, gap 8 px random"),
    "success rises in a new version": (both(flip(0.15), NEW_VERSION), 1, "onnxruntime version changed from 1.0 to 2.0"),
    "clean accuracy falls": (flip(0.1, "none"), 1, f"clean_accuracy of {MOVING} on ort"),
    "success falls": (lambda r, run: r.assign(pred=r["pred"].where(r["attack"] != "gap", r["label"])), 0, "no worse"),
    "a flip of nothing": (flip(0.004), 0, "9 comparisons, drift in 1 cell"),
    "a flip in a new version": (both(flip(0.004), NEW_VERSION), 0, "judged by statistics"),
    "an image is gone": (lambda r, run: r[r["image"] != "test-00007"], 2, "'test-00007'"),
    "an image is new": (lambda r, run: r.replace({"image": {"test-00007": "z"}}), 2, "data.seed or data.name"),
    "a label is another": (relabelled, 2, "1 of 600 images are labelled differently (first: 'test-00003')"),
    "images in another order": (lambda r, run: r.sort_values("image", ascending=False), 0, "no worse"),
    "an artifact is gone": (lambda r, run: r[r["artifact"] != MOVING], 2, f"{MOVING} on ort: missing from"),
    "a patch is gone": (lambda r, run: r[r["patch"] != "net-gap-t5-s0"], 2, "with net-gap-t5-s0"),
    "a new target": (
        lambda r, run: pd.concat([r, r[r["target"] == "ort"].assign(target="ort2")]), 0, "so not judged: net-onnx"),
    "a crash": (broken, 2, "with net-gap-t3-s0 failed on 600 images (and 3 more cells): crash: SIGSEGV"),
    "a patch's bytes": (NEW_PATCHES, 2, "net-gap-t3-s0 changed (sha256"),
    "other weights, old patches": (OTHER_WEIGHTS, 2, "only a transfer attack"),
    "other weights, new patches": (both(OTHER_WEIGHTS, OTHER_FILES, NEW_PATCHES), 0, "the patch is the unit"),
    "other weights, new patches, worse": (both(OTHER_WEIGHTS, OTHER_FILES, NEW_PATCHES, flip(0.3)), 1, MOVING),
    "other weights, new patches, old file": (both(OTHER_WEIGHTS, NEW_PATCHES), 2, "a weaker network makes weaker"),
    "another calibration": (both(flip(0.15), renamed), 2, "net-onnx-w8a8-u8s8-moving_average on ort: missing from"),
}  # fmt: skip


DRIFTS = ("a flip of nothing", "success rises", "clean accuracy falls", "success falls")  # with nothing else changed


@pytest.mark.parametrize("name", CASES)
def test_each_change_gets_its_answer(before: Path, tmp_path: Path, name: str) -> None:
    edit, code, says = CASES[name]
    freeze(before, tmp_path / "base.json")
    verdict = judge(read(tmp_path / "base.json"), read(after(before, tmp_path, edit)), DEFAULT)
    text = "\n".join([render.headline(verdict), render.markdown(verdict)]).replace("\\", "")
    assert (verdict.code, says in text) == (code, True), text
    assert bool(verdict.faults) == (code == 2)
    if "other weights, new" not in name:
        assert sum(c.worse for c in verdict.comparisons) <= 2  # the other artifacts are not blamed
    assert bool(verdict.drift) == (
        name in ("a flip of nothing", "success rises", "clean accuracy falls", "success falls")
    )
    for drawn in (render.junit(verdict), render.as_json(verdict)):
        assert drawn


def test_a_changed_setting_is_named_when_the_file_has_another_name(before: Path, tmp_path: Path) -> None:
    """One INT8 ONNX file before and one after: they are compared, and the calibration is what changed."""
    one = after(before, tmp_path / "a", lambda r, run: r[r["artifact"] != "net-onnx-w8a8-u8s8-moving_average"])
    other = after(before, tmp_path / "b", both(flip(0.15), renamed))
    for entry in (run := facts_of(one))["artifacts"]:
        entry["quant"] = {"calibration": "moving_average"}
    rewrite(one, run=run)
    verdict = judge(read(one), read(other), DEFAULT)
    assert verdict.code == 1
    assert (
        "calibration changed from moving_average to entropy: net-onnx-w8a8-s8s8-moving_average on ort"
        in render.markdown(verdict)
    )


PLAN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("commit", "of", "accepted"),
    [
        ("fedcba987654", PLAN, True),
        ("fedcba987654", PLAN[:7], True),
        ("fedcba987654", "fedcba9876543210fedcba9876543210fedcba98", True),
        ("fedcba987654", "fedcba9", True),
        ("fedcba987654", "fedcba", False),  # too short
        ("fedcba987654", "fedcba0", False),
        ("fedcba987654+", "fedcba987654", False),  # files were changed
        ("fedcba987654+", "fedcba987654+", True),
        ("", "fedcba9", False),
        ("", PLAN, True),
    ],
)
def test_a_run_of_another_plan_or_commit_is_refused(before: Path, commit: str, of: str, accepted: bool) -> None:
    run = read(before)
    run = replace(run, facts=run.facts.model_copy(update={"plan": PLAN, "commit": commit}))
    if accepted:
        check_origin(run, of)
    else:
        which = "commit" if commit else "no commit, as it ran in no git checkout"
        with pytest.raises(UserError, match=f"--of {of}: .* is of plan {PLAN}, {which}".replace("+", "[+]")):
            check_origin(run, of)


def test_what_follows_from_other_images_is_not_said_again(before: Path, tmp_path: Path) -> None:
    fewer = after(before, tmp_path, both(CASES["an image is gone"][0], NEW_PATCHES))
    (fault,) = judge(read(before), read(fewer), DEFAULT).faults
    assert "data.evaluate was changed, or --limit given" in fault


def test_a_baseline_of_another_suite_and_other_images_is_the_first_reason(before: Path, tmp_path: Path) -> None:
    fewer = read(after(before, tmp_path, CASES["an image is gone"][0]))
    other = replace(fewer, facts=fewer.facts.model_copy(update={"suite": "another"}))
    faults = judge(read(before), other, DEFAULT).faults
    assert faults[0] == f"the baseline is of the suite {fewer.facts.suite!r}, the run of 'another'"
    assert len(faults) == 2


def test_a_baseline_of_another_suite_is_named(before: Path) -> None:
    run = read(before)
    other = replace(run, facts=run.facts.model_copy(update={"suite": "another"}))
    assert f"the baseline is of the suite 'another', the run of {run.facts.suite!r}" in judge(other, run, DEFAULT).notes
    assert not any("suite" in note for note in judge(run, run, DEFAULT).notes)


def test_drift_can_be_made_a_failure(before: Path, tmp_path: Path) -> None:
    rules = DEFAULT.model_copy(update={"drift": "worse"})
    drifted = judge(read(before), read(after(before, tmp_path, flip(0.004))), rules)
    assert (drifted.code, render.headline(drifted)) == (1, "worse: predictions drift in an unchanged environment")
    assert drifted.drift[0].flips <= drifted.drift[0].n
    assert judge(read(before), read(before), rules).code == 0


def test_holm_is_over_a_rules_cells(before: Path, tmp_path: Path) -> None:
    """By hand from the raw predictions: exact sign-flip p values of the three places, the least times three."""
    from harness.results.stats import sign_flip

    run = after(before, tmp_path, flip(0.03))
    found = {c.name: c for c in judge(read(before), read(run), DEFAULT).comparisons if c.metric == "targeted_success"}
    tables = (pd.read_parquet(folder / "records.parquet") for folder in (before, run))
    old, new = (table.set_index(["artifact", "patch", "image"]).sort_index() for table in tables)
    scores = pd.Series(0.0, index=old.loc[(MOVING, "")].index)
    patches = [p for p in old.index.levels[1] if "gap" in p]
    for patch in patches:
        a, b, clean = old.loc[(MOVING, patch)], new.loc[(MOVING, patch)], old.loc[(MOVING, "")]
        goal = a["target_class"].iloc[0]
        counts = (clean["pred"] == clean["label"]) & (clean["label"] != goal)
        hit = (b["pred"] == goal).astype(int) - (a["pred"] == goal)
        scores += hit.where(counts, 0) / counts.sum() / len(patches)
    changed = next(c for name, c in found.items() if name.startswith(MOVING))
    assert len(found) == 3
    assert changed.change == pytest.approx(scores.sum())
    assert changed.p == pytest.approx(min(1, 3 * sign_flip(scores)[1]))


def test_a_baseline_whose_patches_do_nothing_is_doubted(before: Path, tmp_path: Path) -> None:
    """Its patches' answers are what they were without a patch."""

    def harmless(records: pd.DataFrame, run: dict[str, Any]) -> None:
        patched = records["attack"] == "gap"
        records.loc[patched, "pred"] = records.loc[patched, "label"]

    weak, strong = read(after(before, tmp_path, harmless)), read(before)
    assert any("within 5 points of noise" in note for note in judge(weak, weak, DEFAULT).notes)
    assert not any("points of noise" in note for note in judge(strong, strong, DEFAULT).notes)


def test_limits_are_judged_by_the_bound_and_need_no_baseline(before: Path) -> None:
    run = read(before)
    rules = Rules.model_validate({"schema": 1, "limit": [{"rule": "clean_accuracy >= 0.5"}]})
    held = judge(None, run, rules)
    assert held.code == 0
    assert {h.n for h in held.limits} == {600}
    value, bound = held.limits[0].value, held.limits[0].bound
    assert bound < value
    between = judge(
        None, run, Rules.model_validate({"schema": 1, "limit": [{"rule": f"clean_accuracy >= {value:.4f}"}]})
    )
    assert between.code == 1
    nowhere = {"rule": "targeted_success <= 0.2", "where": {"target": "phone"}}
    assert judge(None, run, Rules.model_validate({"schema": 1, "limit": [nowhere]})).code == 2
    with pytest.raises(UserError, match="needs rules with a"):
        judge(None, run, DEFAULT)


def test_a_limit_does_not_overlook_what_crashed(before: Path, tmp_path: Path) -> None:
    rules = Rules.model_validate({"schema": 1, "limit": [{"rule": "targeted_success <= 0.999"}]})
    verdict = judge(None, read(after(before, tmp_path, broken)), rules)
    assert verdict.code == 2
    assert "has failed cells" in verdict.faults[0]


@pytest.mark.slow
def test_the_command_line_answers_with_its_exit_code(before: Path, tmp_path: Path) -> None:
    def patchbench(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    base = tmp_path / "base.json"
    assert "600 images" in patchbench("baseline", before, "-o", base).stdout
    files = {kind: tmp_path / f"out.{kind}" for kind in ("markdown", "junit", "json")}
    said = patchbench("gate", base, before, *(part for kind, file in files.items() for part in (f"--{kind}", file)))
    assert (said.returncode, "no worse: 9 comparisons" in said.stdout) == (0, True), said.stderr
    assert all(file.stat().st_size > 100 for file in files.values())
    worse = patchbench("gate", base, after(before, tmp_path, flip(0.15)))
    assert (worse.returncode, "worse: 2 of 9 comparisons" in worse.stdout) == (1, True), worse.stdout
    base.write_text("{}")
    refused = patchbench("gate", base, before)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
