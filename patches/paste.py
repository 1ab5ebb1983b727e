"""Pasting a patch in torch, so that gradients flow back to it."""

from __future__ import annotations

import torch
from torch import Tensor


def paste(images: Tensor, stamps: Tensor, mask: Tensor, corners: Tensor) -> Tensor:
    """`images` with a stamp on each, written in place: only the pixels under stamps are touched and carry gradients.

    images ``(n, 3, h, w)``, stamps ``(1 or n, 3, p, p)``, mask bool ``(1 or n, p, p)``, corners integer ``(n, 2)``: row
    and column of each stamp's top-left pixel. The same integers as the device's paste, once rounded to uint8.
    """
    span = torch.arange(stamps.shape[-1], device=images.device)
    rows = (corners[:, :1] + span)[:, :, None]
    columns = (corners[:, 1:] + span)[:, None, :]
    image = torch.arange(len(images), device=images.device)[:, None, None]
    stamp = stamps.permute(0, 2, 3, 1)
    if not mask.all():
        stamp = torch.where(mask[..., None], stamp, images[image, :, rows, columns])
    images[image, :, rows, columns] = stamp.expand(len(images), -1, -1, -1)
    return images
