"""A file that crashes its runtime ends no process of ours: here a depthwise convolution without a bias, on LiteRT."""

from pathlib import Path

import patchbench
import pytest
from helpers import foreign_tflite
from helpers.command import patchbench as command
from rich.console import Console

from backends.device.errors import UserError
from harness.run import trial
from harness.run.run import run_suite

SUITE = """
schema = 1
name = "crash"
data = { name = "digits", calibration = 1, craft = 8, evaluate = 8 }
controls = { noise = 0, grey = 0 }
[[artifact]]
name = "net"
file = "net.tflite"
input_size = [16, 16]
[[attack]]
name = "gap"
surrogate = "twin:net:builtin"
pixels = 3
options = { steps = 1, batch = 4 }
[[target]]
name = "litert"
runtime = "litert"
options = { kernels = "reference" }
"""
SAYS = r"net\.tflite: litert \(builtin\) crashes on it: SIG[A-Z]+$"


def _without_bias(model):
    depthwise = model.subgraphs[0].operators[1]
    depthwise.inputs = depthwise.inputs[:2]


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(foreign_tflite.KINDS, "crashing", foreign_tflite.Kind(change=_without_bias))
        return foreign_tflite.write("crashing", tmp_path_factory.mktemp("crashing") / "net.tflite")


def test_each_kernels_are_tried_in_one_process(crashing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit")  # a user's module, where the command is run
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    trial.require_survived(crashing, ("reference",))
    with pytest.raises(UserError, match=SAYS):
        trial.require_survived(crashing, ("builtin", "reference"))


def test_a_file_that_no_runtime_reads_is_left_to_who_opens_it(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    trial.require_survived(tmp_path / "net.onnx")


def test_a_file_that_never_ends_is_one_line(crashing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    with pytest.raises(UserError, match=r"net\.tflite: litert needs more than 0 s for one image"):
        trial.require_survived(crashing)


def test_a_twin_of_it_is_one_line(crashing: Path) -> None:
    with pytest.raises(patchbench.UserError, match=SAYS):
        patchbench.twin(crashing, "builtin")
    done = command("twin", crashing, "--kernels", "builtin", cwd=crashing.parent)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_run_with_a_twin_of_it_is_one_line_before_any_patch(crashing: Path, tmp_path: Path) -> None:
    suite = tmp_path / "crash.toml"
    suite.write_text(SUITE)
    with pytest.raises(UserError, match=SAYS):
        run_suite(suite, crashing.parent, tmp_path / "out", console=Console(quiet=True))
    assert not list((tmp_path / "out/store").glob("patch/*"))
