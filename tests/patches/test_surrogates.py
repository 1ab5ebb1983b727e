"""Surrogates: a folded network computes the same function, and an unknown kind is an error."""

import pytest
import torch
from torch import nn

from backends.device.errors import UserError
from harness.networks.architectures import build as network
from patches.surrogates import build


def normalised_by_chance(model: nn.Module) -> nn.Module:
    """Batch normalisations as after training: none of their numbers is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    return model


@pytest.mark.parametrize("model", ["resnet20", "mobilenet_v2", "squeezenet1_0", "resnet18"])
def test_folding_changes_no_function(model):
    victim = normalised_by_chance(network(model, 10))
    before = {name: tensor.clone() for name, tensor in victim.state_dict().items()}
    folded = build("float", victim)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert not folded.training
    x = torch.rand(2, 3, *((32, 32) if model == "resnet20" else (64, 64)))
    with torch.no_grad():
        want, got = victim.eval()(x), folded(x)
    assert (got - want).abs().max() <= 1e-4 * max(1, float(want.abs().max()))
    assert all(torch.equal(before[name], tensor) for name, tensor in victim.state_dict().items()), "a copy was folded"
    assert all(parameter.requires_grad for parameter in victim.parameters())


def test_what_cannot_be_traced_or_shares_layers_stays_as_it_is():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            x = self.bn(self.conv(x))
            return (x if x.mean() > 0 else -x).mean((2, 3))

    class Twice(Branching):
        def forward(self, x):
            return self.bn(self.conv(self.bn(self.conv(x)))).mean((2, 3))

    for kind in (Branching, Twice):
        victim, x = normalised_by_chance(kind()).eval(), torch.rand(4, 3, 8, 8)
        surrogate = build("float", victim)
        assert any(isinstance(module, nn.BatchNorm2d) for module in surrogate.modules())
        assert not any(parameter.requires_grad for parameter in surrogate.parameters())
        assert torch.allclose(surrogate(x), victim(x), atol=1e-5)


def test_an_unknown_surrogate_is_said():
    with pytest.raises(UserError, match="no surrogate named 'flaot'; did you mean 'float'"):
        build("flaot", nn.Identity())
