"""State dicts pass through whole: a network reads the version of its modules, which torch keeps beside the tensors."""

from pathlib import Path

import pytest
import torch
from helpers import small_networks as small
from helpers.victims import prepared
from torch import nn

from backends.device.errors import UserError
from harness import config
from harness.data.datasets import Images
from harness.networks import architectures as networks
from harness.networks import training, victims
from harness.networks.weights import load_weights, read_weights


class Versioned(nn.Module):
    """Version 1 kept half the scale; a state dict without a version is refused, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3, 1, 1), 2.0))

    def _load_from_state_dict(self, state, prefix, local_metadata, *rest):
        version = local_metadata.get("version")
        if version not in (1, 2):
            raise ValueError(f"version should be 1 or 2 instead of {version}")
        if version == 1:
            state[f"{prefix}scale"] = state[f"{prefix}scale"] * 2
        super()._load_from_state_dict(state, prefix, local_metadata, *rest)

    def forward(self, x):
        return x * self.scale


def versioned() -> nn.Module:
    return nn.Sequential(Versioned(), networks.build("resnet8", 10, seed=1))


@pytest.mark.parametrize("wrapped", [False, True])
def test_torchvisions_mnasnet_takes_its_own_weights(tmp_path: Path, wrapped: bool) -> None:
    network = networks.build("mnasnet0_5", 10, seed=1).eval()
    state = nn.DataParallel(network).state_dict() if wrapped else network.state_dict()
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "w.pth")
    victim = prepared(tmp_path, (64, 64), model="mnasnet0_5", weights="w.pth")
    assert victim.sha256 == victims.weights_digest(network.state_dict())
    loaded = victims.load(victims.read(tmp_path / "victim"))
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), network(x))


def test_an_older_version_is_read_as_its_module_reads_it(tmp_path: Path) -> None:
    state = versioned().state_dict()
    state._metadata["0"]["version"] = 1
    torch.save(state, tmp_path / "old.pth")
    network = versioned()
    load_weights(network, read_weights(tmp_path / "old.pth"), tmp_path / "old.pth")
    assert network[0].scale.flatten().tolist() == [4, 4, 4]


def test_a_version_that_a_module_refuses_is_said(tmp_path: Path) -> None:
    torch.save(dict(versioned().state_dict()), tmp_path / "plain.pth")
    with pytest.raises(UserError, match=r"plain\.pth.*do not fit the network: ValueError: version should be 1 or 2"):
        load_weights(versioned(), read_weights(tmp_path / "plain.pth"), tmp_path / "plain.pth")


def test_an_interrupted_training_keeps_the_versions(tmp_path: Path) -> None:
    images = Images(small.PIXELS, torch.arange(len(small.PIXELS)).numpy() % 10, tuple(map(str, range(64))))
    table = config.TrainTable(epochs=2, batch=16)

    def stop(done: int, of: int, said: str) -> None:
        if done > of // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(versioned(), images, table, tmp_path / "c.pt", stop)
    resumed = training.train(versioned(), images, table, tmp_path / "c.pt")
    whole = training.train(versioned(), images, table, tmp_path / "other.pt")
    assert victims.weights_digest(resumed.state_dict()) == victims.weights_digest(whole.state_dict())
