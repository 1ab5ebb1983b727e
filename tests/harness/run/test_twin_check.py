"""The check of twins: a run whose twin computes other integers than its runtime ends before any patch is made."""

from pathlib import Path

import pytest
import torch
from helpers import suites
from helpers.onnx_networks import Network as OnnxNetwork
from helpers.twin_networks import PIXELS, SIZE, Network, _dense
from rich.console import Console
from torch import Tensor, nn

from backends.device.errors import UserError
from harness.results.run_directory import read_run
from harness.run import twin_check
from harness.run.arithmetic import first_difference
from harness.run.run import run_suite
from patches.twins import tflite_layers, twin

SUITE = suites.on_a_twin("net.tflite", "twin:net:builtin", "litert", SIZE)


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
    (held,) = run.twins
    assert (held.artifact, held.kernels, held.equal, held.largest, held.wanted) == ("net", "builtin", 1.0, 0, 1.0)
    assert held.integers == len(twin_check.BATCHES) * 8 * 10
    assert held.patches == tuple(patch.name for patch in run.patches if patch.attack == "gap")
    (check,) = [check for check in run.checks if check.name == "twins"]
    assert (check.status, check.says) == ("passed", "all 240 integers of 1 twins")


def test_a_wrong_twin_ends_the_run_before_any_patch_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mistake shows in one of the batch sizes alone."""
    right = tflite_layers.LAYERS["FULLY_CONNECTED"]
    monkeypatch.setitem(tflite_layers.LAYERS, "FULLY_CONNECTED", lambda *given: MixesImages(right(*given)))
    file = suite(tmp_path, monkeypatch)
    where = r"from operator FULLY_CONNECTED \(number 2\) on"
    says = rf"net: the twin computes 6\d\.\d% of the integers of builtin on 8 images, {where}"
    with pytest.raises(UserError, match=says) as told:
        run_suite(file, None, tmp_path / "out", console=Console(quiet=True))
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "out/store").glob("patch/*"))

    file.write_text(SUITE.replace("pixels = 3", "pixels = 3\ntwin_equal = 0.5"))
    assert run_suite(file, None, tmp_path / "out", console=Console(quiet=True))
    run = read_run(tmp_path / "out")
    assert 0.6 < run.twins[0].equal < 0.7
    assert run.twins[0].differs_from == "FULLY_CONNECTED (number 2)"
    (check,) = [check for check in run.checks if check.name == "twins"]
    assert check.status == "failed"
    assert {where["patch"] for where in check.where} == set(run.twins[0].patches)


def test_the_first_operator_that_differs_is_named_in_onnx_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = OnnxNetwork("uint8", "int8", 3, SIZE)
    file = net.write(tmp_path, net.conv(net.conv(net.conv(channels=5), 5, 7), 7, 3))
    exact = twin(file)
    assert first_difference(exact, PIXELS, (1, 5)) == ""
    second = [label for label, _ in exact.beginnings() if label.startswith("QLinearConv")][1]
    (at,) = [i for i, (label, _) in enumerate(exact.beginnings(), 1) if label == second]  # behind the pixels
    monkeypatch.setattr(exact.layers[at], "forward", lambda x, right=exact.layers[at].forward: right(x) + 1)
    assert first_difference(exact, PIXELS, (1, 5)) == second
