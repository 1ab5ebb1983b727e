"""Cutout: every image is learned under two masks, so that PatchCleanser's two masks change few answers.

Xiang et al. 2022, "PatchCleanser", train the network that they put behind their masks on masked images: Cutout (DeVries
and Taylor 2017) with two holes of 128 pixels in images of 224, anywhere (``train_model.py`` of their repository).

Ours: the holes are drawn from the very masks of the defence ``patchcleanser:PATCH_PX``, whose agreement two by two is
its certificate, and they are grey as there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backends.device.defences.patchcleanser import GREY, mask_set
from patches.training_defences import Step

HOLES = 2


def loss(step: Step, patch_px: int) -> Tensor:
    """Learn each image under two masks."""
    return step.loss(masked(step.images, patch_px))


def masked(images: Tensor, patch_px: int) -> Tensor:
    """Return images under two masks each, drawn anew, which may be the same."""
    height, width = images.shape[2:]
    masks = mask_set((height, width), patch_px)
    hidden = torch.zeros(len(images), 1, height, width, dtype=torch.bool)
    for one, drawn in zip(hidden, torch.randint(len(masks.corners), (len(images), HOLES)).tolist(), strict=True):
        for mask in drawn:
            row, column = masks.corners[mask]
            one[:, row : row + masks.size[0], column : column + masks.size[1]] = True
    return images.masked_fill(hidden, GREY / 255)
