"""Files that a user brings: a run on an artifact without a network, and a network of the user's own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import tiny
from helpers.command import patchbench
from PIL import Image

from backends.device.artifact import Artifact, Preproc, sha256_file
from backends.device.errors import UserError
from exporters.brought import bring
from harness.config import read_suite

BROUGHT = """
schema = 1
name = "brought"
[data]
name = "cifar10"
calibration = 1
craft = 1
evaluate = 200
[[artifact]]
name = "mlperf"
file = "vendor/mlperf_tiny_resnet8_int8.tflite"
divisor = 1
output_kind = "softmax"
[[attack]]
name = "noise"
pixels = 8
[latency]
runs = 5
seconds = 0
[[target]]
name = "litert"
runtime = "litert"
[[target]]
name = "builtin"
runtime = "litert"
options = { kernels = "builtin" }
"""
OWN = """
schema = 1
name = "own"
[data]
name = "folder"
path = "photos"
calibration = 6
craft = 12
evaluate = 12
[[victim]]
name = "mine"
model = "my_networks:small"
weights = "mine.pt"
input_size = [24, 24]
[[export]]
format = ["onnx", "tflite"]
[[attack]]
name = "gap"
target_classes = [1]
area = 0.1
options = { steps = 4 }
[latency]
runs = 5
seconds = 0
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "litert"
runtime = "litert"
"""
MY_NETWORKS = """
from torch import nn

def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
"""


def described(file: Path, **changes: object) -> Artifact:
    facts = {
        "name": "mine", "victim": "mine", "format": file.suffix[1:], "precision": "w8a8", "file": f"mine{file.suffix}",
        "sha256": sha256_file(file), "input_size": (tiny.SIZE, tiny.SIZE), "classes": tiny.CLASSES,
        "preproc": Preproc("nhwc" if file.suffix == ".tflite" else "nchw"),
    }  # fmt: skip
    return Artifact(**facts | changes)


def test_a_file_that_is_as_its_user_says_is_copied_and_described(tmp_path: Path) -> None:
    file = tiny.tflite_file(tmp_path / "their.tflite")
    (tmp_path / "into").mkdir()
    assert bring(file, described(file), tmp_path / "into").counts == {"FULLY_CONNECTED": 1}
    assert Artifact.read(tmp_path / "into" / "mine.json") == described(file)
    assert sha256_file(tmp_path / "into" / "mine.tflite") == sha256_file(file)


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("tflite", {"precision": "fp32"}, "integer scales"),
        ("onnx", {}, "compute in float"),
        ("tflite", {"input_size": (9, 9)}, r"takes images of 8x8, the suite says 9x9: set input_size = \[8, 8\]"),
        ("tflite", {"preproc": Preproc("nchw")}, "takes inputs nx8x8x3, which is not nchw"),
        ("tflite", {"class_offset": 1}, "has 4 outputs, expected at least 5"),
    ],
)
def test_a_file_that_is_not_as_its_user_says_is_refused(tmp_path: Path, kind: str, changes: dict, says: str) -> None:
    file = getattr(tiny, f"{kind}_file")(tmp_path / f"their.{kind}")
    with pytest.raises(UserError, match=says):
        bring(file, described(file, **changes), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("vendor/mlperf_tiny_resnet8_int8.tflite", "vendor/x.pb", "expected a file that ends in .onnx"),
        ('name = "mlperf"', "", "name"),
        ("divisor = 1", "divisr = 1", "did you mean 'divisor'"),
        ("divisor = 1", "divisor = 0", "expected a number above 0, got 0"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path: Path, old: str, new: str, says: str) -> None:
    (tmp_path / "suite.toml").write_text(BROUGHT.replace(old, new))
    with pytest.raises(UserError, match=says):
        read_suite(tmp_path / "suite.toml")


def test_a_suite_without_anything_to_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(BROUGHT.replace("[[artifact]]", "[[victim]]").split('name = "mlperf"')[0])
    with pytest.raises(UserError):
        read_suite(tmp_path / "suite.toml")


@pytest.mark.slow
@pytest.mark.data
def test_a_vendors_file_runs_without_its_network(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(BROUGHT)
    done = patchbench("run", "suite.toml", "--data", data_dir, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run_dir = tmp_path / "out" / "brought"
    cells = pd.read_csv(run_dir / "cells.csv", keep_default_na=False)
    assert set(cells["status"]) == {"ok"}
    assert set(cells["precision"]) == {"w8a8"}
    clean = cells[cells["attack"] == "none"]["clean_accuracy"]
    assert len(clean) == 2
    assert ((clean - 0.878).abs() < 0.05).all()  # MLPerf Tiny's file on all 1000; these are 200 of them
    assert set(cells["attack"]) == {"none", "grey", "noise"}
    missing = patchbench("run", "suite.toml", cwd=tmp_path, PATCHBENCH_DATA="")
    assert missing.returncode == 2
    assert "mlperf" in missing.stderr + missing.stdout


@pytest.mark.slow
def test_a_network_and_photos_of_ones_own(tmp_path: Path) -> None:
    """Classes that a hue tells apart; the weights are made here, so that the network is right by construction."""
    import torch

    random = np.random.default_rng(0)
    for label, hue in enumerate(("blue", "green", "red")):
        (tmp_path / "photos" / hue).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 90, (30, 40, 3)).astype(np.uint8)
            pixels[..., 2 - label] += 150
            Image.fromarray(pixels).save(tmp_path / "photos" / hue / f"{i}.png")
    (tmp_path / "my_networks.py").write_text(MY_NETWORKS)
    space: dict = {}
    exec(MY_NETWORKS, space)
    network = space["small"]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for label in range(3):
            network[0].weight[label, 2 - label, 1, 1] = 1.0
            network[4].weight[label, label] = 4.0
        network[0].weight[3:] = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0)) / 9
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    (tmp_path / "suite.toml").write_text(OWN)
    done = patchbench("run", "suite.toml", "--data", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run_dir = tmp_path / "out" / "own"
    cells = pd.read_csv(run_dir / "cells.csv", keep_default_na=False)
    assert set(cells["status"]) == {"ok"}
    assert set(cells["clean_accuracy"].astype(float)) == {1.0}
    assert json.loads((run_dir / "run.json").read_text())["class_names"] == ["blue", "green", "red"]
    shutil.rmtree(tmp_path / "photos")
    x = random.integers(0, 256, (30, 24, 24, 3)).astype(np.uint8)
    np.savez(tmp_path / "photos.npz", x=x, y=np.arange(30) % 3)
    text = OWN.replace('"folder"', '"npz"').replace('"photos"', '"photos.npz"').replace('["onnx", "tflite"]', '"onnx"')
    (tmp_path / "suite.toml").write_text(text)
    again = patchbench("run", "suite.toml", "--data", tmp_path, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
