"""Fixtures of the tests of patches."""

import numpy as np
import pytest
import torch
from helpers.judged_patches import Case
from torch import nn

from harness.networks.victims import logits


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's digits at 16x16, and a small convolutional network that reads 95 % of them.

    Trained with one thread, as `one_thread` has it for its tests: the same network on every machine of a kind.
    """
    from sklearn.datasets import load_digits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)

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
    torch.set_num_threads(threads)
    return case
