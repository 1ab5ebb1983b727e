"""Patch adversarial training (PAT): half of the images carry patches that are made anew in every step.

Rao, Stutz and Schiele 2020, "Adversarial training against location-optimized adversarial patches": the network learns
the right answer to the patch that is worst for it, found by sign steps on the network as it is now, which may be a
fake-quantized one.

Ours: five steps of a quarter of the pixels' range from noise, at random places that stay; patches are made on the
network in eval mode, so that no statistics of batch normalisation are learned from patches that are not done yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patches.paste import paste
from patches.training_defences import Step

STEPS = 5
STEP_SIZE = 0.25


def loss(step: Step, patch_px: int) -> Tensor:
    """Learn the right answers to the second half with patches, and to the first without."""
    return step.loss(half_patched(step, patch_px))


def half_patched(step: Step, patch_px: int) -> Tensor:
    """Return the images, the second half of them with patches."""
    half = len(step.images) // 2
    return torch.cat([step.images[:half], patched(step.part(slice(half, None)), patch_px)])


def patched(step: Step, patch_px: int) -> Tensor:
    """Return the images, each with a patch that raises the network's loss on it."""
    n, _, height, width = step.images.shape
    corners = torch.stack([torch.randint(length - patch_px + 1, (n,)) for length in (height, width)], dim=1)
    stamps = torch.rand(n, 3, patch_px, patch_px, device=step.images.device)
    whole = torch.ones(1, patch_px, patch_px, dtype=torch.bool)
    learning = step.network.training
    step.network.eval()
    for _ in range(STEPS):
        stamps.requires_grad_()
        value = step.loss(paste(step.images.clone(), stamps, whole, corners))
        (gradient,) = torch.autograd.grad(value, stamps)
        stamps = (stamps.detach() + STEP_SIZE * gradient.sign()).clamp(0, 1)
    step.network.train(learning)
    return paste(step.images.clone(), stamps, whole, corners)
