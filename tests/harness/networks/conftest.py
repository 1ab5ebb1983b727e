"""A network with weights in a file."""

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
