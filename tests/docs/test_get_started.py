"""Get started's own network, from its script to a report."""

import importlib
import shutil
import sys

import pandas as pd
import pytest
from helpers import ROOT
from helpers.command import patchbench

# What the example does, in seconds.
SHORTER = {
    "evaluate = 500": "evaluate = 40",
    'calibration = ["minmax", "moving_average"]': 'calibration = "minmax"',
    "target_classes = [3, 8]\nseeds = [0, 1]": "target_classes = [3]\noptions = { steps = 3 }",
}
LATENCY = "\n[latency]\nthreads = 1\nruns = 2\nseconds = 0\n"


@pytest.mark.slow
def test_the_example_network_gets_a_report(tmp_path, monkeypatch):
    own = tmp_path / "own"
    shutil.copytree(ROOT / "docs" / "examples" / "own_network", own)
    monkeypatch.chdir(own)
    monkeypatch.syspath_prepend(str(own))
    prepare = importlib.import_module("prepare")
    monkeypatch.setattr(prepare, "EPOCHS", 1)
    prepare.main()
    for name in ("prepare", "network"):
        sys.modules.pop(name)
    suite = own / "suite.toml"
    text = suite.read_text()
    for old, new in SHORTER.items():
        assert old in text
        text = text.replace(old, new)
    suite.write_text(text + LATENCY)
    done = patchbench("run", "suite.toml", "--data", ".", cwd=own)
    assert done.returncode == 0, done.stderr
    assert (own / "out" / "own" / "report.html").is_file()
    cells = pd.read_csv(own / "out" / "own" / "cells.csv")
    assert set(cells["target"]) == {"torch", "onnxruntime", "litert"}
