"""The study: its labels, its statistics against closed forms, and what it refuses."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from helpers.flips import flipped
from markupsafe import Markup
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from harness.cli.app import app
from harness.config.study import ANALYSES, StudyTable
from harness.study import bitwidth, findings, output, places, transfer
from harness.study.lib import cells, labels
from harness.study.lib.inputs import Figure
from harness.study.study import _check, load
from patches.surrogate import Surrogate


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_has_a_question_and_may_find_nothing(name, tmp_path):
    assert load(name).QUESTION.endswith("?")
    output.write(tmp_path, name, load(name).QUESTION, pd.DataFrame(), [])
    assert output.read(tmp_path, name) == (name, load(name).QUESTION, ())
    assert output.tables(tmp_path)[name].empty


@pytest.mark.parametrize("file", ["places.csv", "places-a.svg", "places.json"])
def test_a_damaged_output_is_found(file, tmp_path):
    figure = Figure("a", "A caption.", Markup("<svg></svg>"))
    output.write(tmp_path, "places", "Where?", pd.DataFrame({"n": [1, 2]}), [figure])
    assert output.tables(tmp_path)["places"]["n"].tolist() == [1, 2]
    with flipped(tmp_path / file, 0), pytest.raises(DamagedFile, match=file):
        output.tables(tmp_path)


@pytest.mark.parametrize(
    ("victim", "surrogate", "made"),
    [
        ("a", "float", ("a", "float")),
        ("a", "float:b", ("b", "float")),
        ("a", "fake_quant:w4a4", ("a", "w4a4")),
        ("a", "fake_quant:w4a4:b", ("b", "w4a4")),
        ("a", "qat:w2a2:b", ("b", "w2a2 trained")),
        ("a", "twin:b-tflite", ("b", "twin of tflite")),
        ("a", "twin:b-tflite:builtin", ("b", "twin of tflite")),
        ("a", "twin:c", ("c", "twin")),
        ("a", "fake_quant:b-tflite", ("b", "as b-tflite")),
    ],
)
def test_a_surrogate_has_one_name_whichever_victim_saw_it(victim, surrogate, made):
    assert cells.made_on(victim, Surrogate.parse(surrogate), {"b-tflite": "b", "a-tflite": "a", "c": "c"}) == made


def summary(**columns):
    """Return a row of `harness.results.metrics.summarise`, with the columns that analyses read."""
    row = {
        "victim": "net", "precision": "fp32", "format": "torch", "calibration": "", "granularity": "per_channel",
        "artifact": "net-torch", "surrogate": "float", "attack": "gap", "patch_px": 8, "patch_area": 0.06,
        "shape": "square", "placement": "random", "defence": "", "split": "evaluate", "runtime": "torch",
        "target": "torch", "host": "local",
        "cpu": "", "arch": "x86_64", "status": "ok", "n_patches": 3, "n_clean": 100, "n_targeted": 240,
        "n_untargeted": 270, "interval_over": "images",
        "noise": 0.01, "grey": 0.02, "clean_accuracy": 0.9, "clean_accuracy_low": 0.85,
        "clean_accuracy_high": 0.95, "targeted_success": 0.5, "targeted_success_low": 0.4, "targeted_success_high": 0.6,
        "untargeted_success": 0.7, "untargeted_success_low": 0.6, "untargeted_success_high": 0.8,
    }  # fmt: skip
    return row | columns


class Given:
    """The part of `Inputs` that analyses of cells read."""

    class settings:
        attack = "gap"

    def __init__(self, *rows):
        self.over_patches = pd.DataFrame(list(rows))


def test_bitwidth_reads_bits_from_the_precision_and_leaves_out_patches_from_elsewhere():
    rounded = {"precision": "w4a4", "artifact": "net-torch-w4a4", "calibration": "minmax"}
    kernels = {"precision": "w4a8", "artifact": "net-tflite", "calibration": "minmax", "format": "tflite"}
    given = Given(
        summary(),
        summary(**rounded),
        summary(**rounded, surrogate="fake_quant:w4a4"),
        summary(**rounded, surrogate="float:other"),
        summary(**rounded, surrogate="fake_quant:w8a8"),
        summary(**kernels, runtime="litert", target="litert"),
        summary(**kernels, runtime="litert", target="litert", surrogate="twin:net-tflite"),
        summary(**kernels, runtime="litert", target="litert", surrogate="twin:net-tflite-w3a8"),
        summary(**kernels | {"calibration": "moving_average"}, runtime="litert", target="litert"),
        summary(attack="noise"),
        summary(status="error"),
        summary(defence="jpeg:75"),
    )
    found = bitwidth.measure(given)
    assert found[["weights", "activations", "made"]].to_numpy().tolist() == [
        [32, 32, "float"],
        [4, 4, "float"],
        [4, 4, "same bits"],
        [4, 8, "float"],
        [4, 8, "its twin"],
    ]
    assert found["kind"].tolist() == [bitwidth.SIMULATED] * 3 + [bitwidth.KERNELS] * 2
    assert bitwidth.draw(found)[0].name == "gap"


def test_the_transfer_matrix_has_the_rates_of_the_summary_and_leaves_missing_cells_empty():
    given = Given(
        *(summary(victim=v, artifact=f"{v}-torch", surrogate=s, targeted_success=r)
          for v, s, r in (("a", "float", 0.5), ("b", "float", 0.4), ("b", "float:a", 0.2)))
    )  # fmt: skip
    found = transfer.measure(given)
    matrix = found.pivot_table(index="surrogate", columns="victim", values="targeted")
    assert matrix.loc["a float", "b float, PyTorch"] == 0.2
    assert np.isnan(matrix.loc["b float", "a float, PyTorch"])
    assert found["same_network"].tolist() == [True, True, False]
    assert [f.name for f in transfer.draw(found)] == ["targeted", "untargeted"]


def test_heat_maps_are_grouped_by_network_and_have_at_most_twenty_columns():
    places = ("w4a4, simulated", "w8a8, LiteRT", "float, PyTorch", "w8a8, simulated")
    many = [f"w8a8, target {i}" for i in range(24)]
    names = [("b", place) for place in many] + [("a", place) for place in places]
    table = pd.DataFrame([{"victim": f"{net} {place}", "network": net, "place": place} for net, place in names[::-1]])
    found = transfer.in_order(table, "victim", "network", "place")
    assert found["rest"][:4].tolist() == ["float, PyTorch", "w8a8, simulated", "w4a4, simulated", "w8a8, LiteRT"]
    parts = transfer.pages(found)
    assert [len(part) for part in parts] == [4, 12, 12]
    assert [part["network"].unique().tolist() for part in parts] == [["a"], ["b"], ["b"]]


def test_the_saliency_of_a_linear_network_is_its_weights():
    """The gradient of the margin between two classes is ``w0 - w1`` on every image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)).double().requires_grad_(False)
    network.forward = lambda x: nn.Sequential.forward(network, x.double())
    expected = (network[1].weight[0] - network[1].weight[1]).abs().reshape(3, 4, 4).sum(dim=0)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    found = places.saliency(network, pixels, np.array([0, 1, 0, 1, 1]), batch=2)
    assert found == pytest.approx(np.broadcast_to((expected / expected.sum()).numpy(), (5, 4, 4)), rel=1e-5)


