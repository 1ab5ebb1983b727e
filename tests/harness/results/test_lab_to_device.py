"""The loss from lab to device, on a run whose every link is known: their order, and that the changes add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.made_run import FILES, make_run

from harness.report.waterfall import waterfall
from harness.results.gathering import outcomes
from harness.results.lab_to_device import Chain, chains
from harness.results.paired import calibrations
from harness.results.stats import holm

TFLITE = "net-tflite-w8a8-s8s8-moving_average"
VERSIONS = {
    "litert": "2.3",
    "litert-ssh": "2.3",
    "litert-haswell": "2.3",
    "litert-arm64": "2.3",
    "litert-old": "1.0",
    "litert-reference": "2.3",
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A TFLite file on every kind of place, and ONNX beside it."""
    root = make_run(tmp_path_factory.mktemp("run"), victims=("net",), images=400, goals=(3, 5), seeds=2, files=FILES)
    table = pd.read_parquet(root / "records.parquet")
    table.loc[table["target"].str.startswith("litert"), "kernels"] = "xnnpack"
    fine = table[table["artifact"] == TFLITE]
    native = fine[fine["target"] == "litert"]
    rng = np.random.default_rng(0)
    more = [
        native.assign(target="litert-reference", kernels="reference", pred=noisy(native, rng)),
        native.assign(target="litert-old", pred=noisy(native, rng)),
        native.assign(target="litert-ssh", host="ssh", pred=noisy(native, rng)),
        native.assign(target="litert-haswell", host="qemu", cpu="Haswell", pred=noisy(native, rng)),
        native.assign(format="torch", artifact="net-twin", target="torch", runtime="torch", pred=noisy(native, rng)),
    ]
    return pd.concat([table, *more], ignore_index=True)


