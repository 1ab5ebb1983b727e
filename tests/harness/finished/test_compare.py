"""Two runs whose difference is known, compared: what differs, what changed by how much, and what has no partner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.command import patchbench
from helpers.edited_runs import MOVING, NEW_PATCHES, NEW_VERSION, SOME, after, both, broken, facts, flip, renamed
from helpers.made_run import make_run

from harness.finished.comparison import compare_runs, page

SHARE = 0.2


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "before", victims=("net",), images=200, goals=(3, 5), files=SOME)


def labelled(records: pd.DataFrame, run: dict[str, Any]) -> None:
    run["label"] = "later"
    run["suite"]["data"] = {"evaluate": 200}
    run["suite"]["attack"] = [{"name": "gap", "options": {"steps": 50}}]


def rates_by_hand(run_dir: Path) -> pd.Series:
    """For each image, on how many of the patches the one artifact that changes is fooled, over those that count."""
    records = pd.read_parquet(run_dir / "records.parquet").query("artifact == @MOVING")
    clean = records[records["attack"] == "none"].set_index("image")
    right = set(clean[clean["pred"] == clean["label"]].index)
    here = records[(records["attack"] == "gap") & records["image"].isin(right)]
    here = here[here["label"] != here["target_class"]]
    return here.assign(hit=here["pred"] == here["target_class"]).groupby("patch", observed=True)["hit"].mean()


def test_the_one_change_is_found_with_its_size_and_the_rest_is_equal(before: Path, tmp_path: Path) -> None:
    later = after(before, tmp_path, both(flip(SHARE), NEW_VERSION, labelled))
    compared = compare_runs([before, later])
    settings = dict(compared.settings)
    assert settings["suite.data.evaluate"] == ("–", "200")
    assert settings["suite.attack.gap.options.steps"] == ("–", "50")
    assert settings["target.ort.version"] == ("1.0", "2.0")
    assert "suite.name" not in settings
    (comparison,) = compared.comparisons
    (change,) = comparison.changes
    rise = rates_by_hand(later).mean() - rates_by_hand(before).mean()
    assert change.name == f"{MOVING} on ort, gap 8 px random"
    assert change.measured.change.value == pytest.approx(rise)
    assert change.measured.change.low < rise < change.measured.change.high
    assert change.p < 0.001
    assert len(comparison.equal) == 5  # three places, clean and patched, but for this one
    assert comparison.unmatched == ()
    assert any("version changed from 1.0 to 2.0" in cause for cause, _ in comparison.causes)
    text = page(compared)
    assert "5 rates rest on the same answer" in text
    assert "later" in text
    assert f"{100 * rise:+.1f}" in text


def test_only_common_images_are_compared(before: Path, tmp_path: Path) -> None:
    def fewer(records: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
        return records[records["image"] < "test-00150"]

    (comparison,) = compare_runs([before, after(before, tmp_path, fewer)]).comparisons
    assert comparison.images == 150
    assert comparison.changes == ()  # the same answers to those that are left
    assert comparison.notes == ("150 images in common, of 200 and 150",)


def test_other_patches_are_compared_by_class_and_seed(before: Path, tmp_path: Path) -> None:
    """Where the gate refuses, because weights did not change, a comparison says that the patches are others."""
    later = after(before, tmp_path, both(flip(SHARE), NEW_PATCHES))
    (comparison,) = compare_runs([before, later]).comparisons
    (change,) = comparison.changes
    assert "other patches" in change.causes
    assert change.measured.change.over == "patches and images"


def test_a_patch_of_another_size_is_compared_with_the_one_it_replaces(before: Path, tmp_path: Path) -> None:
    def smaller(records: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
        return records.replace({"patch_px": {8: 6}})

    later = after(before, tmp_path, both(flip(SHARE), NEW_PATCHES, smaller))
    (comparison,) = compare_runs([before, later]).comparisons
    assert comparison.unmatched == ()
    assert comparison.notes == (f"gap 8 px random of {before} is compared with gap 6 px random of {later}",)
    (change,) = comparison.changes
    assert change.measured.change.value == pytest.approx(rates_by_hand(later).mean() - rates_by_hand(before).mean())


def test_what_has_no_partner_is_named(before: Path, tmp_path: Path) -> None:
    (comparison,) = compare_runs([before, after(before, tmp_path / "a", broken)]).comparisons
    assert any(MOVING in line and "SIGSEGV" in line for line in comparison.unmatched)
    (comparison,) = compare_runs([before, after(before, tmp_path / "b", renamed)]).comparisons
    entropy = MOVING.replace("moving_average", "entropy")
    gone = f"{MOVING.replace('s8s8', 'u8s8')} on ort, {MOVING} on ort"
    assert comparison.unmatched == (
        f"clean images: missing from {tmp_path / 'b' / 'after'}: {gone}",
        f"gap 8 px random: missing from {tmp_path / 'b' / 'after'}: {gone}",
        f"clean images: missing from {before}: {entropy} on ort",
        f"gap 8 px random: missing from {before}: {entropy} on ort",
    )


def test_text_from_files_is_escaped(before: Path, tmp_path: Path) -> None:
    later = after(before, tmp_path, facts("targets", info={"version": "<script>alert(1)</script>"}))
    assert "<script>" not in page(compare_runs([before, later]))


def test_the_command_prints_both_tables_and_writes_the_page(before: Path, tmp_path: Path) -> None:
    later = after(before, tmp_path, both(flip(SHARE), labelled))
    said = patchbench("compare", before, later, "-o", tmp_path / "c.html", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "suite.data.evaluate" in said.stdout
    assert "1 of 6 rates changed beyond chance; 5 rest on the same answers." in said.stdout
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    alone = patchbench("compare", before, cwd=tmp_path)
    assert (alone.returncode, alone.stderr) == (2, "error: expected two or more run directories, got 1\n")


def test_nothing_of_chance_is_called_a_change(before: Path, tmp_path: Path) -> None:
    """A few answers of one cell differ, both ways: within chance, so no sentence names it."""

    def shuffled(records: pd.DataFrame, run: dict[str, Any]) -> None:
        here = np.flatnonzero((records["artifact"] == MOVING) & (records["attack"] == "gap"))[:2]
        records.iloc[here, records.columns.get_loc("pred")] = [0, 1]

    compared = compare_runs([before, after(before, tmp_path, shuffled)])
    assert "0 of 6 rates changed beyond chance" in page(compared)
