"""A whole run with defences on two runtimes: what is seen, judged and timed behind each, and an attack that knows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.command import patchbench

from harness.sealed import write_sealed

pytestmark = pytest.mark.slow
SUITE = """
schema = 1
name = "defended"
defence = ["none", "jpeg:30", "median:3"]
[data]
name = "digits"
calibration = 32
craft = 128
evaluate = 150
[[victim]]
name = "resnet8"
model = "resnet8"
train = { epochs = 3 }
[[export]]
format = ["onnx", "tflite"]
[[attack]]
name = "gap"
seeds = [0, 1, 2, 3]
defence = ["none", "median:3"]
target_classes = [8]
pixels = 10
options = { steps = 60, batch = 16 }
[controls]
noise = 1
[latency]
threads = 1
warmup = 2
runs = 40
seconds = 0
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "litert"
runtime = "litert"
options = { kernels = "xnnpack" }
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory."""
    folder = tmp_path_factory.mktemp("defended")
    (folder / "suite.toml").write_text(SUITE)
    done = patchbench("run", "suite.toml", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "out/defended"


def test_each_case_has_a_cell_behind_each_defence(finished: Path) -> None:
    cells = pd.read_csv(finished / "cells.csv", keep_default_na=False, na_values=[""]).fillna({"defence": ""})
    assert (cells["status"] == "ok").all()
    # three places, three defences: clean, patches of four seeds with and without the filter in mind, grey, noise
    assert cells.groupby(["target", "defence"]).size().tolist() == [11] * 9
    clean = cells[cells["attack"] == "none"].set_index(["target", "defence"])["clean_accuracy"]
    for row in cells.to_dict("records"):
        assert row["clean_accuracy"] == clean[row["target"], row["defence"]], "judged behind the same defence"
    assert clean.min() > 0.5
    victim = json.loads((finished / "run.json").read_text())["victims"][0]
    in_csv = round(victim["float_accuracy"], 6)  # digits of cells.csv
    assert in_csv == clean["torch", ""], "of the undefended network"


def test_predictions_change_and_hashes_agree(finished: Path) -> None:
    run = json.loads((finished / "run.json").read_text())
    assert all(case["others"] == [] for case in run["cases"])
    for case in run["cases"]:
        assert (case["defended_sha256"] != "") == (case["defence"] != "")
        assert case["defended_sha256"] != case["pixels_sha256"]
    records = pd.read_parquet(finished / "records.parquet")
    margins = records[records["attack"] == "none"].groupby(["target", "defence"], observed=True)["margin"].mean()
    assert len(set(margins)) == 9


def test_an_attack_that_knows_the_defence_gains_by_it(finished: Path) -> None:
    cells = pd.read_csv(finished / "cells.csv").fillna({"defence": "", "surrogate": ""})
    behind = cells[(cells["defence"] == "median:3") & (cells["attack"] == "gap")]
    # over four seeds: one seed's patches may tie, the network has seen three epochs and each patch sixty steps
    for _, here in behind.groupby("target"):
        rates = here.groupby("surrogate")[["targeted_success", "targeted_success_low"]].mean()
        assert (
            rates.loc["float with defence median:3", "targeted_success"] >= rates.loc["float", "targeted_success_low"]
        )
    mean = behind.groupby("surrogate")["targeted_success"].mean()
    noise = cells.loc[(cells["defence"] == "median:3") & (cells["attack"] == "noise"), "targeted_success"].mean()
    assert mean["float with defence median:3"] > mean["float"] > noise


def test_latencies_are_with_and_without(finished: Path) -> None:
    run = json.loads((finished / "run.json").read_text())
    took = {(row["target"], row["defence"]): row["p50_ms"] for row in run["latency"]}
    assert len(took) == 2 * 3
    assert np.isfinite(list(took.values())).all()
    page = (finished / "report.html").read_text()
    for words in ("after median:3", "undefended", "float with defence median:3", "added, ms"):
        assert words in page


def test_the_gate_holds_defended_cells_too(finished: Path) -> None:
    folder = finished.parent.parent
    frozen = patchbench("baseline", finished, "-o", "base.json", cwd=folder)
    assert frozen.returncode == 0, frozen.stderr
    done = patchbench("gate", "base.json", finished, "--json", "gate.json", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    base = json.loads((folder / "base.json").read_text())
    del base["sha256"]
    case = next(c for c in base["cases"] if c["defence"] and c["patch"])
    case["defended_sha256"] = "0" * 64
    write_sealed(folder / "base.json", base)
    done = patchbench("gate", "base.json", finished, cwd=folder)
    assert done.returncode == 2
    assert f"{case['defence']} transforms them differently" in done.stdout.replace("\n", " ")
