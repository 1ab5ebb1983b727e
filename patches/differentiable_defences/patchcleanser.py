"""PatchCleanser as an attacker sees it: the vote of its first masks.

A wrong answer needs most of the masks that leave the patch in sight; what the masks that cover it say is out of the
attacker's hands. So the loss to lower is its mean over masks, estimated from a few of them drawn anew each step. Its
maximum over masks would be that of a mask that covers the patch, which has no gradient there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backends.device.defences.patchcleanser import GREY, mask_set

DRAWN = 4  # masks an image and step


class Differentiable(nn.Module):
    """Mean log probabilities under masks drawn at random."""

    runs_the_network = True

    def __init__(self, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self._draws = torch.Generator().manual_seed(0)

    def forward(self, pixels: Tensor, network: nn.Module) -> Tensor:
        """Return log probabilities ``(n, classes)``."""
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        masks = mask_set(size, self.patch_px)
        drawn = torch.randint(len(masks.corners), (len(pixels) * DRAWN,), generator=self._draws)
        seen = pixels.repeat_interleave(DRAWN, dim=0)
        hidden = torch.zeros(len(seen), 1, *size, dtype=torch.bool)
        for one, mask in zip(hidden, drawn.tolist(), strict=True):
            row, column = masks.corners[mask]
            one[:, row : row + masks.size[0], column : column + masks.size[1]] = True
        logits: Tensor = network(seen.masked_fill(hidden.to(pixels.device), GREY / 255))
        return logits.log_softmax(dim=1).reshape(len(pixels), DRAWN, -1).mean(dim=1)
