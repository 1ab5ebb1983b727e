"""Packages under a licence that is to be accepted by its name before they are installed."""

from pathlib import Path

import pytest
from helpers.command import patchbench

from backends import environments, licences
from backends.device.errors import UserError
from backends.hosts import Target, availability

QNN = "onnxruntime-qnn"
SUITE = """
schema = 1
name = "npu"
[data]
name = "digits"
evaluate = 50
[[victim]]
name = "cnn"
model = "plain_cnn"
weights = "DIGITS_V1"
[[export]]
format = "onnx"
[[target]]
name = "htp"
runtime = "qnn"
"""


@pytest.fixture(autouse=True)
def nothing_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(licences.VARIABLE, raising=False)


def test_a_package_is_not_installed_before_its_licence_is_accepted() -> None:
    with pytest.raises(UserError, match=r"Qualcomm_LICENSE.pdf .*; to install it, add --accept-licence qualcomm$"):
        environments.pinned(QNN)
    assert "--accept-licence qualcomm" in str(availability(Target("htp", "qnn")))
    with pytest.raises(UserError, match=r"^rknn-toolkit2 is under the RKNN SDK licence.* --accept-licence rockchip$"):
        environments.pinned("rknn-toolkit2")
    environments.pinned("onnxruntime")


def test_a_board_has_what_its_owner_installed() -> None:
    assert licences.installed_for(Target("htp", "qnn", host="ssh", address="pi@board")) == ""
    assert licences.installed_for(Target("htp", "qnn", host="docker")) == QNN


def test_a_licence_has_a_name() -> None:
    with pytest.raises(UserError, match="--accept-licence qualcom: no such licence"):
        licences.accept(["qualcom"])


def _with_rockchips_ranges(suite: str) -> str:
    return suite.replace('"qnn"', '"onnxruntime"').replace(
        'format = "onnx"', 'format = "onnx"\ncalibration = "rknn:normal"'
    )


def test_a_run_whose_ranges_another_compiler_finds_needs_that_ones_licence_before_anything(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(_with_rockchips_ranges(SUITE))
    done = patchbench("run", "suite.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith("add --accept-licence rockchip")


def test_a_run_without_it_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE)
    done = patchbench("run", "suite.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith("add --accept-licence qualcomm")
    told = patchbench("run", "suite.toml", "--dry-run", cwd=tmp_path)
    assert told.returncode == 0
    assert " ".join(told.stdout.split()).startswith("the run will be refused: onnxruntime-qnn is under")


def test_a_run_that_is_refused_leaves_the_last_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE.replace('"qnn"', '"onnxruntime"'))
    assert patchbench("run", "suite.toml", cwd=tmp_path).returncode == 0
    (tmp_path / "suite.toml").write_text(SUITE)
    assert patchbench("run", "suite.toml", cwd=tmp_path).returncode == 2
    assert patchbench("report", "out/npu", cwd=tmp_path).returncode == 0


def test_a_file_that_no_target_runs_is_not_made_and_asks_for_no_licence(tmp_path: Path) -> None:
    both = SUITE.replace('"qnn"', '"onnxruntime"').replace('format = "onnx"', 'format = ["onnx", "rknn"]')
    (tmp_path / "suite.toml").write_text(both)
    done = patchbench("run", "suite.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no target runs cnn-rknn-s8s8-minmax: left out" in done.stdout
    assert [path.suffix for path in sorted((tmp_path / "out/npu/artifacts").iterdir())] == [".json", ".onnx"]
