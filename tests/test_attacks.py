"""Attacks on trained networks: what a patch does is judged here, by plain numpy pasting and counting."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import patches
from harness.networks import build as network
from harness.victims import Normalised, logits
from patches import placement
from patches.problem import Problem
from patches.surrogates import build


class Case(NamedTuple):
    """A network, the images to craft on, and others to judge by."""

    network: nn.Module
    craft: tuple[np.ndarray, np.ndarray]
    judge: tuple[np.ndarray, np.ndarray]


def gap(case, target_class, px, seed=0, **options):
    problem = Problem(build("float", case.network), *case.craft, target_class, px, seed=seed)
    return patches.craft("gap", problem, options)


def success(case, patch, target_class, seed=0):
    """Share brought to the target class, of the images classified right without the patch and of other classes.

    Where the target class is None: share brought to any wrong class.
    """
    pixels, labels = case.judge
    corners = placement.corners("random", [str(i) for i in range(len(pixels))], patch.px, pixels.shape[1:3], seed)
    pasted = pixels.copy()
    for image, (row, column) in zip(pasted, corners, strict=True):
        image[row : row + patch.px, column : column + patch.px][patch.mask] = patch.pixels[patch.mask]
    asked = (logits(case.network, pixels).argmax(1) == labels) & (
        labels != (-1 if target_class is None else target_class)
    )
    after = logits(case.network, pasted).argmax(1)
    return float((after != labels if target_class is None else after == target_class)[asked].mean())


@pytest.fixture(autouse=True)
def _threads(request):
    """One for the small network, which is not worth sharing out."""
    threads = torch.get_num_threads()
    if "digits" in request.fixturenames:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    """Scikit-learn's digits at 16x16, and a small convolutional network that reads 95 % of them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (data.images / 16 * 255).round().astype(np.uint8).repeat(2, 1).repeat(2, 2)[..., None].repeat(3, 3)
    order = np.random.default_rng(0).permutation(len(pixels))
    pixels, labels = pixels[order], data.target[order].astype(np.int64)
    torch.manual_seed(0)
    layers = [(3, 16, 1), (16, 32, 2), (32, 32, 2)]
    blocks = [nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o, s in layers]
    victim = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(victim.parameters(), 1e-2)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    for _ in range(12):
        for index in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(victim(x[index]), torch.from_numpy(labels)[index]).backward()
            optimizer.step()
    case = Case(victim.eval(), (pixels[:1000], labels[:1000]), (pixels[1000:], labels[1000:]))
    assert (logits(victim, pixels[1000:]).argmax(1) == labels[1000:]).mean() > 0.95
    return case


@pytest.mark.slow
@pytest.mark.parametrize("target_class", [3, 8])
def test_gap_on_digits(digits, target_class):
    made = {px: gap(digits, target_class, px, steps=100) for px in (4, 6, 8)}
    rates = {px: success(digits, patch, target_class) for px, patch in made.items()}
    assert rates[8] > rates[6] + 0.1
    assert rates[6] > rates[4], "a bigger patch wins"
    noise = np.mean([success(digits, patches.control("noise", 8, seed=s), target_class) for s in range(5)])
    assert rates[8] > noise + 0.15
    others = [success(digits, made[8], other) for other in range(10) if other != target_class]
    assert max(others) < rates[8] / 2, "it wins for its own class alone"


@pytest.mark.slow
def test_gap_untargeted_on_digits(digits):
    crafted, noise = gap(digits, None, 6, steps=100), patches.control("noise", 6)
    wrong = [success(digits, patch, None) for patch in (crafted, noise)]
    assert crafted.target_class is None
    assert wrong[0] > wrong[1] + 0.1


@pytest.fixture(scope="module")
def cifar(data_dir):
    """ResNet-20 on CIFAR-10."""
    state = torch.load(data_dir / "cifar10/resnet20.th", weights_only=True, map_location="cpu")["state_dict"]
    bare = network("resnet20", 10)
    bare.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    with np.load(data_dir / "cifar10/cifar10.npz", allow_pickle=False) as arrays:
        craft, judge = ((arrays[f"x_{s}"], arrays[f"y_{s}"].astype(np.int64)) for s in ("train", "test"))
    return Case(Normalised(bare, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).eval(), craft, judge)


@pytest.mark.data
def test_the_surrogate_is_the_victim(cifar):
    pixels, labels = cifar.judge
    want, got = (logits(model, pixels) for model in (cifar.network, build("float", cifar.network)))
    assert np.abs(want - got).max() < 1e-4
    assert (got.argmax(1) == labels).mean() == pytest.approx(0.915, abs=0.001)


@pytest.mark.data
@pytest.mark.slow
def test_gap_on_cifar_reaches_what_was_measured_by_others(cifar):
    """Targets of little, middle and much success; 17 to 66 % were measured over six patches with another tool."""
    rates, noise = {}, {}
    for target_class in (8, 0, 3):
        patch = gap(cifar, target_class, 8)
        curve = patch.checks["loss"]
        assert np.mean(curve[-20:]) < np.mean(curve[:10]) / 1.3, "the loss falls"
        assert patch.checks["zero_gradient_share"] < 0.01
        rates[target_class] = success(cifar, patch, target_class)
        noise[target_class] = np.mean(
            [success(cifar, patches.control("noise", 8, seed=s), target_class) for s in range(3)]
        )
        assert rates[target_class] > 0.1 + noise[target_class]
    assert rates[8] < rates[0] < rates[3]
    assert rates[0] == pytest.approx(0.30, abs=0.08)
    assert 0.25 < np.mean(list(rates.values())) < 0.5


@pytest.mark.data
@pytest.mark.slow
def test_more_steps_and_bigger_patches_are_not_worse(cifar):
    rates = [success(cifar, gap(cifar, 3, 8, steps=steps), 3) for steps in (10, 50, 200)]
    assert rates[2] > rates[0] + 0.1
    assert rates[2] > rates[1] - 0.03
    assert success(cifar, gap(cifar, 3, 12, steps=100), 3) > success(cifar, gap(cifar, 3, 6, steps=100), 3) + 0.1


@pytest.mark.data
def test_the_same_seed_gives_the_same_bytes_on_a_real_network(cifar):
    made = [gap(cifar, 3, 8, seed, steps=6) for seed in (0, 0, 1)]
    assert made[0].sha256 == made[1].sha256 != made[2].sha256
