"""A suite that allows operators in float, from the network to the gate, on both runtimes."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.command import patchbench
from helpers.suites import write

from harness.results.run_directory import read_run

pytestmark = pytest.mark.slow

NETWORK = """
import torch
from torch import nn

class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, 2, 1), ChannelNorm(8), nn.GELU(),
        nn.Conv2d(8, 8, 1), nn.ELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )
"""
FILES = ("net-onnx-s8s8-minmax", "net-tflite-s8s8-minmax")
SUITE = f"""
schema = 1
name = "partly"
data = {{ name = "digits", calibration = 32, craft = 32, evaluate = 40 }}
controls = {{ noise = 1, grey = 0 }}
latency = {{ threads = 1, warmup = 0, runs = 1, seconds = 0 }}
[[victim]]
name = "net"
model = "own:network"
train = {{ epochs = 1 }}
[[export]]
format = ["onnx", "tflite"]
allow_float = ["PRelu", "LayerNormalization", "Gelu", "Elu", "EXP", "GREATER_EQUAL"]
[[attack]]
name = "gap"
surrogate = ["twin:{FILES[0]}", "twin:{FILES[1]}:builtin"]
target_classes = [3]
pixels = 8
options = {{ steps = 2 }}
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "litert"
runtime = "litert"
"""
BUT_FOR = ("1 PRelu, 1 LayerNormalization, 1 Gelu, 1 Elu", "1 EXP, 1 GREATER_EQUAL")


def test_its_files_are_a_class_of_their_own_and_their_twins_exact(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(NETWORK)
    suite = write(tmp_path, SUITE)
    done = patchbench("run", suite, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ONNX INT8 and float minmax" in done.stdout

    run_dir = tmp_path / "out" / "partly"
    run, cells = read_run(run_dir), pd.read_csv(run_dir / "cells.csv", keep_default_na=False)
    assert set(cells.groupby("artifact")["precision"].first()[list(FILES)]) == {"w8a8+fp32"}
    assert [(twin.artifact, twin.kernels, twin.equal) for twin in run.twins] == [
        (FILES[0], "onnxruntime", 1.0),
        (FILES[1], "builtin", 1.0),
    ]
    (says,) = [check.says for check in run.checks if check.name == "integers"]
    assert says == "; ".join(f"{name} is integer but for {what}" for name, what in zip(FILES, BUT_FOR, strict=True))
    page = (run_dir / "report.html").read_text()
    for words in (*BUT_FOR, "TFLite INT8 and float minmax", "partly integer, optimised kernels"):
        assert words in page, words

    for command in (("baseline", run_dir, "-o", "base.json"), ("gate", "base.json", run_dir)):
        done = patchbench(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "no worse" in done.stdout
