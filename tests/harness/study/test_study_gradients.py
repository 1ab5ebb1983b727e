"""Gradients by pixels, and their agreement, against closed forms."""

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from scipy import stats
from scipy.spatial import distance
from torch import nn
from torch.nn import functional

from harness.study import gradients
from harness.study.lib.pixel_gradients import Alignment, alignment, pixel_gradients
from patches.objectives import cross_entropies


def linear(seed: int, classes: int, sign: float = 1.0) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.Linear(48, classes, bias=False)
    layer.weight.data *= sign
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False)


@pytest.mark.parametrize("target_class", [1, None])
def test_gradients_of_a_linear_network_are_the_closed_form(target_class):
    images, labels = small.pixels(60, 4), np.arange(60) % 3  # more than a batch
    found = pixel_gradients(network := linear(0, 3), images, labels, cross_entropies(target_class))
    weights = network[1].weight.numpy()
    x = images.transpose(0, 3, 1, 2).reshape(60, -1) / 255
    chances = functional.softmax(torch.tensor(x @ weights.T), dim=1).numpy()
    goals = np.eye(3)[labels if target_class is None else np.full(60, target_class)]
    closed = (chances - goals) @ weights * (-1 if target_class is None else 1)
    assert found.shape == (60, 3, 4, 4)
    assert found.flatten(1).numpy() == pytest.approx(closed, abs=1e-5)


def test_a_network_agrees_with_itself_and_not_with_its_reverse():
    """With two classes only the difference of their weights matters, on every image: the cosine is 1 or -1."""
    images, labels, everywhere = small.pixels(5, 4), np.zeros(5, np.int64), np.ones((5, 4, 4), bool)
    one, reversed_ = (pixel_gradients(linear(0, 2, sign), images, labels, cross_entropies(1)) for sign in (1.0, -1.0))
    assert alignment(one, one, everywhere).cosine == pytest.approx(1)
    assert alignment(one, one, everywhere).sign_agreement == pytest.approx(1)
    assert alignment(one, reversed_, everywhere).cosine == pytest.approx(-1)
    assert alignment(one, reversed_, everywhere).sign_agreement == pytest.approx(0)


def by_column(found: Alignment) -> dict[str, float]:
    return dict(zip(gradients.COLUMNS[2:], gradients.summary(found), strict=True))


def test_agreement_is_counted_on_the_pixels_asked_for():
    a, b = torch.zeros(2, 3, 1, 4), torch.zeros(2, 3, 1, 4)
    a[0, :, 0] = torch.tensor([[1.0, -1.0, 2.0, 9.0], [0.0, 0.0, 1.0, 9.0], [3.0, 1.0, -1.0, 9.0]])
    b[0, :, 0] = torch.tensor([[2.0, 1.0, 0.0, -9.0], [0.0, 1.0, 1.0, -9.0], [1.0, -1.0, -1.0, -9.0]])
    a[1] = 1.0  # and b has none there
    where = np.array([[[True, True, True, False]]] * 2)
    found = alignment(a, b, where)
    inside = [part[0, :, 0, :3].flatten().numpy() for part in (a, b)]
    assert found.cosine[0] == pytest.approx(1 - distance.cosine(*inside))
    assert np.isnan(found.cosine[1])
    assert found.sign_agreement == pytest.approx([5 / 9, 0])
    assert found.zero_share == pytest.approx([2 / 9, 1])
    row = by_column(found)
    assert (row["n"], row["zero_share"]) == (1, pytest.approx((2 / 9 + 1) / 2))


def test_intervals_of_alignment_are_students():
    values = np.random.default_rng(0).uniform(-1, 1, 30)
    row = by_column(Alignment(values, values / 2, values / 4, values / 8, np.zeros(30)))
    low, high = stats.t.interval(0.95, 29, loc=values.mean(), scale=stats.sem(values))
    assert (row["cosine"], row["cosine_low"], row["cosine_high"]) == pytest.approx((values.mean(), low, high))
    assert row["sign_agreement_high"] == pytest.approx(high / 2)
    assert row["hog_cosine_high"] == pytest.approx(high / 8)
