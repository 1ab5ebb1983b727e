"""Targets that are silently wrong: found on the first clean images, and nothing of them is counted."""

import re
import shutil
from pathlib import Path

import onnx
import pandas as pd
import pytest
from helpers import brought, faulty_runtime
from helpers.command import patchbench
from helpers.suites import QUICK, SECOND_TARGET, write
from rich.console import Console

from harness.config import read_suite
from harness.display import Display
from harness.plan.plan import make
from harness.results.run_directory import read_run
from harness.run import replays, stages
from harness.store import Store

pytestmark = pytest.mark.slow
NAME = "resnet8-onnx-s8s8-minmax"


def a_convolution(file: Path) -> tuple[str, str]:
    """The name of the third convolution's weights in a QDQ file, and what messages call it."""
    nodes = onnx.load(file).graph.node
    number = [i for i, node in enumerate(nodes) if node.op_type == "Conv"][2]
    (weights,) = [node.input[0] for node in nodes if node.output and node.output[0] == nodes[number].input[1]]
    return weights, f"Conv (number {number})"


def test_a_target_that_is_silently_wrong_is_an_error_before_it_replays(quick: Path, tmp_path: Path) -> None:
    """It takes pixels as they come instead of over 255, or negates the weights of one convolution."""
    run_dir = shutil.copytree(quick, tmp_path / "quick") / "out" / "quick"
    weights, convolution = a_convolution(run_dir / "artifacts" / f"{NAME}.onnx")
    suite = QUICK.replace('"minmax", "moving_average"', '"minmax"') + SECOND_TARGET
    for fault in ("raw", "layer"):
        options = f'{{ fault = "{fault}", after = 0, weights = "{weights}" }}'
        suite += f'\n[[target]]\nname = "{fault}"\nruntime = "faulty"\noptions = {options}\n'
    site = faulty_runtime.install(tmp_path / "site")
    done = patchbench("run", write(tmp_path, suite), "--out", run_dir, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1, done.stdout + done.stderr
    cells = pd.read_csv(run_dir / "cells.csv", keep_default_na=False)
    status = cells.groupby("target")["status"].unique().map(list).to_dict()
    assert status == {"torch": ["ok"], "ort": ["ok"], "ort-plain": ["ok"], "raw": ["error"], "layer": ["error"]}
    run = read_run(run_dir)
    said = {error.target: error.message for error in run.errors if error.case == "none"}
    assert said["layer"].endswith(f"it begins at {convolution}")
    assert said["raw"].endswith("the first: is its input right?")
    held = {one.target: one for one in run.elsewhere}
    assert held["ort-plain"].against == "onnxruntime here"
    assert held["ort-plain"].correlation > 0.99
    (check,) = [one for one in run.checks if one.name == "as elsewhere"]
    assert check.status == "failed"
    assert {where["target"] for where in check.where} == {"raw", "layer"}
    assert not list(run_dir.glob("store/unfinished/*"))


SME = """
[[target]]
name = "sme"
runtime = "openvino"
host = "qemu"
arch = "aarch64"
cpu = "max"
options = { sme = "allowed", float_layers = "allowed" }
"""


@pytest.mark.qemu
@pytest.mark.usefixtures("qemu")
def test_openvino_on_a_cpu_with_sme_is_found_under_emulation(tmp_path: Path) -> None:
    """It answers, and is wrong, from a convolution in the middle on."""
    file = brought.write_suite(tmp_path)
    file.write_text(brought.SUITE.partition("[[target]]")[0].replace("evaluate = 40", "evaluate = 6") + SME)
    plan = make(read_suite(file), tmp_path, tmp_path)
    work = stages.Work(plan, Store(tmp_path / "store", pytest.fail), Display(Console(quiet=True)))
    replays.replays(work, plan.replays)
    assert set(work.errors) == {step.key for step in plan.replays}
    (said,) = set(work.errors.values())
    assert re.fullmatch(
        r"[3-6] of 6 clean images get .* than on litert here, .*; it begins at CONV_2D [(]number .*", said
    )
    assert "the first" not in said
