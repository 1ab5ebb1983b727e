"""The structure of gradients, against scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from harness.study.lib.structure import EDGES, edge_iou, hog_cosine, slopes

EVERYWHERE = torch.ones(1, 32, 32, dtype=torch.bool)


def noise(seed: int, n: int = 1) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def ramp(down: float, right: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return (100 + down * rows + right * columns).expand(1, 3, 32, 32)


def test_slopes_are_scipys_sobel():
    gradient = noise(0, 2)
    lengths = np.linalg.norm(gradient.double().numpy(), axis=1)
    for found, axis in zip(slopes(gradient), (0, 1), strict=True):
        for one, length in zip(found.numpy(), lengths, strict=True):
            np.testing.assert_allclose(one, ndimage.sobel(length, axis=axis, mode="nearest"), atol=1e-9)


def test_a_gradient_has_its_own_structure_at_any_size_and_sign():
    gradient = noise(0)
    for other in (gradient, -gradient, 1e-6 * gradient):
        assert edge_iou(gradient, other, EVERYWHERE).item() == 1
        assert hog_cosine(gradient, other, EVERYWHERE).item() == pytest.approx(1)


def test_edges_drawn_at_random_meet_as_chance_has_it():
    everywhere = EVERYWHERE.expand(200, -1, -1)
    found = edge_iou(noise(1, 200), noise(2, 200), everywhere)
    assert found.mean().item() == pytest.approx(EDGES / (2 - EDGES), abs=0.01)


@pytest.mark.parametrize(("other", "cosine"), [((0, 3), 1), ((0, -1), 1), ((1, 0), 0)])
def test_a_slope_has_its_orientation_and_no_side(other, cosine):
    assert hog_cosine(ramp(0, 1), ramp(*other), EVERYWHERE).item() == pytest.approx(cosine)


def test_only_pixels_inside_count():
    inside = torch.zeros(1, 32, 32, dtype=torch.bool)
    inside[:, 8:16, 8:16] = True
    a, b = noise(1), noise(2)
    b[:, :, 7:17, 7:17] = a[:, :, 7:17, 7:17]  # as far as Sobel's window sees
    assert edge_iou(a, b, inside).item() == 1
    assert hog_cosine(a, b, inside).item() == pytest.approx(1)
    assert edge_iou(a, b, EVERYWHERE).item() < 0.5


def test_nothing_has_no_structure():
    nothing = torch.zeros(1, 3, 32, 32)
    assert np.isnan(edge_iou(nothing, nothing, EVERYWHERE).item())
    assert edge_iou(nothing, noise(0), EVERYWHERE).item() == 0
    assert np.isnan(hog_cosine(nothing, noise(0), EVERYWHERE).item())
