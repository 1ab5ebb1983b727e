"""An NPU's simulator beside its board: a real sshd on loopback, where that simulator stands in the board's place."""

import shutil
from pathlib import Path

import pytest
from helpers import ROOT, lying_device
from helpers import board as boards
from helpers.faraway import bare, use
from helpers.required import absent
from typer.testing import CliRunner

from backends import environments
from backends.device.errors import UserError
from backends.device.runtimes import engine
from backends.hosts import Target, availability
from harness.cli.app import app
from harness.config import read_suite
from harness.results.run_directory import read_run
from harness.run.on_board import beside

SUITE = """
schema = 1
name = "npu"
[data]
name = "digits"
calibration = 0
craft = 8
evaluate = 20
[[artifact]]
name = "net"
file = "FILE"
[[attack]]
name = "noise"
pixels = 8
[latency]
warmup = 1
runs = 2
seconds = 0
[[target]]
name = "npu"
runtime = "RUNTIME"
"""


def write_suite(folder: Path, runtime: str, file: Path) -> Path:
    shutil.copy(file, folder)
    (folder / "suite.toml").write_text(SUITE.replace("FILE", file.name).replace("RUNTIME", runtime))
    return folder / "suite.toml"


def compare(folder: Path, address: str = "board") -> str:
    asked = ["board", "compare", "npu", address, "--suite", str(folder / "suite.toml"), "--data", str(folder)]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def ethos_u(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Python of an environment that has Arm's reference model alone; this one does not have it."""
    monkeypatch.chdir(tmp_path)
    write_suite(tmp_path, "tosa", ROOT / "benchmarks/baselines/demo/resnet8.tflite")
    requirements = environments.pinned(engine("tosa").package)
    try:
        environments.make_environment(requirements, lambda word: None)
    except UserError as error:
        absent("environments", str(error))
    return environments.python(requirements)


@pytest.mark.slow
@pytest.mark.ssh
def test_a_board_that_computes_as_the_simulator_is_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ethos_u: Path
) -> None:
    with boards.running(tmp_path / "b", ethos_u.parent.parent) as board:
        use(board, monkeypatch)
        said = compare(tmp_path)
    assert "the answers of npu-board and npu are equal" in said
    run = read_run(tmp_path / "out/npu-npu-board")
    (one,) = [one for one in run.agreement if one.images == "clean"]
    assert (one.n, one.predictions_differ, one.values_differ, one.unit) == (20, 0.0, 0.0, "step")
    told = {target.name: target.info for target in run.targets}
    assert told["npu-board"]["kernels"] == told["npu"]["kernels"] == "tosa"


@pytest.mark.slow
@pytest.mark.ssh
def test_a_board_that_answers_otherwise_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ethos_u: Path) -> None:
    liar = lying_device.python(tmp_path / "liar", ethos_u).parent.parent
    with boards.running(tmp_path / "b", liar, {"LIE": "other logits", "LIED_ABOUT": "none"}) as board:
        use(board, monkeypatch)
        said = compare(tmp_path)
    assert "the answers of npu-board and npu are not equal" in said
    run = read_run(tmp_path / "out/npu-npu-board")
    assert {one.images: one.values_differ for one in run.agreement} == {"clean": 1.0, "patched": 0.0}


@pytest.mark.parametrize(
    ("runtime", "file", "on_board", "mend"),
    [
        ("rknn", "tiny.rknn", "rknn_lite", "/bin/pip install numpy rknn-toolkit-lite2'"),
        ("tpu_mlir", "tiny.cvimodel", "sail", "/bin/pip install numpy sophon-arm.whl'"),
    ],
)
@pytest.mark.ssh
def test_a_board_has_its_chips_own_runtime_or_hears_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, file: str, on_board: str, mend: str
) -> None:
    path = write_suite(tmp_path, runtime, ROOT / "backends/conformance" / file)
    _, there = beside(read_suite(path), "npu", "board").target
    assert (there.runtime, there.options) == (on_board, {})
    assert beside(read_suite(path), "npu", "board", runtime).target[1].runtime == runtime
    with boards.running(tmp_path / "b", bare(tmp_path / "bare", "numpy")) as board:
        use(board, monkeypatch)
        reason = availability(Target("npu-board", on_board, host="ssh", address="board"))
    assert reason is not None
    assert reason.startswith(f"the Python of board has {engine(on_board).package} not installed")
    assert reason.endswith(mend)
    assert ("made from github.com/sophgo/sophon-sail" in reason) == (on_board == "sail")
