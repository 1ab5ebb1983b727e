"""A run that makes patches on the twin of a ``.pte`` file, which ExecuTorch runs."""

from pathlib import Path

import pytest
from helpers import executorch
from helpers.pte_graphs import convolved
from rich.console import Console

from harness.results.run_directory import read_run
from harness.run.run import run_suite

SIZE = 9
SUITE = f"""
schema = 1
name = "ptes"
[data]
name = "digits"
calibration = 1
craft = 8
evaluate = 8
[[artifact]]
name = "net"
file = "net.pte"
input_size = [{SIZE}, {SIZE}]
[[attack]]
name = "gap"
surrogate = "twin:net"
pixels = 3
options = {{ steps = 1, batch = 4 }}
[[target]]
name = "device"
runtime = "executorch"
[controls]
noise = 0
grey = 0
"""


def test_its_integers_are_held_against_executorch_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executorch.require()
    monkeypatch.chdir(tmp_path)
    convolved(tmp_path / "net.pte", SIZE)
    (tmp_path / "suite.toml").write_text(SUITE)
    assert run_suite(tmp_path / "suite.toml", None, tmp_path / "out", console=Console(quiet=True))
    run = read_run(tmp_path / "out")
    (held,), (answered,) = run.twins, run.arithmetic
    assert (held.kernels, held.equal, held.largest) == ("executorch", 1.0, 0)
    assert (answered.target, answered.equal, answered.largest, answered.signature) == ("device", 1.0, 0, "s8s8")
