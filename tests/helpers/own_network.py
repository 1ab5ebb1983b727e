"""The example network of Get started: trained for an epoch, with a suite that takes seconds."""

import shutil
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

SHORTER = {
    "evaluate = 500": "evaluate = 40",
    'calibration = ["minmax", "moving_average"]': 'calibration = "minmax"',
    "target_classes = [3, 8]\nseeds = [0, 1]": "target_classes = [3]\noptions = { steps = 3 }",
}
LATENCY = "\n[latency]\nthreads = 1\nruns = 2\nseconds = 0\n"
PREPARE = "import prepare; prepare.EPOCHS = 1; prepare.main()"


def make(folder: Path) -> Path:
    """The folder with the network's module, its weights, its images, and its suite."""
    shutil.copytree(ROOT / "docs" / "examples" / "own_network", folder, dirs_exist_ok=True)
    subprocess.run([sys.executable, "-c", PREPARE], cwd=folder, check=True, capture_output=True)
    suite = folder / "suite.toml"
    text = suite.read_text()
    for old, new in SHORTER.items():
        assert old in text
        text = text.replace(old, new)
    suite.write_text(text + LATENCY)
    return folder
