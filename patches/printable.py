"""What a printer can do: smoothness and printable colours, as terms of a loss (Sharif et al. 2016, section 4)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

# sRGB of paper and of full inks over it, cyan, magenta, yellow and their overprints: our own round figures for process
# inks on coated paper, not a measurement. A printer of one's own is measured and its colours put here.
PRIMARIES = {
    (0, 0, 0): (0.96, 0.96, 0.95), (1, 0, 0): (0.00, 0.62, 0.88), (0, 1, 0): (0.82, 0.06, 0.48),
    (0, 0, 1): (1.00, 0.93, 0.00), (1, 1, 0): (0.18, 0.18, 0.51), (1, 0, 1): (0.00, 0.58, 0.27),
    (0, 1, 1): (0.86, 0.10, 0.13), (1, 1, 1): (0.14, 0.13, 0.12),
}  # fmt: skip
COVERAGES = (0.0, 0.5, 1.0)


def palette() -> Tensor:
    """The printable colours ``(27, 3)``: three inks, each on none, half or all of the paper.

    Mixed by Neugebauer's equations: the primaries' light, each weighted with the share of the paper that it covers.
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
    """Mean step between neighbours of patches ``(k, 3, p, p)``, over covered pixels whose lower and right ones are too.

    Sharif et al.'s equation 3: the root of the squared steps down and right, of all three colours.
    """
    inner = mask[:, :-1, :-1] & mask[:, 1:, :-1] & mask[:, :-1, 1:]
    down, right = patch[..., 1:, :-1] - patch[..., :-1, :-1], patch[..., :-1, 1:] - patch[..., :-1, :-1]
    steps = ((down**2 + right**2).sum(1) + 1e-12).sqrt()
    return (steps * inner).sum() / (inner.sum() * len(patch)).clamp_min(1)


def non_printability(patch: Tensor, mask: Tensor, colours: Tensor) -> Tensor:
    """Mean distance of covered pixels to the nearest printable colour ``(m, 3)``.

    Sharif et al.'s non-printability score is the product of the distances to all colours, which is zero at the same
    patches and nearly so everywhere with as many colours; the least is used in its place, as by Thys et al. 2019.
    """
    away = (patch[:, None] - colours.to(patch)[None, :, :, None, None]).square().sum(2)
    least = (away.amin(1) + 1e-12).sqrt()
    return (least * mask).sum() / (mask.sum() * len(patch))
