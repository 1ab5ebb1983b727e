"""A trained network on disk, and a user's module of networks."""

import sys

import pytest
import torch

from harness.networks import architectures as networks


@pytest.fixture
def trained(tmp_path):
    """A ResNet-8 with weights and statistics that are not those of its start, and the file of its state dict."""
    network = networks.build("resnet8", 10, seed=3)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if "running" in name or ("bn" in name and tensor.is_floating_point()):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    torch.save(network.state_dict(), tmp_path / "weights.th")
    return network.eval()


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "ownvictims.py").write_text(
        "from torch import nn\n"
        "def linear(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 10))\n"
        "class Pair(nn.Module):\n"
        "    def forward(self, x): return x, x\n"
        "def pair(): return Pair()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("ownvictims", None)
