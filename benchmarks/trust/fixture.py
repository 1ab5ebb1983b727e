"""A small run with its store, bundles, a baseline and a patch, for campaigns to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from campaign import patchbench

from backends.conformance import networks
from backends.device.bundle import Stamps, write_bundle

SUITE = """
schema = 1
name = "flip"
[data]
name = "digits"
calibration = 8
craft = 32
evaluate = 30
[[victim]]
name = "resnet8"
model = "resnet8"
[victim.train]
epochs = 1
[[export]]
format = "onnx"
[[attack]]
name = "gap"
target_classes = [3]
pixels = 8
options = { steps = 3 }
[controls]
noise = 1
[latency]
warmup = 1
runs = 2
seconds = 0
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "ort-plain"
runtime = "onnxruntime"
options = { optimization = "disabled" }
"""


def make_fixture(fixture: Path) -> None:
    """Make a run with its store, bundles, a baseline and a patch; what is there already is kept."""
    run = fixture / "run"
    fixture.mkdir(parents=True, exist_ok=True)
    (fixture / "suite.toml").write_text(SUITE)
    made = patchbench("run", "suite.toml", "--out", run, folder=fixture)
    (fixture / "frozen").mkdir(exist_ok=True)
    frozen_too = patchbench("baseline", run, "-o", "frozen/baseline.json", folder=fixture)
    if made.code or frozen_too.code:
        raise SystemExit(f"the run to be damaged cannot be made: {made.stderr}{frozen_too.stderr}")
    (fixture / "patch").mkdir(exist_ok=True)
    shutil.copy2(next((run / "patches").glob("gap*.npz")), fixture / "patch" / "patch.npz")
    pixels = np.random.default_rng(0).integers(0, 256, (6, networks.SIZE, networks.SIZE, 3), np.uint8)
    stamps = Stamps(pixels[:1, :3, :3], np.ones((1, 3, 3), bool), np.ones((6, 2), np.int32))
    for kind in ("onnx", "tflite"):
        file = networks.file(kind)
        write_bundle(fixture / kind, networks.artifact(file), file, pixels, {"none": None, "patch": stamps})
