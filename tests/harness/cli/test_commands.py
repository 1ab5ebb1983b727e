"""The commands, typed as a user would, one after the other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import patchbench
from helpers.suites import write

pytestmark = pytest.mark.slow


def test_the_stages_one_by_one_give_what_a_run_gives(quick: Path, tmp_path: Path) -> None:
    suite = write(tmp_path)
    shutil.copytree(quick / "out", tmp_path / "out")
    steps = [
        ("train", suite, "--into", "weights"),
        ("export", suite, "--only", "*minmax", "--into", "models"),
        ("craft", suite, "--only", "gap*", "--into", "patches"),
        ("craft", suite, "--set", "attack.0.pixels=9", "--limit", "5", "--only", "grey*9px", "--into", "patches"),
        ("bundle", suite, "--artifact", "models/resnet8-onnx-s8s8-minmax.json",
         "--patch", "patches/gap-float-resnet8-c3-s0-8px-steps=3.npz", "--into", "bundle"),
        ("replay", "bundle", "--runtime", "onnxruntime", "--into", "answers"),
        ("report", "out/quick"),
        ("inspect", "models/resnet8-onnx-s8s8-minmax.onnx"),
        ("targets", suite),
        ("twin", "models/resnet8-onnx-s8s8-minmax.onnx"),
        ("twin", "models/resnet8-onnx-s8s8-minmax.onnx", "--suite", suite, "--patch",
         "patches/gap-float-resnet8-c3-s0-8px-steps=3.npz"),
    ]  # fmt: skip
    said = {}
    for step in steps:
        done = patchbench(*step, cwd=tmp_path)
        assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
        said[step[0]] = said.get(step[0], "") + done.stdout
    assert (tmp_path / "weights" / "resnet8.pt").is_file()
    assert (tmp_path / "patches" / "gap-float-resnet8-c3-s0-8px-steps=3.png").is_file()
    assert "integer throughout" in said["inspect"]
    assert "QLinearConv" in said["inspect"]
    assert "yes" in said["targets"]
    assert (
        said["twin"].count("100.000 %") == 6
    )  # top-1, equal, within one step; of photographs, and of the suite's images
    device = json.loads((tmp_path / "answers" / "device.json").read_text())
    assert device["errors"] == {}
    by_hand = {path.stem.split("-")[0]: np.load(path)["logits"] for path in (tmp_path / "answers").glob("*.npz")}
    stored = [np.load(path)["logits"] for path in (tmp_path / "out/quick/store/replay").glob("*/answers.npz")]
    for case in ("none", "gap"):
        assert any(np.array_equal(by_hand[case], other) for other in stored), case


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.toml"), "nowhere.toml: cannot be read"),
        (("run", "suite.toml", "--data", "nowhere"), "no such folder"),
        (("run", "suite.toml", "--targets", "litert*"), "the suite has ort"),
        (("inspect", "suite.toml"), "suite.toml"),
        (("report", "nowhere"), "nowhere: no such folder; run the suite first"),
        (("replay", "nowhere", "--runtime", "litert", "--into", "x"), "nowhere"),
        (("train", "suite.toml", "--set", "data.evaluat=1", "--into", "x"), "mean 'evaluate'?"),
        (("export", "suite.toml", "--only", "tflite*", "--into", "x"), "--only tflite*: nothing matches"),
        (("twin", "suite.toml", "--suite", "suite.toml"), "suite.toml: expected a file that ends in"),
        (("bundle", "suite.toml", "--artifact", "a.json", "--into", "x", "--placement", "centre"), "mean 'center'?"),
        (("bundle", "suite.toml", "--artifact", "nowhere.json", "--into", "x"), "nowhere.json: cannot be read"),
    ],
)
def test_a_mistake_is_one_message_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    write(tmp_path)
    done = patchbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "more"), [("craft", ["--into", "patches"]), ("run", [])])
def test_a_device_that_is_not_there_is_said_before_anything_is_done(
    tmp_path: Path, command: str, more: list[str]
) -> None:
    for device, says in (("cuda:99", "finds"), ("gpu", "expected cpu, cuda"), ("cuda:x", "expected cpu, cuda")):
        done = patchbench(command, write(tmp_path), *more, "--device", device, cwd=tmp_path)
        assert done.returncode == 2
        assert says in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