def noisy(table: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """A few answers become the right one."""
    return table["pred"].where(rng.random(len(table)) > 0.05, table["label"])


@pytest.fixture(scope="module")
def chain(records: pd.DataFrame) -> Chain:
    (one,) = [c for c in chains(outcomes(records), VERSIONS) if c.links[-1].artifact == TFLITE]
    return one


def test_the_links_are_in_order_and_follow_their_like(chain: Chain) -> None:
    assert [(link.stage, link.target, link.of) for link in chain.links] == [
        ("float, PyTorch", "torch", -1),
        ("float, in the runtime", "litert", 0),
        ("fake-quantized", "torch", 1),
        ("integer, reference kernels", "litert-reference", 2),
        ("integer, optimised kernels", "litert", 3),
        ("the same elsewhere", "litert-ssh", 4),
        ("other instruction set", "litert-arm64", 4),
        ("other instruction set", "litert-haswell", 4),
        ("other version", "litert-old", 4),
    ]


def test_changes_add_up_to_the_difference_of_the_ends(chain: Chain) -> None:
    for link in chain.links[1:]:
        assert link.success_change is not None
        assert link.clean_change is not None
        before = chain.links[link.of]
        assert link.success - before.success == pytest.approx(link.success_change.value)
        assert link.clean - before.clean == pytest.approx(link.clean_change.value)
        assert link.success_change.low <= link.success_change.value <= link.success_change.high


def test_success_is_over_what_every_step_gets_right(records: pd.DataFrame, chain: Chain) -> None:
    """By hand for one step and one patch each."""
    steps = [(link.artifact, link.target) for link in chain.links]
    clean = records[records["attack"] == "none"].set_index(["artifact", "target", "image"]).sort_index()
    right = [clean.loc[place].query("pred == label").index for place in steps]
    common = set(right[0]).intersection(*right[1:])
    here = records[(records["attack"] == "gap") & records["image"].isin(common)]
    here = here[here["label"] != here["target_class"]]
    reference = here[(here["artifact"] == TFLITE) & (here["target"] == "litert-reference")]
    assert chain.n == len(reference)
    rates = (reference["pred"] == reference["target_class"]).groupby(reference["patch"]).mean()
    assert (len(rates), chain.patches) == (4, 4)
    assert chain.links[3].success == pytest.approx(rates.mean())


def test_a_file_without_a_lab_or_that_failed_has_no_chain(records: pd.DataFrame) -> None:
    alone = records[records["format"] != "torch"]
    assert chains(outcomes(alone), VERSIONS) == []
    failed = records.assign(status=records["status"].where(records["target"] != "litert-reference", "crash"))
    stages = [s.stage for c in chains(outcomes(failed), VERSIONS) for s in c.links if c.links[-1].artifact == TFLITE]
    assert "integer, reference kernels" not in stages
    assert "integer, optimised kernels" in stages


def test_every_chain_is_drawn(records: pd.DataFrame, tmp_path: Path) -> None:
    found = chains(outcomes(records), VERSIONS)
    assert len(found) == 6
    svg = str(waterfall(found, {}))
    assert svg.count("PyTorch") == 6


def test_what_was_made_on_different_surrogates_is_told_apart(records: pd.DataFrame) -> None:
    twin = records[records["attack"] == "gap"].assign(surrogate="twin:x")
    known = outcomes(pd.concat([records, twin], ignore_index=True))
    svg = str(waterfall(chains(known, VERSIONS), {}))
    assert svg.count("gap, crafted on float") == svg.count("gap, crafted on twin:x") == 6
    assert {pair.attack for pair in calibrations(known)} == {"gap, crafted on float", "gap, crafted on twin:x"}


def test_calibrations_are_paired_patch_by_patch(records: pd.DataFrame) -> None:
    """Against means taken by hand, and Holm over all of them."""
    found = calibrations(outcomes(records))
    places = [(pair.artifacts[0].split("-")[1], pair.artifacts[0].split("-")[3], pair.targets[0]) for pair in found]
    assert {("onnx", "u8s8", "ort"), ("onnx", "s8s8", "ort"), ("tflite", "s8s8", "litert")} <= set(places)
    pair = found[places.index(("onnx", "u8s8", "ort"))]
    clean = records[(records["attack"] == "none") & (records["pred"] == records["label"])]
    right = [set(clean.loc[clean["artifact"] == name, "image"]) for name in pair.artifacts]
    here = records[(records["attack"] == "gap") & records["image"].isin(right[0] & right[1])]
    here = here[here["label"] != here["target_class"]]
    rates = here.assign(hit=here["pred"] == here["target_class"]).groupby(["artifact", "patch"])["hit"].mean()
    assert pair.success.value == pytest.approx(rates[pair.artifacts[1]].mean() - rates[pair.artifacts[0]].mean())
    assert (pair.patches, pair.success.over) == (4, "patches and images")
    assert [p.p for p in found] == holm([p.success.p for p in found]).tolist()
    assert pair.p < 0.05


@pytest.mark.parametrize("kernels", ["cpu-disabled", "float"])  # onnxruntime's, OpenVINO's
def test_a_file_computed_in_float_as_it_stands_is_the_fake_quantized_network(
    records: pd.DataFrame, kernels: str
) -> None:
    onnx = records[(records["format"] == "onnx") & (records["precision"] != "fp32")]
    native = onnx[onnx["artifact"] == onnx["artifact"].iloc[0]]
    native = native[native["target"] == native["target"].iloc[0]]
    plain = native.assign(target="ort-plain", kernels=kernels, pred=noisy(native, np.random.default_rng(1)))
    found = chains(outcomes(pd.concat([records, plain], ignore_index=True)), VERSIONS)
    (chain,) = [c for c in found if any(link.target == "ort-plain" for link in c.links)]
    stages = {link.target: link.stage for link in chain.links}
    assert stages["ort-plain"] == "fake-quantized"
    assert [link.stage for link in chain.links][-2:] == ["fake-quantized", "integer, optimised kernels"]
