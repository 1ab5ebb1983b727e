"""Get started's own network, from its script to a report."""

import pandas as pd
import pytest
from helpers.command import patchbench
from helpers.own_network import make


@pytest.mark.slow
def test_the_example_network_gets_a_report(tmp_path):
    own = make(tmp_path / "own")
    done = patchbench("run", "suite.toml", "--data", ".", cwd=own)
    assert done.returncode == 0, done.stderr
    assert (own / "out" / "own" / "report.html").is_file()
    cells = pd.read_csv(own / "out" / "own" / "cells.csv")
    assert set(cells["target"]) == {"torch", "onnxruntime", "litert"}
