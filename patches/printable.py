"""Printability as loss terms: smoothness and printable colours (Sharif et al. 2016, section 4)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

# sRGB of paper, of full cyan, magenta and yellow, and of their overprints: our own round figures for process inks on
# coated paper, not a measurement. Replace them with the measured colours of your printer.
PRIMARIES = {
    (0, 0, 0): (0.96, 0.96, 0.95), (1, 0, 0): (0.00, 0.62, 0.88), (0, 1, 0): (0.82, 0.06, 0.48),
    (0, 0, 1): (1.00, 0.93, 0.00), (1, 1, 0): (0.18, 0.18, 0.51), (1, 0, 1): (0.00, 0.58, 0.27),
    (0, 1, 1): (0.86, 0.10, 0.13), (1, 1, 1): (0.14, 0.13, 0.12),
}  # fmt: skip
COVERAGES = (0.0, 0.5, 1.0)


def palette() -> Tensor:
    """Return the printable colours ``(27, 3)``: three inks, each on none, half or all of the paper.

    They are mixed by Neugebauer's equations: the light of each primary, weighted by the share of paper it covers.
    """
    colours = []
    for coverage in product(COVERAGES, repeat=3):
        light = torch.zeros(3)
        for inks, colour in PRIMARIES.items():
            share = torch.tensor([c if on else 1 - c for on, c in zip(inks, coverage, strict=True)]).prod()
            light += share * torch.tensor(colour) ** 2.2
        colours.append(light ** (1 / 2.2))
    return torch.stack(colours)


def total_variation(patch: Tensor, mask: Tensor) -> Tensor:
    """Return the mean difference between neighbouring covered pixels of patches ``(k, 3, p, p)``.

    Sharif et al.'s equation 3: the root of the squared differences down and right, summed over the three colours.
    """
    inner = mask[:, :-1, :-1] & mask[:, 1:, :-1] & mask[:, :-1, 1:]
    down = patch[..., 1:, :-1] - patch[..., :-1, :-1]
    right = patch[..., :-1, 1:] - patch[..., :-1, :-1]
    steps = ((down**2 + right**2).sum(1) + 1e-12).sqrt()
    return (steps * inner).sum() / (inner.sum() * len(patch)).clamp_min(1)


def non_printability(patch: Tensor, mask: Tensor, colours: Tensor) -> Tensor:
    """Return the mean distance of covered pixels to the nearest printable colour ``(m, 3)``, as Thys et al. 2019.

    Sharif et al. multiply the distances to all colours instead, which is nearly zero everywhere with this many colours.
    """
    away = (patch[:, None] - colours.to(patch)[None, :, :, None, None]).square().sum(2)
    least = (away.amin(1) + 1e-12).sqrt()
    return (least * mask).sum() / (mask.sum() * len(patch))
