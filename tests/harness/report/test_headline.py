"""The headline of runs whose truth is known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.made_run import FILES, headline_of, labelled_cells, make_run

from harness.report.factors import depends_on
from harness.report.headline import headline
from harness.report.labels import labelled
from harness.results.columns import CELL_COLUMNS
from harness.results.entries import Check
from harness.results.gathering import outcomes
from harness.results.metrics import cells, summarise
from harness.results.outcomes import Outcomes
from harness.results.stats import Estimate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("survives", "verdict", "sentence"),
    [
        (0.55, "depends", "It depends on the calibration: of its success beyond noise, the patch keeps 99"),
        (1.0, "yes", "Yes: on every"),
        (-1.0, "depends", "\u00a0% with minmax, 0\u00a0% with moving average (95"),
    ],
)
def test_the_headline_says_what_the_run_was_made_to_be(
    tmp_path: Path, survives: float, verdict: str, sentence: str
) -> None:
    head = headline_of(records_of(make_run(tmp_path, victims=("net",), survives=survives)))
    assert (head.verdict, sentence in head.sentence) == (verdict, True), head


def test_no_when_nothing_survives_anywhere(tmp_path: Path) -> None:
    only_moving = [f for f in FILES if f[3] != "minmax"]
    head = headline_of(records_of(make_run(tmp_path, victims=("net",), survives=0.0, files=only_moving)))
    assert head.verdict == "no"
    assert head.sentence.startswith("No: on every integer target that ran, the patch keeps 0")


PARTLY = [("onnx", "w8a8+fp32", "s8s8", "minmax", ("ort",))]
LAB = FILES[:1]


def test_partly_integer_files_are_counted_apart(tmp_path: Path) -> None:
    integer = [("onnx", "w8a8", "u8s8", "moving_average", ("ort",))]
    records = records_of(make_run(tmp_path, victims=("net",), survives=0.0, files=LAB + integer + PARTLY))
    head = headline_of(records)
    assert head.sentence.startswith("No: on the integer target, the patch keeps 0")
    assert "Partly integer files, separately: Yes: on the partly integer target, the" in head.details
    assert "partly integer, survives" in [tile.name for tile in head.tiles]


def test_a_run_of_partly_integer_files_alone_says_so(tmp_path: Path) -> None:
    head = headline_of(records_of(make_run(tmp_path, victims=("net",), files=LAB + PARTLY)))
    assert head.sentence.startswith("Yes: on the partly integer target, the patch")
    several = [*PARTLY, ("onnx", "w8a8+fp32", "s8s8", "moving_average", ("ort",))]
    head = headline_of(records_of(make_run(tmp_path / "several", victims=("net",), survives=0.0, files=LAB + several)))
    assert head.sentence.startswith("It depends on the calibration: on partly integer targets, of its success")


def test_few_images_leave_the_answer_open(tmp_path: Path) -> None:
    """The very patches that survive in full are shown to survive by 300 images, and not by 20."""
    records = records_of(make_run(tmp_path, victims=("net",), survives=1.0, goals=(3,), seeds=1))
    some = records["image"].isin(sorted(records["image"].unique())[:20])
    assert headline_of(records).verdict == "yes"
    open_answer = headline_of(records[some])
    assert open_answer.verdict in ("in part", "can't say")
    assert not open_answer.sentence.startswith("Yes")


def test_a_patch_that_hardly_works_in_the_lab_gives_no_answer() -> None:
    """6 hits of 116 images, 2.4 to 10.8 % by Wilson's interval: five points beyond noise are not shown."""
    head = headline_of(table_of(lab_hits=6, device_hits=6, images=116))
    assert head.verdict == "can't say"
    assert "5.2\u00a0% (2.4–10.8) of the images" in head.sentence
    assert "113" not in head.sentence


