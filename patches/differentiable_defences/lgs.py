"""Local gradients smoothing in torch: its exact gradient. Which blocks are darkened is decided by the device's code."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from backends.device.defences.lgs import SMOOTHING, darkened
from patches.straight_through import as_pixels, rounded

GREY = (0.299, 0.587, 0.114)


class Differentiable(nn.Module):
    """Darkened where the gradients of a block are large."""

    grey: Tensor

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("grey", torch.tensor(GREY)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images, darkened."""
        levels = rounded(pixels * 255)
        grey = (levels * self.grey).sum(dim=1, keepdim=True)
        squares = pad(grey.diff(dim=2), (0, 0, 0, 1)) ** 2 + pad(grey.diff(dim=3), (0, 1)) ** 2
        is_flat = squares == 0
        size = squares.where(~is_flat, 1).sqrt().where(~is_flat, 0)  # a root has no gradient at 0
        least, most = size.amin((2, 3), keepdim=True), size.amax((2, 3), keepdim=True)
        gradients = (size - least) / (most - least).where(most > least, 1)
        large = torch.from_numpy(darkened(as_pixels(pixels), self.block)).to(pixels.device)[:, None]
        factor = (1 - SMOOTHING * gradients * large).clamp(0, 1)
        return rounded(levels * factor) / 255
