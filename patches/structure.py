"""The structure of an image-like tensor, differentiable: where its edges lie, and how they run.

The soft counterparts of edge IoU and HOG cosine (`harness.study.lib.structure`), as TriQDef trains with them (Guesmi,
Ouni and Shafique 2026, arXiv 2508.12132, section 3.2): edges are Sobel's, softly binarised, ``sigmoid(100 (A - t))``
with t their 85th percentile, and compared by the Dice coefficient; orientations are compared by the cosine of soft
histograms.

Ours: a tensor's channels count by their length; edges are divided by their largest in each image, since one sharpness
must serve gradients and features of any size; a slope votes for each of nine orientations with the 16th power of its
cosine to it, in cells of 4 pixels, each scaled to a length of 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
QUANTILE = 0.85
SHARPNESS = 100.0
CELL = 4  # pixels along a side
ORIENTATIONS = 9  # over half a turn
FOCUS = 8  # of the cosine's square
TINY = 1e-12


def slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return Sobel's slopes, down and to the right, of the length of ``(n, c, h, w)`` over c: ``(n, h, w)`` each."""
    lengths = maps.square().sum(dim=1, keepdim=True).add(TINY**2).sqrt()
    padded = functional.pad(lengths, (1, 1, 1, 1), mode="replicate")
    right = torch.tensor(SOBEL, dtype=maps.dtype, device=maps.device)
    found = functional.conv2d(padded, torch.stack([right.T, right])[:, None])
    return found[:, 0], found[:, 1]


def soft_dice(a: Tensor, b: Tensor) -> Tensor:
    """Return how much the soft edges of two tensors overlap, ``(n,)``: 1 where they are the same."""
    of_a = _soft_edges(a)
    of_b = _soft_edges(b)
    both = (of_a * of_b).sum(dim=(1, 2))
    return 2 * both / (of_a.square() + of_b.square()).sum(dim=(1, 2))


def soft_hog_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of two tensors' soft histograms of orientations, ``(n,)``."""
    return functional.cosine_similarity(_soft_histograms(a), _soft_histograms(b), dim=1)


def _soft_edges(maps: Tensor) -> Tensor:
    down, right = _scaled_slopes(maps)
    steepness = (down.square() + right.square() + TINY).sqrt()
    threshold = steepness.detach().flatten(1).quantile(QUANTILE, dim=1)[:, None, None]
    return torch.sigmoid(SHARPNESS * (steepness - threshold))


def _soft_histograms(maps: Tensor) -> Tensor:
    """Return each cell's slopes by orientation, scaled to a length of 1, as one vector an image."""
    down, right = _scaled_slopes(maps)
    square = down.square() + right.square() + TINY
    votes = []
    for orientation in range(ORIENTATIONS):
        angle = math.pi * orientation / ORIENTATIONS
        along = (math.sin(angle) * down + math.cos(angle) * right).square() / square
        votes.append(along**FOCUS * square.sqrt())
    cells = functional.avg_pool2d(torch.stack(votes, dim=1), CELL, ceil_mode=True)
    return functional.normalize(cells, dim=1).flatten(1)


def _scaled_slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return slopes divided by the steepest of each image."""
    down, right = slopes(maps)
    steepest = (down.detach().square() + right.detach().square()).flatten(1).amax(dim=1).sqrt()
    scale = steepest.clamp_min(TINY)[:, None, None]
    return down / scale, right / scale
