"""The headline of runs whose truth is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers.made_run import FILES, labelled_cells, make_run

from harness.report.headline import headline
from harness.report.labels import labelled
from harness.results.metrics import cells


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("survives", "verdict", "sentence"),
    [
        (0.55, "depends", "It depends on the artifact and the target"),
        (1.0, "yes", "Yes: on every"),
        (-1.0, "depends", "0 to 10"),
    ],
)
def test_the_headline_says_what_the_run_was_made_to_be(
    tmp_path: Path, survives: float, verdict: str, sentence: str
) -> None:
    head = headline(labelled_cells(make_run(tmp_path, victims=("net",), survives=survives)))
    assert (head.verdict, sentence in head.sentence) == (verdict, True), head


def test_no_when_nothing_survives_anywhere(tmp_path: Path) -> None:
    only_moving = [f for f in FILES if f[3] != "minmax"]
    head = headline(labelled_cells(make_run(tmp_path, victims=("net",), survives=0.0, files=only_moving)))
    assert head.verdict == "no"
    assert head.sentence.startswith("No: on integer targets the patch keeps 0")


def test_the_headline_compares_the_same_patches(run: Path) -> None:
    """Its extremes, from the records by hand: success beyond noise of the patches in torch and on each file."""
    records = pd.read_parquet(run / "records.parquet")
    right = records[(records["attack"] == "none") & (records["pred"] == records["label"])]
    ok = records.merge(right[["artifact", "target", "image"]], on=["artifact", "target", "image"])
    ok = ok[(ok["target_class"] >= 0) & (ok["label"] != ok["target_class"])]
    place = ["victim", "precision", "artifact", "target", "attack"]
    hit = ok.assign(hit=ok["pred"] == ok["target_class"]).groupby([*place, "target_class", "seed"])["hit"].mean()
    rate = hit.groupby([*place, "target_class"]).mean().groupby(place).mean().unstack("attack")
    beyond = (rate["gap"] - rate["noise"]).reset_index()
    lab = beyond[beyond["target"] == "torch"].set_index("victim")[0]
    integer = beyond[beyond["precision"] == "w8a8"]
    kept = 100 * integer[0] / integer["victim"].map(lab)
    assert f"{kept.min():.0f} to {kept.max():.0f}\u00a0%" in headline(labelled_cells(run)).sentence


def test_a_patch_no_better_than_noise_answers_nothing(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",))
    records = pd.read_parquet(root / "records.parquet")
    clean = records[records["attack"] == "none"].set_index(["artifact", "target", "image"])["pred"]
    where = pd.MultiIndex.from_frame(records[["artifact", "target", "image"]])
    head = headline(labelled(cells(records.assign(pred=clean.reindex(where).to_numpy()))))
    assert head.verdict == "nothing"
    assert "no better than noise" in head.sentence


def test_the_headline_tells_of_doubts_and_of_a_run_that_only_simulates(run: Path) -> None:
    table = labelled_cells(run)
    assert "self-check" not in headline(table.assign(doubts="")).details
    (some, *_) = table.loc[table["precision"] == "w8a8", "artifact"]
    touched = table["artifact"].map({some: "no copies"}).fillna("")
    count = len(table[(table["artifact"] == some) & (table["attack"] == "gap")])
    assert f"affects {count} of the" in headline(table.assign(doubts=touched)).details
    simulated = labelled(table.drop(columns=["artifact_label", "series_label"]).assign(format="torch"))
    assert headline(simulated).sentence == "No answer: no target computes in integers."
    labels = set(simulated.loc[simulated["precision"] == "w8a8", "artifact_label"])
    assert labels
    assert all("INT8" not in label for label in labels)