def test_a_file_without_a_float_network_is_compared_with_its_surrogate() -> None:
    """A vendor's file is a victim of its own, attacked with patches of another network's float."""
    head = headline_of(table_of(lab_hits=60, device_hits=57, images=100, device_victim="vendor", surrogate="float:net"))
    assert head.verdict == "yes"
    assert "from 60.0\u00a0% to 57.0\u00a0%" in head.details


@pytest.mark.parametrize(
    ("hits", "noise", "verdict", "sentence"),
    [
        (81, 7, "yes", "On the device, the patch reaches its target class on 81.0\u00a0% of the images "),
        (9, 7, "can't say", "more patches or images would tell whether it is 5\u00a0% better"),
        (7, 60, "no", "No: on the device, the patch reaches its target class on 7.0\u00a0%"),
    ],
)
def test_a_patch_without_a_lab_is_told_by_what_it_reaches(hits: int, noise: int, verdict: str, sentence: str) -> None:
    """A patch made on the twin of the only file there is."""
    table = table_of(lab_hits=0, device_hits=hits, images=100, device_noise=noise, surrogate="twin:net-onnx")
    head = headline_of(table[table["format"] == "onnx"])
    assert (head.verdict, sentence in head.sentence) == (verdict, True), head.sentence
    assert f"noise of the same size and place on {noise}.0\u00a0%" in head.sentence
    assert [tile.name for tile in head.tiles] == ["on the device", "noise, same targets"]
    assert [tile.value for tile in head.tiles] == [f"{hits}.0\u00a0%", f"{noise}.0\u00a0%"]
    assert head.tiles[0].interval.endswith(", n 100")
    assert "No lab network was given" in head.details
    assert "lab" not in head.question


def test_what_is_simulated_is_called_no_device() -> None:
    table = table_of(lab_hits=0, device_hits=81, images=100, device_noise=7, surrogate="twin:net-onnx")
    head = headline_of(table[table["format"] == "onnx"].assign(fidelity="specification"))
    assert head.fidelity == "specification"
    assert head.sentence.startswith("On the target, the patch reaches")
    assert head.question == "Does the patch work on the target?"
    assert head.tiles[0].name == "on the target"


def test_what_it_depends_on_is_the_factor_that_tells_places_apart() -> None:
    """Two calibrations on two targets each: the targets agree, the calibrations do not."""
    rows = [
        {"calibration": calibration, "target": target, "artifact_label": calibration, "signature": "s8s8"}
        | dict.fromkeys(("granularity", "format", "victim", "series_label", "defence"), "same")
        for calibration in ("minmax", "moving_average")
        for target in ("ort", "litert")
    ]
    high, low = Estimate(0.7, 0.6, 0.8, "images"), Estimate(0.4, 0.3, 0.5, "images")
    each = "70\u00a0% with minmax, 40\u00a0% with moving average"
    assert depends_on(rows, [high, high, low, low]) == ("the calibration", each)
    mixed = [row | {"signature": "s8s8" if row["calibration"] == "minmax" else "u8s8"} for row in rows]
    assert depends_on(mixed, [high, high, low, low]) == ("the calibration or the signature", each)
    by_target = ("the target", "70\u00a0% with ort, 40\u00a0% with litert")
    assert depends_on(rows, [high, low, high, low]) == by_target
    assert depends_on(rows, [high, low, low, low]) == ("the artifact and the target", "")


def test_the_lab_has_one_number_and_it_is_the_tables(run: Path) -> None:
    records = records_of(run)
    table = summarise(cells(records), records)
    lab = table[(table["format"] == "torch") & (table["attack"] == "gap") & (table["victim"] == "resnet20")].iloc[0]
    head = headline_of(records[records["victim"] == "resnet20"])
    rate = f"{100 * lab['targeted_success']:.1f}\u00a0%"
    assert head.tiles[0].value == rate
    assert head.tiles[0].interval.endswith(f", n {lab['n_targeted']}")
    assert (
        f"reaches its target class on {rate} of the images, on average over {lab['n_patches']} patches" in head.details
    )
    assert all(tile.where.startswith(f"{rate} in the lab") for tile in head.tiles[1:3])


