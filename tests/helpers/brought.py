"""A suite of a user's file that needs neither torch nor training: noise on two TFLite targets."""

import shutil
from pathlib import Path

from helpers import ROOT

SUITE = """
schema = 1
name = "brought"
defence = ["none", "median:3"]
[data]
name = "digits"
calibration = 0
craft = 8
evaluate = 40
[[artifact]]
name = "resnet8"
file = "resnet8.tflite"
[[attack]]
name = "noise"
pixels = 8
[controls]
grey = 1
noise = 2
[latency]
threads = 1
warmup = 1
runs = 2
seconds = 0
[[target]]
name = "one"
runtime = "litert"
[[target]]
name = "sixteen"
runtime = "litert"
batch = 16
"""


def write_suite(folder: Path) -> Path:
    """The suite as a file, with the network's file beside it."""
    shutil.copy(ROOT / "benchmarks" / "baselines" / "demo" / "resnet8.tflite", folder)
    path = folder / "suite.toml"
    path.write_text(SUITE)
    return path
