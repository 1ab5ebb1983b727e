"""Pose and paste a patch in torch, so that gradients flow back to it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from patches.patch import Pose


def paste(images: Tensor, stamps: Tensor, mask: Tensor, corners: Tensor) -> Tensor:
    """Paste a stamp onto each image in place and return `images`; only covered pixels carry gradients to the patch.

    images ``(n, 3, h, w)``, stamps ``(1 or n, 3, p, p)``, mask bool ``(1 or n, p, p)``, corners integer ``(n, 2)``: row
    and column of each stamp's top-left pixel. Rounded to uint8, the result equals the device's own paste.
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


def draw_poses(pose: Pose, n: int, random: torch.Generator) -> Tensor:
    """Draw poses ``(n, 4)`` uniformly within `pose`."""
    return (torch.rand(n, 4, generator=random) * 2 - 1) * torch.tensor(pose)


def pose_patch(patch: Tensor, mask: Tensor, poses: Tensor, canvas: int) -> tuple[Tensor, Tensor]:
    """Return a patch ``(1 or n, 3, p, p)`` in poses ``(n, 4)``: stamps ``(n, 3, canvas, canvas)`` and their masks.

    The same function as `patches.poses.pose_stamps`, which is numpy and rounds.
    """
    n, p = len(poses), patch.shape[-1]
    turn, size, brightness, contrast = poses.to(patch).unbind(1)
    turn = turn.deg2rad()
    rows = torch.stack([turn.cos() / size.add(1), turn.sin() / size.add(1), torch.zeros_like(turn)], 1)
    columns = torch.stack([-turn.sin() / size.add(1), turn.cos() / size.add(1), torch.zeros_like(turn)], 1)
    middle = (torch.arange(canvas, device=patch.device, dtype=patch.dtype) - (canvas - 1) / 2) * 2 / p
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    plane = torch.stack([x, y, torch.ones_like(x)], -1)
    grid = torch.stack([plane @ rows.T, plane @ columns.T], -1).permute(2, 0, 1, 3)  # of the inverse rotation
    whole = torch.cat([patch * mask[:, None], mask[:, None].to(patch).expand(len(patch), -1, -1, -1)], 1)
    sampled = grid_sample(whole.expand(n, -1, -1, -1), grid, align_corners=False)
    coverage = sampled[:, 3:]
    colour = sampled[:, :3] / coverage.clamp_min(1e-6)
    lit = (colour - 0.5) * (1 + contrast)[:, None, None, None] + 0.5 + brightness[:, None, None, None]
    return lit.clamp(0, 1), coverage[:, 0] >= 0.5
