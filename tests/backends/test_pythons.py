"""A board has the Python that its Linux came with: Debian 11 has 3.9, Ubuntu 22.04 3.10, Debian 13 has 3.13."""

import pytest
from helpers import board as boards
from helpers import pythons, tiny
from helpers.faraway import assert_same, at_board, use

from backends.device.runtimes import engine
from backends.hosts import Target, replay

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


@pytest.mark.parametrize(
    ("version", "runtime"),
    [("3.9", "onnxruntime"), ("3.9", "litert"), ("3.10", "litert"), ("3.12", "litert"), ("3.13", "onnxruntime")],
)
def test_a_board_may_have_any_python(tmp_path, monkeypatch, version, runtime):
    if runtime == "litert":
        file = tiny.tflite_file(tmp_path / "tiny.tflite")
    else:
        file = tiny.onnx_file(tmp_path / "tiny.onnx", integer_output=True)
    bundle = tiny.bundle(tmp_path / "bundle", file, n=20)
    with boards.running(tmp_path, tmp_path / "venv") as board:
        pythons.environment(version, tmp_path / "venv", "numpy", engine(runtime).package)
        use(board, monkeypatch)
        here = replay(Target("t", runtime), bundle.root, tmp_path / "here")
        wanted = {"warmup": 1, "runs": 20, "seconds": 0}
        there = replay(at_board(runtime), bundle.root, tmp_path / "there", latency=wanted)
    assert_same(there, here)
    assert there.machine["python"].startswith(f"{version}.")
    assert there.latency.n == 20