def test_saliency_under_a_patch_equals_a_count_by_hand():
    looks = np.zeros((1, 4, 4))
    looks[0, 1, 2] = 1.0
    assert places.under(looks, [(0, 0), (0, 1), (1, 2), (2, 2)], 2).tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_a_mean_of_normal_shares_has_nearly_students_interval():
    values = np.random.default_rng(3).normal(0.7, 0.1, 60)
    found = findings.mean_share(np.append(values, np.nan))
    half = stats.t.ppf(0.975, 59) * values.std(ddof=1) / np.sqrt(60)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.004)
    assert found.n == 60
    assert np.isnan(findings.mean_share(np.array([0.5])).low)
    assert findings.mean_share(np.array([])).n == 0


@pytest.mark.parametrize(
    ("low", "high", "low_is_claimed", "says"),
    [
        (0.81, 0.9, False, "holds"),
        (0.7, 0.9, False, "holds in part"),
        (0.4, 0.6, False, "holds in part"),
        (0.1, 0.49, False, "does not hold"),
        (0.1, 0.49, True, "holds"),
        (0.81, 0.9, True, "does not hold"),
        (np.nan, np.nan, False, "too few"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, low_is_claimed, says):
    assert findings.verdict(findings.Share((low + high) / 2, low, high, 9), low_is_claimed) == says


def test_success_kept_at_few_bits_counts_usable_networks_only():
    """By hand: 0.4 of 0.5 simulated; 0.5 of 0.5 on kernels, whose other file is broken; 2 % on float is too little."""
    rounded = {"calibration": "minmax", "clean_accuracy": 0.8}
    kernels = rounded | {"runtime": "litert", "target": "litert", "format": "tflite"}
    given = Given(
        summary(),
        summary(**rounded, precision="w4a4", artifact="net-w4a4", targeted_success=0.4),
        summary(**kernels, precision="w4a8", artifact="net-w4a8", targeted_success=0.5),
        summary(**kernels | {"clean_accuracy": 0.7}, precision="w2a8", artifact="net-w2a8", targeted_success=0.1),
        summary(victim="weak", artifact="weak-torch", targeted_success=0.02),
        summary(**rounded, victim="weak", precision="w4a4", artifact="weak-w4a4", targeted_success=0.02),
    )
    measured = findings.measure({"bitwidth": bitwidth.measure(given)})
    found = measured.query("claim == 'bitwidths'").set_index("where")
    assert found["value"].tolist() == pytest.approx([0.8, 1.0])
    assert found["n"].tolist() == [1, 1]
    assert set(measured.query("claim == 'features'")["verdict"]) == {"not measured"}


def test_float_on_moved_pixels_does_not_count_as_quantized():
    rows = [{"region": "patch", "transfer": 1.0, "kind": kind, "cosine": cosine}
            for kind, cosine in (("float, moved pixels", 0.96), ("simulated", 0.4), ("twin", 0.5))]  # fmt: skip
    found = findings.measure({"gradients": pd.DataFrame(rows)}).query("claim == 'alignment'").set_index("where")
    assert found["value"].to_dict() == {"simulated": 0.4, "integer kernels": 0.5}


def test_transfer_is_not_measured_without_patches_from_elsewhere():
    table = transfer.measure(Given(summary(), summary(surrogate="twin:net-tflite")))
    found = findings.measure({"transfer": table}).query("claim.str.startswith('across')")
    assert set(found["verdict"]) == {"not measured"}


def test_an_unknown_analysis_is_refused_with_the_known_ones(tmp_path):
    suite = ROOT / "benchmarks/suites/study-digits.toml"
    done = CliRunner().invoke(app, ["study", str(suite), "--out", str(tmp_path), "--only", "transfers"])
    assert "transfers" in str(done.exception)
    assert "saturation" in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("artifacts", '["resnet9-*"]', "'resnet9-*' matches none of this suite's"),
        ("attack", '"lavan"', "no 'lavan' in this suite"),
    ],
)
def test_a_study_table_that_matches_nothing_is_refused_at_once(tmp_path, key, value, says):
    suite = (ROOT / "benchmarks/suites/study-digits.toml").read_text()
    text = suite.replace('artifacts = ["resnet8-*"]', f"{key} = {value}")
    (tmp_path / "suite.toml").write_text(text)
    done = CliRunner().invoke(app, ["study", str(tmp_path / "suite.toml"), "--out", str(tmp_path / "out")])
    assert says in str(done.exception)
    assert "pgd-each" in str(done.exception) or "resnet8-onnx-s8s8-minmax" in str(done.exception)
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_study_may_lack_the_default_attack():
    """`gap` is a default that nobody asked for, so a suite may lack it."""
    replay = SimpleNamespace(artifact=Path("net"), case=SimpleNamespace(patch=None))  # a path has a name
    plan = SimpleNamespace(replays=[replay])
    _check(StudyTable(), plan)
    with pytest.raises(UserError, match="no 'gap' in this suite"):
        _check(StudyTable(attack="gap"), plan)


def test_the_bits_of_a_precision():
    assert labels.bits("w4a8") == (4, 8)
    assert labels.bits("fp32") == (32, 32)
