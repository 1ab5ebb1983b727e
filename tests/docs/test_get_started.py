"""Get started's own network, from its script to a report."""

import importlib
import shutil
import sys

import pandas as pd
import pytest
from helpers import ROOT
from helpers.command import patchbench


@pytest.mark.slow
def test_the_example_network_gets_a_report(tmp_path, monkeypatch):
    own = tmp_path / "own"
    shutil.copytree(ROOT / "docs" / "examples" / "own_network", own)
    monkeypatch.chdir(own)
    monkeypatch.syspath_prepend(str(own))
    prepare = importlib.import_module("prepare")
    monkeypatch.setattr(prepare, "EPOCHS", 3)
    prepare.main()
    for name in ("prepare", "network"):
        sys.modules.pop(name)
    suite = own / "suite.toml"
    short = (
        suite.read_text().replace("area = 0.08", "area = 0.08\noptions = { steps = 5 }").replace("seeds = [0, 1]", "")
    )
    suite.write_text(short)
    done = patchbench("run", "suite.toml", "--data", ".", cwd=own)
    assert done.returncode == 0, done.stderr
    assert (own / "out" / "own" / "report.html").is_file()
    cells = pd.read_csv(own / "out" / "own" / "cells.csv")
    assert set(cells["target"]) == {"torch", "onnxruntime", "litert"}
