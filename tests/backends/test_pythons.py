"""A board has the Python that its Linux came with: Debian 11 has 3.9, Ubuntu 22.04 3.10, Debian 13 has 3.13."""

from functools import partial

import pytest
from helpers import board as boards
from helpers import pythons, tiny
from helpers.faraway import assert_same, at_board, use

from backends.hosts import Target, replay

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


@pytest.mark.parametrize(
    ("version", "runtime", "package"),
    [
        ("3.9", "onnxruntime", "onnxruntime"),
        ("3.9", "litert", "ai-edge-litert"),
        ("3.10", "litert", "ai-edge-litert"),
        ("3.12", "litert", "ai-edge-litert"),
        ("3.13", "onnxruntime", "onnxruntime"),
    ],
)
def test_a_board_may_have_any_python(tmp_path, monkeypatch, version, runtime, package):
    write = {"onnxruntime": partial(tiny.onnx_file, integer_output=True), "litert": tiny.tflite_file}[runtime]
    bundle = tiny.bundle(tmp_path / "bundle", write(tmp_path / "tiny"), n=20)
    here = replay(Target("t", runtime), bundle.root, tmp_path / "here")
    with boards.running(tmp_path, pythons.environment(version, tmp_path / "venv", "numpy", package)) as board:
        use(board, monkeypatch)
        wanted = {"warmup": 1, "runs": 20, "seconds": 0}
        there = replay(at_board(runtime), bundle.root, tmp_path / "there", latency=wanted)
    assert_same(there, here)
    assert there.machine["python"].startswith(f"{version}.")
    assert there.latency.n == 20
