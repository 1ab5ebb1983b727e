"""Straight-through gradients: of rounding, and of what the device's own code does to pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.device.artifact import Pixels


def rounded(x: Tensor, ties: Tensor | float = 0.0) -> Tensor:
    """Round with a straight-through gradient; `ties` is a small offset that decides which way a half goes."""
    return x + ((x + ties).round() - x).detach()


def as_pixels(x: Tensor) -> Pixels:
    """Return images ``(n, 3, h, w)`` in [0, 1] as uint8 ``(n, h, w, 3)``."""
    levels = (x.detach() * 255).round().to(torch.uint8)
    pixels: Pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels
