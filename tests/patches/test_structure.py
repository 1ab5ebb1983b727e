"""Soft edges and orientations, and what a network computes at other bits."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from harness.study.lib.structure import edge_iou, hog_cosine
from patches.fake_quant.dynamic import AtBits
from patches.fake_quant.rounding import Levels
from patches.structure import soft_dice, soft_hog_cosine
from patches.training_defences import triqdef

pytestmark = pytest.mark.usefixtures("one_thread")


def maps(seed: int, n: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 2, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("measure", [soft_dice, soft_hog_cosine])
def test_a_map_is_like_itself_at_any_scale_and_unlike_another(measure):
    a = maps(0)
    assert measure(a, 1e-4 * a) == pytest.approx(torch.ones(3, dtype=torch.float64), abs=1e-6)
    other = measure(a, maps(1))
    assert (other < 0.9).all()
    assert measure(maps(1), a) == pytest.approx(other)


@pytest.mark.parametrize("measure", [soft_dice, soft_hog_cosine])
def test_gradients_are_those_of_finite_differences(measure):
    torch.manual_seed(0)
    a = maps(0, 1)
    b = maps(1, 1)
    x = a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(measure(x, b).sum(), x)
    direction = torch.randn_like(a)
    step = 1e-6 * direction
    # thresholds and scales are constants of a step, as in the gradient: the largest is held by a pixel that stays
    frozen = _held(a, step)
    difference = (measure(a + step * frozen, b) - measure(a - step * frozen, b)).sum() / 2e-6
    assert (gradient * direction * frozen).sum() == pytest.approx(float(difference), rel=1e-3, abs=1e-7)


def _held(a: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Leave alone what lies around the steepest pixel and those at the threshold."""
    from patches.structure import QUANTILE, slopes

    down, right = slopes(a)
    steepness = torch.hypot(down, right)[0]
    order = steepness.flatten().argsort()
    at = QUANTILE * (order.numel() - 1)
    held = torch.ones_like(a)
    for pixel in (order[-1], order[int(at)], order[int(at) + 1]):
        row, column = divmod(int(pixel), a.shape[3])
        held[:, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 0
    return held


def test_soft_measures_order_pairs_as_the_hard_ones_do():
    a = maps(0, 1)
    everywhere = torch.ones(1, 12, 12, dtype=torch.bool)
    pairs = [a + share * maps(1, 1) for share in (0.1, 0.5, 2.0)]
    for soft in (soft_dice, soft_hog_cosine):
        assert sorted(pairs, key=lambda b: -soft(a, b).item()) == pairs
    for hard in (edge_iou, hog_cosine):
        found = [hard(a, b, everywhere).item() for b in pairs]
        assert found == sorted(found, reverse=True)


def test_flat_maps_have_finite_gradients():
    flat = torch.zeros(2, 3, 8, 8, requires_grad=True)
    triqdef.likeness(flat, torch.rand(2, 3, 8, 8)).backward()
    assert flat.grad.isfinite().all()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Flatten(), nn.Linear(216, 4)
    )


def test_few_bits_leave_few_values_and_the_network_itself_alone():
    net = network().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    seen = []
    net[3].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net[3].register_forward_hook(lambda module, _, output: seen.append(module.weight))
    x = torch.rand(4, 3, 8, 8)
    expected = net(x)
    seen.clear()
    AtBits(net, 2)(x)
    weight = seen[1]
    assert all(len(channel.unique()) <= 3 for channel in weight.flatten(1))
    assert torch.equal(AtBits(net, 32)(x), expected)
    assert (AtBits(net, 8)(x) - expected).abs().max() < (AtBits(net, 3)(x) - expected).abs().max()
    net.train()
    AtBits(net, 4)(x)
    after = net.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in before if "tracked" not in n)
    assert net[1].momentum == 0.1
    net(x)
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


def test_a_network_that_rounds_itself_is_seen_at_other_bits_too():
    net = network()
    parametrize.register_parametrization(net[3], "weight", Levels(torch.full((6, 1, 1, 1), 0.01), -127, 127))
    x = torch.rand(4, 3, 8, 8)
    value = AtBits(net, 2)(x).square().sum()
    value.backward()
    assert net[3].parametrizations.weight.original.grad.abs().sum() > 0
    assert not torch.allclose(AtBits(net, 2)(x), net(x))


def test_widths_come_into_use_from_the_highest_to_the_lowest():
    found = [triqdef.widths(number, 100) for number in range(100)]
    assert found[0] == (32, 8)
    assert found[99] == triqdef.BITS == (32, 8, 5, 4, 2)
    assert [len(f) for f in found] == sorted(len(f) for f in found)
    assert triqdef.widths(0, 1) == (32, 8)


def test_three_convolutions_of_the_first_half_are_compared():
    net = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(12)])
    found = []
    with triqdef.watched(net) as seen:
        net(torch.rand(1, 3, 4, 4))
        found = list(seen)
    net(torch.rand(1, 3, 4, 4))
    assert len(seen) == len(found) == 3