def table_of(
    lab_hits: int,
    device_hits: int,
    images: int,
    device_victim: str = "net",
    surrogate: str = "float",
    device_noise: int = 0,
) -> pd.DataFrame:
    """Records of one patch of class 1 on images of class 0, on the float network and on one INT8 file, and of noise."""
    frames = []
    places = [("torch", "fp32", "net", lab_hits, 0), ("onnx", "w8a8", device_victim, device_hits, device_noise)]
    for form, precision, victim, hits, noise in places:
        for attack, goal, hit in (("none", -1, 0), ("gap", 1, hits), ("noise", 1, noise)):
            row = dict.fromkeys(CELL_COLUMNS, "") | {
                "victim": victim, "precision": precision, "format": form, "artifact": f"{victim}-{form}",
                "surrogate": surrogate if attack == "gap" else "", "attack": attack, "target_class": goal, "seed": 0,
                "patch_px": 8, "patch_area": 0.06, "threads": 1, "split": "evaluate", "runtime": form, "target": form,
                "patch": "" if attack == "none" else attack,
            }  # fmt: skip
            answers = {"pred": (np.arange(images) < hit).astype(int), "image": [f"{i:04d}" for i in range(images)]}
            frames.append(pd.DataFrame(row | answers | {"label": 0, "status": "ok", "margin": 0.0}))
    return pd.concat(frames, ignore_index=True)


def records_of(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "records.parquet")


@pytest.mark.parametrize("fidelity", ["device", "emulated CPU"])
def test_the_headline_compares_the_same_patches_on_the_same_images(run: Path, fidelity: str) -> None:
    """Its extremes, from the records by hand: success beyond noise of the patches in torch and on each file."""
    records = records_of(run)
    head = headline_of(records)
    sentence = dict([(head.fidelity, head.sentence), *head.also])[fidelity]
    keys = ["victim", "image", "target_class"]
    lab = _beyond_noise(records[records["target"] == "torch"], keys)
    kept = []
    integer = records[(records["precision"] == "w8a8") & (records["fidelity"] == fidelity)]
    for _, place in integer.groupby(["artifact", "target"]):
        both = lab.merge(_beyond_noise(place, keys), on=[*keys, "seed"])
        means = both.groupby(["target_class", "seed"])[["beyond_x", "beyond_y"]].mean().mean()
        kept.append(100 * means["beyond_y"] / means["beyond_x"])
    least, most = min(kept), max(kept)
    assert {f"{least:.0f}", f"{most:.0f}"} <= set(re.findall(r"\d+", sentence))


def test_targets_of_each_fidelity_have_a_sentence_of_their_own(tmp_path: Path) -> None:
    """The same patch survives on devices and dies on the reference model: neither sentence knows of the other."""
    files = [("tflite", "w8a8", "s8s8", "moving_average", ("litert", "litert-arm64"))]
    records = records_of(make_run(tmp_path, victims=("net",), survives=0.0, files=LAB + files))
    on_model = records["fidelity"] == "emulated CPU"
    records.loc[on_model, "fidelity"] = "specification"
    survives = ~on_model & (records["precision"] == "w8a8") & (records["attack"] == "gap")
    records.loc[survives, "pred"] = records.loc[survives, "target_class"]
    head = headline_of(records)
    assert (head.verdict, head.fidelity) == ("yes", "device")
    assert head.sentence.startswith("Yes: on the integer target")
    ((fidelity, sentence),) = head.also
    assert fidelity == "specification"
    assert sentence.startswith("No: on the integer target")
    assert head.said == f"device: {head.sentence} specification: {sentence}"
    assert "specification, survives" in [tile.name for tile in head.tiles]
    alone = headline_of(records[~on_model])
    assert (alone.fidelity, alone.also) == ("", ())
    assert alone.sentence == head.sentence


