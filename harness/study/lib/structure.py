"""The structure of two gradients by pixels, whatever their directions: where their edges lie, and how they run.

Guesmi, Ouni and Shafique (TriQDef, ICLR 2026, arXiv:2508.12132) say that gradients of different bitwidths share it
where their cosine is low, and that patches transfer for that reason. They compare edges by intersection over union, and
histograms of oriented gradients (HOG, Dalal and Triggs, CVPR 2005) by their cosine. Which pixels are edges, the size of
cells and that each is normalised alone are our choices. Even gradients that share nothing reach more than 0 on both
measures: a study compares noise beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EDGES = 0.2  # the steepest share of the pixels that are compared
CELL = 4  # pixels along a side
ORIENTATIONS = 9  # over half a turn
SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=torch.float64)


def edge_iou(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    """Return the intersection over union of two gradients' edges, ``(n,)``, NaN where neither has one.

    Gradients are ``(n, 3, h, w)``; ``inside``, bool ``(n, h, w)``, says which pixels are compared. Edges are the
    steepest of them: two sets drawn at random would have an IoU of about 0.11.
    """
    of_a, of_b = (_edges(gradient, inside) for gradient in (a, b))
    both = (of_a & of_b).sum(dim=(1, 2)).double()
    either = (of_a | of_b).sum(dim=(1, 2)).double()
    return torch.where(either > 0, both / either, torch.nan)


def hog_cosine(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    """Return the cosine of two gradients' histograms of orientations, ``(n,)``, NaN where one has no slope at all."""
    of_a, of_b = (_histograms(gradient, inside) for gradient in (a, b))
    lengths = of_a.norm(dim=1) * of_b.norm(dim=1)
    return torch.where(lengths > 0, (of_a * of_b).sum(dim=1) / lengths, torch.nan)


def slopes(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return Sobel's slopes, down and to the right, of a gradient's length over its channels: ``(n, h, w)`` each."""
    lengths = gradient.double().norm(dim=1, keepdim=True)
    padded = functional.pad(lengths, (1, 1, 1, 1), mode="replicate")
    found = functional.conv2d(padded, torch.stack([SOBEL.T, SOBEL])[:, None])
    return found[:, 0], found[:, 1]


def _edges(gradient: Tensor, inside: Tensor) -> Tensor:
    steepness = torch.hypot(*slopes(gradient)) * inside
    edges = torch.zeros_like(inside)
    for one, of_image, among in zip(edges, steepness, inside, strict=True):
        count = round(EDGES * int(among.sum()))
        if count:
            one |= of_image >= of_image.flatten().topk(count).values[-1]
    return edges & (steepness > 0)


def _histograms(gradient: Tensor, inside: Tensor) -> Tensor:
    """Return each cell's slopes by orientation, scaled to a length of 1, as one vector an image."""
    down, right = slopes(gradient)
    steepness = torch.hypot(down, right) * inside
    half_turns = torch.atan2(down, right) / torch.pi
    orientation = torch.round(half_turns * ORIENTATIONS).long() % ORIENTATIONS  # the axes lie amid theirs
    by_orientation = functional.one_hot(orientation, ORIENTATIONS).permute(0, 3, 1, 2) * steepness[:, None]
    cells = functional.avg_pool2d(by_orientation, CELL, ceil_mode=True)
    return functional.normalize(cells, dim=1).flatten(1)
