"""Posing a patch in torch, so that gradients flow back to it: the same function as `patches.poses` has in numpy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from patches.patch import Pose


def draw(pose: Pose, n: int, random: torch.Generator) -> Tensor:
    """Poses ``(n, 4)``, uniform within `pose`."""
    return (torch.rand(n, 4, generator=random) * 2 - 1) * torch.tensor(pose)


def posed(patch: Tensor, mask: Tensor, poses: Tensor, canvas: int) -> tuple[Tensor, Tensor]:
    """A patch ``(1 or n, 3, p, p)`` in poses ``(n, 4)``: stamps ``(n, 3, canvas, canvas)``, and where they cover."""
    n, p = len(poses), patch.shape[-1]
    turn, size, brightness, contrast = poses.to(patch).unbind(1)
    turn = turn.deg2rad()
    rows = torch.stack([turn.cos() / size.add(1), turn.sin() / size.add(1), torch.zeros_like(turn)], 1)
    columns = torch.stack([-turn.sin() / size.add(1), turn.cos() / size.add(1), torch.zeros_like(turn)], 1)
    middle = (torch.arange(canvas, device=patch.device, dtype=patch.dtype) - (canvas - 1) / 2) * 2 / p
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    plane = torch.stack([x, y, torch.ones_like(x)], -1)  # the affine grid of the inverse turn
    grid = torch.stack([plane @ rows.T, plane @ columns.T], -1).permute(2, 0, 1, 3)
    whole = torch.cat([patch * mask[:, None], mask[:, None].to(patch).expand(len(patch), -1, -1, -1)], 1)
    sampled = grid_sample(whole.expand(n, -1, -1, -1), grid, align_corners=False)
    share = sampled[:, 3:]
    colour = sampled[:, :3] / share.clamp_min(1e-6)
    lit = (colour - 0.5) * (1 + contrast)[:, None, None, None] + 0.5 + brightness[:, None, None, None]
    return lit.clamp(0, 1), share[:, 0] >= 0.5
