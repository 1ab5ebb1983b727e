"""Crafting on a device that is not the CPU: the same bytes, and nothing that lies elsewhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import executorch
from helpers import small_networks as small
from helpers.accelerator import DEVICE, Accelerator
from helpers.attacks import TABLE, Entry, Shades, every
from helpers.pte_graphs import convolved
from torch import nn

from backends.device.artifact import QuantSpec
from patches.craft import craft
from patches.differentiable_defences import defended
from patches.fake_quant import Source
from patches.patch import Patch
from patches.problem import Problem
from patches.surrogates import build
from patches.twins import KERNELS, twin

pytestmark = pytest.mark.usefixtures("one_thread")
# GAP, one patch for all; PGD, one for each image
SHORT = [one._replace(options=one.options | {"steps": 3}) for one in (TABLE[0], TABLE[5])]
PIXELS = small.pixels(20)
FEW_BITS = QuantSpec(4, 4, calibration_images=16)
TERMS = Entry("gap", {"steps": 3, "batch": 8, "smooth": 0.1, "printable": 0.1, "disguise": "grey"})
BFLOAT16 = Entry("gap", {"steps": 3, "batch": 8, "bfloat16": True})


def crafted(entry: Entry, surrogate: nn.Module, device: str, best: bool = False) -> Patch:
    problem = Problem(surrogate, PIXELS, np.arange(20) % 3, 0, 4, device=device, per_image=entry.per_image)
    return craft(entry.attack, problem, entry.options, best=best)


def same(entry: Entry, make: Callable[[], nn.Module], best: bool = False) -> bool:
    """Whether a patch made on the device is the one made on the CPU; what mixes the two is an error."""
    here = crafted(entry, make(), "cpu", best)
    with Accelerator():
        there = crafted(entry, make(), DEVICE, best)
    assert there.checks["device"] == DEVICE
    return there.sha256 == here.sha256


@pytest.mark.slow
@every
@pytest.mark.parametrize("best", [False, True])
def test_every_attack_stays_on_the_device(entry: Entry, best: bool) -> None:
    assert same(entry, Shades, best)


@pytest.mark.parametrize("entry", [TERMS, BFLOAT16], ids=["terms", "bfloat16"])
def test_its_options_do_too(entry: Entry) -> None:
    assert same(entry, lambda: build("float", small.resnet()))


def of_network(kind: str) -> nn.Module:
    network = small.resnet()
    plain, rounded = build("float", network), build("fake_quant", Source(network, FEW_BITS, small.PIXELS))
    made = {"float": plain, "fake_quant": rounded, "ensemble": build("ensemble", [plain, rounded])}
    return made[kind] if kind in made else defended(kind, plain)


@pytest.mark.parametrize("entry", SHORT, ids=["gap", "pgd"])
@pytest.mark.parametrize("kind", ["float", "fake_quant", "ensemble", "jpeg:30", "median:3"])
def test_every_surrogate_does(kind: str, entry: Entry) -> None:
    assert same(entry, lambda: of_network(kind))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "branches"])
@pytest.mark.parametrize(("suffix", "kernels"), [(s, one) for s in (".tflite", ".onnx") for one in KERNELS[s]])
def test_every_twin_does(exported: Callable[..., Path], name: str, suffix: str, kernels: str) -> None:
    file = exported(name, suffix[1:])
    assert all(same(entry, lambda: twin(file, kernels)) for entry in SHORT)


@pytest.mark.slow
def test_a_twin_of_a_pte_file_does(tmp_path: Path) -> None:
    executorch.require()
    file = convolved(tmp_path / "net.pte", 16)
    assert all(same(entry, lambda: twin(file)) for entry in SHORT)


def test_what_lies_elsewhere_is_noticed() -> None:
    class Stray(nn.Module):
        offset = torch.ones(3)  # neither a parameter nor a buffer: `.to` leaves it on the CPU

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) + self.offset

    with Accelerator(), pytest.raises(RuntimeError, match=r"add.Tensor: expected all tensors on lazy, got one \(3,\)"):
        crafted(TABLE[0], Stray(), DEVICE)