def test_what_a_defence_takes_is_not_the_devices_doing(tmp_path: Path) -> None:
    """Nothing survives behind the defence: only a run in which every patch meets it says so."""
    files = [("tflite", "w8a8", "s8s8", "minmax", ("litert",))]
    records = records_of(make_run(tmp_path, victims=("net",), survives=1.0, files=LAB + files))
    behind = records.assign(defence="jpeg:75")
    stopped = (behind["precision"] == "w8a8") & (behind["attack"] == "gap")
    behind.loc[stopped, "pred"] = behind.loc[stopped, "label"]
    head = headline_of(records)
    assert head.verdict == "yes"
    assert headline_of(pd.concat([records, behind], ignore_index=True)).sentence == head.sentence
    assert headline_of(behind).verdict == "no"


def _beyond_noise(place: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Each patch on each image that counts: 1 for a hit, less the share of noise draws that hit it."""
    right = place[(place["attack"] == "none") & (place["pred"] == place["label"])]["image"]
    counts = place[place["image"].isin(right) & (place["target_class"] != place["label"])]
    hit = counts.assign(hit=(counts["pred"] == counts["target_class"]).astype(float))
    noise = hit[hit["attack"] == "noise"].groupby(keys)["hit"].mean().rename("noise").reset_index()
    both = hit[hit["attack"] == "gap"].merge(noise, on=keys)
    return both.assign(beyond=both["hit"] - both["noise"])[[*keys, "seed", "beyond"]]


def test_a_patch_no_better_than_noise_answers_nothing(tmp_path: Path) -> None:
    records = records_of(make_run(tmp_path, victims=("net",)))
    clean = records[records["attack"] == "none"].set_index(["artifact", "target", "image"])["pred"]
    where = pd.MultiIndex.from_frame(records[["artifact", "target", "image"]])
    head = headline_of(records.assign(pred=clean.reindex(where).to_numpy()))
    assert head.verdict == "can't say"
    assert "does not work in the lab either" in head.sentence


def test_every_figure_has_its_interval_and_count(run: Path) -> None:
    tiles = headline_of(records_of(run)).tiles
    own = ["survives least", "survives most", "noise, same targets"]
    assert [tile.name for tile in tiles] == ["in the lab", *own, *(f"emulated CPU, {name}" for name in own)]
    for tile in tiles[:3]:
        low, high = (float(end) for end in tile.interval.split(",")[0].split("–"))
        assert low < float(tile.value.split()[0]) < high
        assert ", n " in tile.interval


def test_a_failed_check_stands_beside_the_sentence(run: Path) -> None:
    failed = Check(name="no copies", asks="is none a copy?", status="failed", says="3 are", where=())
    known = outcomes(records_of(run))
    head = headline(known, labelled_cells(run), checks=[failed, failed.model_copy(update={"status": "passed"})])
    assert head.warnings == ("Self-check failed: is none a copy? 3 are",)


def test_the_headline_tells_of_doubts_and_of_a_run_that_only_simulates(run: Path) -> None:
    table, known = labelled_cells(run), outcomes(records_of(run))
    assert "self-check" not in headline(known, table.assign(doubts="")).details
    (some, *_) = table.loc[table["precision"] == "w8a8", "artifact"]
    touched = table["artifact"].map({some: "no copies"}).fillna("")
    count = len(table[(table["artifact"] == some) & (table["attack"] == "gap")])
    assert f"affects {count} of the" in headline(known, table.assign(doubts=touched)).details
    simulated = labelled(table.drop(columns=["artifact_label", "series_label"]).assign(format="torch"))
    only = Outcomes(known.cells.assign(format="torch"), known.images, known.labels, known.preds, known.clean)
    assert headline(only, simulated).sentence == "No answer: no target computes in integers."
    labels = set(simulated.loc[simulated["precision"] == "w8a8", "artifact_label"])
    assert labels
    assert all("INT8" not in label for label in labels)
