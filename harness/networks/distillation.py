"""Distillation: a network learns another one's answers to mixtures of two images; no label is needed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mixed(images: Tensor, most: float) -> Tensor:
    """Mix into each of ``(n, ...)`` images a share of another, drawn from 0 to ``most`` (Zhang et al. 2018)."""
    share = most * torch.rand(len(images), *[1] * (images.ndim - 1))
    return torch.lerp(images, images[torch.randperm(len(images))], share)


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean Kullback-Leibler divergence of logits ``(n, classes)`` from a teacher's, at a temperature.

    It is multiplied by the temperature's square, so that gradients do not shrink (Hinton et al. 2015, section 2).
    """
    ours = functional.log_softmax(logits / temperature, dim=1)
    theirs = functional.log_softmax(teacher / temperature, dim=1)
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * temperature**2
