"""A run that makes patches on the twin of a ``.pte`` file, which ExecuTorch runs."""

from pathlib import Path

import pytest
from helpers import executorch, suites
from helpers.pte_graphs import convolved
from rich.console import Console

from harness.results.run_directory import read_run
from harness.run.run import run_suite

SIZE = 9


def test_its_integers_are_held_against_executorch_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executorch.require()
    monkeypatch.chdir(tmp_path)
    convolved(tmp_path / "net.pte", SIZE)
    suite = suites.write(tmp_path, suites.on_a_twin("net.pte", "twin:net", "executorch", SIZE))
    assert run_suite(suite, None, tmp_path / "out", console=Console(quiet=True))
    run = read_run(tmp_path / "out")
    (held,), (answered,) = run.twins, run.arithmetic
    assert (held.kernels, held.equal, held.largest) == ("executorch", 1.0, 0)
    assert (answered.target, answered.equal, answered.largest, answered.signature) == ("device", 1.0, 0, "s8s8")
