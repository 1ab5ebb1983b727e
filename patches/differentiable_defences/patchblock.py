"""PatchBlock in torch: its exact gradient. Which chunks are outliers is decided by the device's code."""

from __future__ import annotations

from torch import Tensor, nn

from backends.device.defences.patchblock import outliers
from patches.straight_through import as_pixels, rounded

HALF_UP = 1e-4  # less than a level of a chunk's mean, more than float32 loses


class Differentiable(nn.Module):
    """Each outlier among the chunks has its mean colour."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images, with their outliers blurred."""
        seen = pixels.clone()
        for i, image in enumerate(as_pixels(pixels)):
            for row, column in outliers(image, self.side):
                rows, columns = slice(row, row + self.side), slice(column, column + self.side)
                mean = rounded(pixels[i, :, rows, columns] * 255).mean((1, 2), keepdim=True)
                seen[i, :, rows, columns] = rounded(mean, HALF_UP) / 255
        return seen
