"""A change of the calibration on CIFAR-10 is found by the gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command import patchbench
from helpers.gated import WORSE, gate, run

pytestmark = pytest.mark.slow


CIFAR = """
schema = 1
name = "calibrated"
[data]
name = "cifar10"
calibration = 64
craft = 500
evaluate = 500
[[victim]]
name = "resnet20"
model = "resnet20"
weights = "cifar10/resnet20.th"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[[export]]
format = "onnx"
calibration = "moving_average"
[[attack]]
name = "gap"
target_classes = [5]
pixels = 8
options = { steps = 60 }
[controls]
grey = 0
noise = 1
[latency]
warmup = 1
runs = 2
seconds = 0
[[target]]
name = "device"
runtime = "onnxruntime"
"""


@pytest.mark.data
def test_moving_average_become_minmax_is_worse(data_dir: Path, tmp_path: Path) -> None:
    """The project's own finding as a regression: clean accuracy says nothing, success rises by a lot."""
    out = tmp_path / "run"
    run(CIFAR, tmp_path, out, data_dir)
    frozen = patchbench("baseline", out, "-o", tmp_path / "base.json", cwd=tmp_path)
    assert frozen.returncode == 0, frozen.stderr
    run(CIFAR.replace("moving_average", "minmax"), tmp_path, out, data_dir)
    said = gate(tmp_path / "base.json", out, tmp_path)
    assert said.returncode == WORSE, said.stdout
    verdict = json.loads((tmp_path / "said.json").read_text())
    bad = [c for c in verdict["comparisons"] if c["worse"]]
    assert {(c["metric"], c["name"].partition(" ")[0]) for c in bad} >= {
        ("targeted_success", "resnet20-onnx-s8s8-moving_average")
    }
    assert not any(c["metric"] == "clean_accuracy" for c in bad)
    assert all("torch" not in c["name"] for c in bad)
    assert "calibration changed from moving_average to minmax" in (tmp_path / "said.md").read_text()
    assert np.isfinite([c["p"] for c in verdict["comparisons"]]).all()
