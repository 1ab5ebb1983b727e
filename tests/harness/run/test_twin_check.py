"""The check of twins: a run whose twin computes other integers than its runtime ends before any patch is made."""

from pathlib import Path

import pytest
import torch
from helpers.twin_networks import SIZE, Network, _dense
from rich.console import Console
from torch import Tensor, nn

from backends.device.errors import UserError
from harness.results.run_directory import read_run
from harness.run import twin_check
from harness.run.run import run_suite
from patches.twins import tflite_layers

SUITE = f"""
schema = 1
name = "twins"
[data]
name = "digits"
calibration = 1
craft = 8
evaluate = 8
[[artifact]]
name = "net"
file = "net.tflite"
input_size = [{SIZE}, {SIZE}]
[[attack]]
name = "gap"
surrogate = "twin:net:builtin"
pixels = 3
options = {{ steps = 1, batch = 4 }}
[[target]]
name = "litert"
runtime = "litert"
[controls]
noise = 0
grey = 0
"""


class MixesImages(nn.Module):
    """A dense layer that adds to each image what the first of the batch has, where it is not alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return torch.where(torch.arange(len(out))[:, None] < 5, out, out[:1])


def suite(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = SUITE) -> Path:
    monkeypatch.chdir(folder)
    net = Network("int8", 3)
    net.write(folder, _dense(net))
    file = folder / "twins.toml"
    file.write_text(text)
    return file


def test_a_twin_that_equals_its_runtime_is_said_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_suite(suite(tmp_path, monkeypatch), None, tmp_path / "out", console=Console(quiet=True))
    run = read_run(tmp_path / "out")
    (twin,) = run.twins
    assert (twin.artifact, twin.kernels, twin.equal, twin.largest, twin.wanted) == ("net", "builtin", 1.0, 0, 1.0)
    assert twin.integers == len(twin_check.BATCHES) * 8 * 10
    assert twin.patches == tuple(patch.name for patch in run.patches if patch.attack == "gap")
    (check,) = [check for check in run.checks if check.name == "twins"]
    assert (check.status, check.says) == ("passed", "all 240 integers of 1 twins")


def test_a_wrong_twin_ends_the_run_before_any_patch_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mistake shows in one of the batch sizes alone."""
    right = tflite_layers.LAYERS["FULLY_CONNECTED"]
    monkeypatch.setitem(tflite_layers.LAYERS, "FULLY_CONNECTED", lambda *given: MixesImages(right(*given)))
    file = suite(tmp_path, monkeypatch)
    says = r"net: the twin computes 6\d\.\d% of the integers of builtin on 8 images"
    with pytest.raises(UserError, match=says) as told:
        run_suite(file, None, tmp_path / "out", console=Console(quiet=True))
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "out/store").glob("patch/*"))

    file.write_text(SUITE.replace("pixels = 3", "pixels = 3\ntwin_equal = 0.5"))
    assert run_suite(file, None, tmp_path / "out", console=Console(quiet=True))
    run = read_run(tmp_path / "out")
    assert 0.6 < run.twins[0].equal < 0.7
    (check,) = [check for check in run.checks if check.name == "twins"]
    assert check.status == "failed"
    assert {where["patch"] for where in check.where} == set(run.twins[0].patches)
