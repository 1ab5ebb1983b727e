"""Bit depth in torch; rounding has a straight-through gradient."""

from __future__ import annotations

from torch import Tensor, nn

from patches.straight_through import rounded


class Differentiable(nn.Module):
    """So many bits a channel."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.steps = 2**bits - 1

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the rounded images."""
        fewer = rounded(rounded(pixels * 255) * self.steps / 255)
        return rounded(fewer * 255 / self.steps) / 255
